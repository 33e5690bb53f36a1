"""Setting up servers that something else has started; the embedded stack's tests do it with real ones."""

from __future__ import annotations

import pytest

from reindex.errors import SettingsError
from reindex.stack import provision as module
from reindex.stack.provision import provision

SERVERS = {
    "REINDEX_S3_ENDPOINT": "http://127.0.0.1:1",
    "REINDEX_S3_ACCESS_KEY": "key",
    "REINDEX_S3_SECRET_KEY": "secret",
    "REINDEX_MILVUS_URI": "http://127.0.0.1:1",
    "REINDEX_MILVUS_TOKEN": "root:secret",
    "REINDEX_AIRFLOW_URL": "http://127.0.0.1:1",
    "REINDEX_AIRFLOW_USERNAME": "admin",
    "REINDEX_AIRFLOW_PASSWORD": "secret",
}


class Clock:
    """A clock on which nothing but waiting takes time, and that a minute at once."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self._now += 60.0


def test_what_does_not_answer_is_tried_again_until_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    monkeypatch.setattr(module, "set_password", lambda connection: tries.append(connection.token) or len(tries) > 1)
    monkeypatch.setattr(module, "time", Clock())
    assert provision(SERVERS) == ["buckets", "pools"]
    assert tries == ["root:secret"] * 2


def test_an_address_that_is_not_set_is_named_before_anything_is_asked() -> None:
    with pytest.raises(SettingsError, match="REINDEX_MILVUS_URI"):
        provision({name: value for name, value in SERVERS.items() if name != "REINDEX_MILVUS_URI"})
