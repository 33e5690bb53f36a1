"""Bad documents in real processes: each costs only itself, and the next is read."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from reindex.errors import SandboxFailed
from reindex.nursery import Work
from reindex.parsers import Rejected
from reindex.records import RejectReason
from reindex.sandbox import MEGABYTE, Sandbox
from reindex.settings import PROJECT, Limits

# A child that the sandbox forgot would otherwise hold up the run.
pytestmark = pytest.mark.timeout(60)
LIMITS = Limits(seconds=20, memory_megabytes=256)
BRIEF = Limits(seconds=1, memory_megabytes=256)
_KEPT: list[bytes] = []


def priorities() -> Work:
    """Return work that says how nice its process is, and how nice its session."""
    session = Path("/proc/self/autogroup")
    return lambda _key, _data: [os.getpriority(os.PRIO_PROCESS, 0), int(session.read_text().split()[-1])]


def hang() -> None:
    time.sleep(3600)


def hang_in_c() -> None:
    re.match(r"(a+)+$", "a" * 64 + "b")


def grow() -> None:
    held: list[list[int]] = []
    while True:
        held.append(list(range(100_000)))


def allocate_at_once() -> None:
    bytearray(2**40)


def fill_memory_in_threads() -> None:
    all_are_there = threading.Barrier(5)

    def grow_together() -> None:
        all_are_there.wait()
        grow()

    for _ in range(4):
        threading.Thread(target=grow_together).start()
    grow_together()


def abort_as_rust_does() -> None:
    os.write(2, b"memory allocation of 1099511627776 bytes failed\n")
    os.abort()


def segfault() -> None:
    ctypes.string_at(0)


def exit_at_once() -> None:
    os._exit(3)


def abort_with_a_word() -> None:
    os.write(2, b"noise\nparser.c:12: assertion failed\n\n")
    os.abort()


def exit_politely() -> None:
    sys.exit(4)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def reject() -> None:
    raise Rejected(RejectReason.ENCRYPTED, "a password is needed")


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__(threading.Lock(), "two\nlines")


def raise_what_cannot_be_pickled() -> None:
    raise Unpicklable


def return_what_is_no_json() -> Any:
    return threading.Lock()


def make_noise() -> None:
    sys.stderr.write("o" * MEGABYTE + "\n")
    sys.stdout.write("o" * MEGABYTE + "\n")


def keep_some_memory() -> None:
    _KEPT.append(os.urandom(100 * MEGABYTE))


def spoil_what_comes_next() -> None:
    _KEPT.append(b"")


def be_spoilt() -> None:
    if _KEPT:
        segfault()


DEEDS: dict[str, Callable[[], Any]] = {
    found.__name__: found
    for found in (
        hang,
        hang_in_c,
        grow,
        allocate_at_once,
        fill_memory_in_threads,
        abort_as_rust_does,
        segfault,
        exit_at_once,
        abort_with_a_word,
        exit_politely,
        be_killed,
        reject,
        raise_what_cannot_be_pickled,
        return_what_is_no_json,
        make_noise,
        keep_some_memory,
        spoil_what_comes_next,
        be_spoilt,
    )
}


def work() -> Work:
    """Return a reader that does what a document's name says; of the others, it says how long they are."""

    def read(key: str, data: bytes) -> Any:
        done = DEEDS[key]() if key in DEEDS else None
        return done or {"bytes": len(data), "child": os.getpid(), "nursery": os.getppid()}

    return read


def no_work() -> Work:
    raise FileNotFoundError("tokenizer.json")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(work, LIMITS)
    yield made
    made.close()


@pytest.fixture
def brief() -> Iterator[Sandbox]:
    made = Sandbox(work, BRIEF)
    yield made
    made.close()


def rejected(sandbox: Sandbox, key: str, data: bytes = b"") -> Rejected:
    with pytest.raises(Rejected) as caught:
        sandbox.run(key, data)
    assert "\n" not in caught.value.detail
    return caught.value


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def await_end(pid: int) -> None:
    """Wait until a process is dead; whoever inherits it may take its time to bury it."""
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)


def reads_on(sandbox: Sandbox) -> bool:
    return bool(sandbox.run("good", b"four")["bytes"] == 4)


@pytest.mark.parametrize("deed", ["hang", "hang_in_c"])
def test_a_document_that_hangs_is_too_slow_and_the_next_is_read(brief: Sandbox, deed: str) -> None:
    found = rejected(brief, deed)
    assert (found.reason, found.detail) == (RejectReason.TOO_SLOW, "over 1 s; limits.seconds")
    assert reads_on(brief)


@pytest.mark.parametrize("deed", ["grow", "allocate_at_once", "fill_memory_in_threads", "abort_as_rust_does"])
def test_a_document_that_eats_memory_is_named_and_the_next_is_read(sandbox: Sandbox, deed: str) -> None:
    found = rejected(sandbox, deed)
    assert (found.reason, found.detail) == (RejectReason.TOO_MUCH_MEMORY, "over 256 MB; limits.memory_megabytes")
    assert reads_on(sandbox)


def test_a_document_that_does_not_fit_into_memory_costs_only_itself(sandbox: Sandbox) -> None:
    assert rejected(sandbox, "large", bytes(300 * MEGABYTE)).reason == RejectReason.TOO_MUCH_MEMORY
    assert reads_on(sandbox)


