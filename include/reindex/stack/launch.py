"""Become a program of the stack: `python -m reindex.stack.launch NAME`, as supervisord runs it.

Secrets thus travel from the state file to the program alone; supervisord's configuration holds none.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from reindex.errors import StackDown
from reindex.priority import lead_session
from reindex.stack.processes import MARKER, PROGRAM_MARKER, end_leftovers
from reindex.stack.programs import PROGRAMS
from reindex.stack.state import StackState, client_environment, load_state


def main(name: str) -> None:
    home = Path(os.environ[MARKER])
    state = load_state(home)
    if state is None:
        raise StackDown(str(home))
    _become(name, state)


def _become(name: str, state: StackState) -> None:
    # A program that was killed may have left children: they would go on beside their successors.
    end_leftovers(state.home, name)
    program = PROGRAMS[name]
    folder = state.home / program.folder
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    program.prepare(state)
    os.nice(program.niceness)
    lead_session()
    command = program.command(state)
    # Temporary files go where `down` removes them: a program that is killed leaves its own behind.
    common = {**os.environ, **client_environment(state), PROGRAM_MARKER: name, "TMPDIR": str(state.run)}
    os.execve(command[0], command, common | program.environment(state))  # noqa: S606 - the commands are the table's own


if __name__ == "__main__":
    main(sys.argv[1])
