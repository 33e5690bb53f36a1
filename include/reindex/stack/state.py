"""What a stack remembers in `<home>/stack.json`: its ports, its secrets, where its sockets lie."""

from __future__ import annotations

import base64
import json
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

BUCKETS = {"sources": True, "reindex": False}  # whether each keeps versions
STATE_BUCKET = "reindex"
_FILE = "stack.json"


def _hexadecimal() -> str:
    return secrets.token_hex(32)


def _short_hexadecimal() -> str:
    return secrets.token_hex(10)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


# Drawn once, at the first start.
SECRETS: Mapping[str, Callable[[], str]] = {
    "s3_access_key": _short_hexadecimal,
    "s3_secret_key": _hexadecimal,
    "s3_internal_key": _hexadecimal,
    "milvus_password": _short_hexadecimal,
    "ray_token": _hexadecimal,
    "airflow_admin_password": _short_hexadecimal,
    "airflow_viewer_password": _short_hexadecimal,
    "airflow_jwt_secret": _hexadecimal,
    "airflow_secret_key": _hexadecimal,
    "airflow_fernet_key": _fernet_key,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """`run` is a short-lived folder for sockets: Unix ends their paths at 107 characters, and `home` may lie deep.

    `milvus_memory_bytes` is None where nobody said at the start what Milvus may take.
    """

    home: Path
    run: Path
    corpora: Path
    ports: Mapping[str, int]
    secrets: Mapping[str, str]
    milvus_memory_bytes: int | None = None

    def address(self, port: str) -> str:
        return f"127.0.0.1:{self.ports[port]}"

    def url(self, port: str) -> str:
        return f"http://{self.address(port)}"

    def log(self, program: str) -> Path:
        return self.home / "logs" / f"{program}.log"


def client_environment(state: StackState) -> dict[str, str]:
    """Return the variables by which every client, worker and task finds the servers."""
    limit = state.milvus_memory_bytes
    return ({"REINDEX_MILVUS_MEMORY_BYTES": str(limit)} if limit else {}) | {
        "REINDEX_HOME": str(state.home),
        "REINDEX_CORPORA": str(state.corpora),
        "REINDEX_STATE_BUCKET": STATE_BUCKET,
        "REINDEX_S3_ENDPOINT": state.url("s3"),
        "REINDEX_S3_ACCESS_KEY": state.secrets["s3_access_key"],
        "REINDEX_S3_SECRET_KEY": state.secrets["s3_secret_key"],
        "REINDEX_MILVUS_URI": state.url("milvus"),
        "REINDEX_MILVUS_TOKEN": f"root:{state.secrets['milvus_password']}",
        "REINDEX_RAY_URL": state.url("ray"),
        "REINDEX_RAY_TOKEN": state.secrets["ray_token"],
        "REINDEX_AIRFLOW_URL": state.url("airflow"),
        "REINDEX_AIRFLOW_USERNAME": "admin",
        "REINDEX_AIRFLOW_PASSWORD": state.secrets["airflow_admin_password"],
    }


def new_state(
    home: Path, *, ports: Mapping[str, int], corpora: Path, milvus_memory_bytes: int | None = None
) -> StackState:
    """Return the state of a cold start: the secrets as they were, the folder for sockets anew."""
    known = load_state(home)
    return StackState(
        home=home,
        # Ray's socket paths alone take 65 characters after this folder: nothing deeper than /tmp is sure to fit.
        run=Path(tempfile.mkdtemp(prefix="reindex-", dir="/tmp")),
        corpora=corpora,
        ports=ports,
        secrets={name: draw() for name, draw in SECRETS.items()} | dict(known.secrets if known else {}),
        milvus_memory_bytes=milvus_memory_bytes,
    )


def load_state(home: Path) -> StackState | None:
    """Return what the stack remembers, or None where none was ever started."""
    file = home / _FILE
    if not file.is_file():
        return None
    known = json.loads(file.read_text(encoding="utf-8"))
    return StackState(
        home=home,
        run=Path(known["run"]),
        corpora=Path(known["corpora"]),
        ports=known["ports"],
        secrets=known["secrets"],
        milvus_memory_bytes=known.get("milvus_memory_bytes"),
    )


def save_state(state: StackState) -> None:
    """Write the state in one step, readable by its owner only (the mode that `tempfile` gives)."""
    known = {
        "run": str(state.run),
        "corpora": str(state.corpora),
        "ports": dict(state.ports),
        "secrets": dict(state.secrets),
        "milvus_memory_bytes": state.milvus_memory_bytes,
    }
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=state.home, delete=False) as file:
        json.dump(known, file, indent=2)
    Path(file.name).replace(state.home / _FILE)
