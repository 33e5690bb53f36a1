"""How long live search takes in, whether the work on a release pauses out; and how the pause reaches the workers.

The brake is an object of the release in the state bucket: what workers on any machine can read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from reindex.errors import ReindexError
from reindex.latency import percentiles
from reindex.releases import ReleaseFiles

# A search is asked so often; those that would have been asked while one hung are counted as waiting for it.
PACE_SECONDS = 0.1
# A budget that the corpus does not name, of the 99th percentile at rest.
BUDGET_RATIO = 1.5
_BRAKE_FILE = "brake.json"
# Live search is over its budget if it is so over a minute, and still is over the end of it.
_WINDOW_SECONDS, _END_SECONDS = 60.0, 10.0
# Half a minute of them: of fewer the 99th percentile is one or two, and what is over by then stands in nobody's way.
_FEWEST_SEARCHES = 300
# Longer than any budget, and yet a number: a search that failed.
_NEVER_MS = 1e9
# The brake holds for at most this share of a stage's time: work that slows search down even so takes twice as long, and
# ends.
_MOST_HELD = 0.5
# A brake that is not renewed lets go: whoever pressed it may have died.
_LASTS_SECONDS = 5.0
_RENEWED_SECONDS = 2.0
# Clocks of machines differ: a worker believes no brake for longer than this.
_LONGEST_WAIT_SECONDS = 60.0
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One search: when it was asked, in seconds since 1970, its milliseconds or None if it failed, and the brake."""

    at: float
    milliseconds: float | None
    is_braked: bool = False


def waits(samples: Iterable[Sample]) -> list[float]:
    """Return the milliseconds that readers waited, who come at the pace of the probe whether one answer hangs or not.

    Only asking when the last answer is there would leave out most of those who wait (G. Tene's coordinated omission).
    """
    pace = 1000 * PACE_SECONDS
    found: list[float] = []
    for sample in samples:
        left = sample.milliseconds or 0.0
        found += [left] if sample.milliseconds is not None else []
        while (left := left - pace) > 0:
            found.append(left)
    return found


def should_brake(recent: Iterable[Sample], budget_ms: float, *, held: float, elapsed: float) -> bool:
    """Return whether work is to pause: live search is over its budget, and the brake was not held too long yet.

    `recent` are the searches of the last minute, in order. The 99th percentile of a few seconds is one search, which
    the budget allows to be slow if a hundred are quick; that of the minute alone would hold the brake for what is over.
    `held` and `elapsed` are seconds since the stage began. A search that failed is over any budget.
    """
    asked = list(recent)
    waited = _waits_and_failures(asked)
    if len(waited) < _FEWEST_SEARCHES or held >= _MOST_HELD * elapsed:
        return False
    last = _waits_and_failures([sample for sample in asked if asked[-1].at - sample.at <= _END_SECONDS])
    return len(last) > 1 and all(percentiles(some, _WINDOW_SECONDS).p99 > budget_ms for some in (waited, last))


def _waits_and_failures(samples: Sequence[Sample]) -> list[float]:
    """Return the seconds that readers waited, where nobody was answered the longest."""
    failed = [_NEVER_MS for sample in samples if sample.milliseconds is None]
    return [wait / 1000 for wait in waits(samples) + failed]


@dataclass(slots=True, kw_only=True)
class Brake:
    """The brake in the hands of the probe of one stage: pressed and let go as its searches come in."""

    files: ReleaseFiles
    budget_ms: float
    began: float
    is_on: bool = False
    _recent: deque[Sample] = field(default_factory=deque)
    _held: float = 0.0
    _renewed: float = 0.0

    def look(self, sample: Sample) -> None:
        """Take note of a search, and press the brake, hold it or let it go."""
        now = sample.at
        if self.is_on and self._recent:
            self._held += now - self._recent[-1].at
        self._recent.append(sample)
        while now - self._recent[0].at > _WINDOW_SECONDS:
            self._recent.popleft()
        was_on = self.is_on
        self.is_on = should_brake(self._recent, self.budget_ms, held=self._held, elapsed=now - self.began)
        if self.is_on and now - self._renewed > _RENEWED_SECONDS:
            self._write(now + _LASTS_SECONDS)
            self._renewed = now
        elif was_on and not self.is_on:
            self.let_go()

    def let_go(self) -> None:
        self.is_on, self._renewed = False, 0.0
        self._write(0.0)

    def _write(self, until: float) -> None:
        with suppress(ReindexError):
            self.files.write_json(_BRAKE_FILE, {"until": until})


def is_braked(files: ReleaseFiles) -> bool:
    """Return whether the brake is on now; a bucket that does not say so stops nothing."""
    with suppress(ReindexError):
        return bool((files.read_json(_BRAKE_FILE) or {}).get("until", 0.0) > time.time())
    return False


class Pause:
    """Where a worker waits while the brake of its release is on; it looks once a second, however often it comes by.

    `seconds` is how long it has waited in all.
    """

    def __init__(self, files: ReleaseFiles) -> None:
        self._files = files
        self._looked_at = -_LOOK_SECONDS
        self.seconds = 0.0

    def wait(self) -> None:
        """Return once the brake is off."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        while is_braked(self._files) and time.monotonic() - now < _LONGEST_WAIT_SECONDS:
            time.sleep(_LOOK_SECONDS)
        self._looked_at = time.monotonic()
        self.seconds += self._looked_at - now
