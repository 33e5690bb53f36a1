"""What a real Milvus says of its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from tests.conftest import LiveStack

pytestmark = pytest.mark.live


def test_milvus_says_what_it_has_and_what_it_uses(stack: LiveStack) -> None:
    with stack.milvus() as store:
        memory = store.memory()
    assert memory is not None
    assert 2**30 <= memory.limit_bytes <= psutil.virtual_memory().total
    assert 0 < memory.used_bytes < memory.limit_bytes
