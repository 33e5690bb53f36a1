"""`python -m reindex.stack`: set up the servers that the environment names, which something else has started."""

from __future__ import annotations

import os
import sys

from reindex.stack.provision import provision

if __name__ == "__main__" and (failed := provision(os.environ)):
    sys.exit(f"not set up: {', '.join(failed)}; see whether the servers answer, and take these passwords")
