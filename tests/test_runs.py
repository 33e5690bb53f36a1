from __future__ import annotations

import pytest

from reindex.runs import ROLLBACK, RunState


@pytest.mark.parametrize(
    ("states", "current"),
    [
        ({}, "choose"),
        ({"choose": "success", "reload": "deferred"}, "reload"),
        ({"choose": "success", "reload": "skipped", "roll_back": "failed"}, "roll_back"),
        ({"choose": "success", "reload": "success", "roll_back": "success"}, "roll_back"),
    ],
)
def test_a_run_stands_at_the_first_task_that_is_not_over(states: dict[str, str], current: str) -> None:
    stages = dict.fromkeys(ROLLBACK.stages, "waiting") | states
    assert RunState(state="running", stages=stages).current == current