@pytest.mark.parametrize(
    ("deed", "detail"),
    [
        ("segfault", "signal 11 (Segmentation fault)"),
        ("exit_at_once", "exit status 3"),
        ("abort_with_a_word", "signal 6 (Aborted): parser.c:12: assertion failed"),
        ("exit_politely", "SystemExit: 4"),
        ("return_what_is_no_json", "TypeError: Object of type lock is not JSON serializable"),
    ],
)
def test_a_document_that_ends_its_process_has_crashed_it_and_the_next_is_read(
    sandbox: Sandbox, deed: str, detail: str
) -> None:
    found = rejected(sandbox, deed)
    assert (found.reason, found.detail) == (RejectReason.CRASHED, detail)
    assert reads_on(sandbox)


def test_a_child_that_the_system_ends_had_too_much_memory(sandbox: Sandbox) -> None:
    found = rejected(sandbox, "be_killed")
    assert found.reason == RejectReason.TOO_MUCH_MEMORY
    assert re.fullmatch(r"the system ended it at \d+ MB \(signal 9\)", found.detail)


def test_an_error_that_cannot_be_pickled_is_told_in_one_line(sandbox: Sandbox) -> None:
    found = rejected(sandbox, "raise_what_cannot_be_pickled")
    assert found.reason == RejectReason.CRASHED
    assert found.detail.startswith("Unpicklable: ")


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="sessions are no groups here")
def test_a_child_of_a_nice_worker_is_nice_to_other_sessions_too() -> None:
    read = (
        "from tests.test_sandbox import LIMITS, priorities; "
        "from reindex.sandbox import Sandbox; box = Sandbox(priorities, LIMITS); print(box.run('a', b'')); box.close()"
    )
    words = ["nice", "-n", "7", sys.executable, "-c", read]
    said = subprocess.run(
        words,
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "[7, 7]"


def test_a_rejected_document_costs_no_process(sandbox: Sandbox) -> None:
    child = sandbox.run("good", b"")["child"]
    assert str(rejected(sandbox, "reject")) == "encrypted: a password is needed"
    assert sandbox.run("good", b"")["child"] == child


def test_noise_on_both_outputs_reaches_nobody_and_blocks_nothing(
    sandbox: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        assert sandbox.run("make_noise", b"")["bytes"] == 0
    assert capfd.readouterr() == ("", "")


def test_two_hundred_documents_are_read_by_one_child(sandbox: Sandbox) -> None:
    documents = [b"x" * number for number in range(200)]
    found = [sandbox.run("good", data) for data in documents]
    assert [one["bytes"] for one in found] == list(range(200))
    assert len({one["child"] for one in found}) == 1


def test_a_large_document_arrives_whole(sandbox: Sandbox) -> None:
    assert sandbox.run("good", bytes(50 * MEGABYTE))["bytes"] == 50 * MEGABYTE


def test_a_child_that_has_grown_makes_room_for_another(sandbox: Sandbox) -> None:
    grown = sandbox.run("keep_some_memory", b"")["child"]
    assert sandbox.run("good", b"")["child"] != grown


def test_a_document_is_not_blamed_for_what_an_earlier_one_left_behind(sandbox: Sandbox) -> None:
    sandbox.run("spoil_what_comes_next", b"")
    assert sandbox.run("be_spoilt", b"four")["bytes"] == 4


def test_nothing_is_left_of_many_children(sandbox: Sandbox) -> None:
    reads_on(sandbox)
    held = open_files()
    for _ in range(10):
        rejected(sandbox, "segfault")
    found = sandbox.run("good", b"")
    nursery = psutil.Process(found["nursery"])
    assert [child.pid for child in nursery.children()] == [found["child"]]
    assert open_files() == held
    sandbox.close()
    assert not psutil.pid_exists(found["nursery"])
    assert not psutil.pid_exists(found["child"])


def test_a_sandbox_that_cannot_begin_says_why() -> None:
    with pytest.raises(SandboxFailed, match=r"FileNotFoundError: tokenizer\.json"):
        Sandbox(no_work, LIMITS).run("good", b"")


def test_a_sandbox_whose_nursery_is_gone_says_so_and_begins_again(sandbox: Sandbox) -> None:
    found = sandbox.run("good", b"")
    os.kill(found["nursery"], signal.SIGKILL)
    await_end(found["child"])
    with pytest.raises(SandboxFailed):
        sandbox.run("good", b"")
    assert reads_on(sandbox)


_A_WORKER_THAT_HANGS = """
import sys
from reindex.sandbox import Sandbox
from tests.test_sandbox import LIMITS, work
sandbox = Sandbox(work, LIMITS)
print(*map(sandbox.run("good", b"").get, ("nursery", "child")), flush=True)
sandbox.run("hang_in_c", b"")
"""


def test_a_worker_s_death_takes_its_children_along(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT / "include"), str(PROJECT)])}
    with subprocess.Popen(
        [sys.executable, "-c", _A_WORKER_THAT_HANGS], stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as worker:
        assert worker.stdout
        nursery, child = map(int, worker.stdout.readline().split())
        worker.kill()
        await_end(nursery)
        await_end(child)
    assert list(tmp_path.iterdir()) == []


def test_a_ray_worker_reads_on_after_a_hang_a_crash_and_a_memory_bomb() -> None:
    import ray

    def read(keys: list[str]) -> list[Any]:
        # Long enough to take the memory even on a busy machine: what hangs is given up after it.
        sandbox = Sandbox(work, Limits(seconds=5, memory_megabytes=256))
        found: list[Any] = []
        for key in keys:
            try:
                found.append(sandbox.run(key, b"four")["bytes"])
            except Rejected as error:
                found.append(error.reason)
        return found

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        found = ray.get(ray.remote(read).remote(["good", "hang_in_c", "good", "segfault", "good", "grow", "good"]))
    finally:
        ray.shutdown()
    assert found == [4, RejectReason.TOO_SLOW, 4, RejectReason.CRASHED, 4, RejectReason.TOO_MUCH_MEMORY, 4]
