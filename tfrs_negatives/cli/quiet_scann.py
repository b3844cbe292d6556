"""Keeps what ScaNN's library logs away from the terminal."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# Lines of Abseil's log up to warnings: "W0000 00:00:17.5 123 gmm_utils.cc:1026] ...",
# of which ScaNN writes some while it builds an index, whatever
# TF_CPP_MIN_LOG_LEVEL says: sizes and times of partitions, and which are empty.
_LOGGED = re.compile(rb"[IW]\d{4} \d\d:\d\d:[\d.]+\s+\d+ [\w./]+:\d+\] ")
_PREFACE = b"WARNING: All log messages before absl::InitializeLog() is called"


@contextlib.contextmanager
def quiet_scann() -> Iterator[None]:
    """Drops these lines of what the process writes to its standard error.

    Other lines are written when the block ends; all of them if it raises.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    failed = True
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            kept.seek(0)
            for line in kept:
                if failed or not (_LOGGED.match(line) or line.startswith(_PREFACE)):
                    os.write(2, line)
