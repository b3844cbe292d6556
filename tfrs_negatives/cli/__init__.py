"""The console script `tfrs-negatives`.

Imports nothing heavy, so that `--help` and errors in arguments are instant.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from tfrs_negatives.cli import arguments
from tfrs_negatives.cli.command_error import CommandError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the console script.

    Args:
      argv: Arguments without the program's name; None: those of the process.

    Returns:
      The exit code: 0; 2 after a mistake of the user's, told in one line on stderr;
      130 after an interrupt, 143 after SIGTERM.
    """
    # Plain TensorFlow Recommenders is trained for comparison: it needs Keras 2.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    before = None
    if threading.current_thread() is threading.main_thread():
        # Python would end at once, and leave what is half written. `serve` has its own.
        before = signal.signal(signal.SIGTERM, _end)
    try:
        options = arguments.parse(argv)
        if options.command == "train":
            from tfrs_negatives.cli.train_command import train as command
        elif options.command == "audit":
            from tfrs_negatives.cli.audit_command import audit as command
        elif options.command == "serve":
            from tfrs_negatives.cli.serve_command import serve as command
        elif options.command == "pipeline":
            from tfrs_negatives.cli.pipeline_command import pipeline as command
        else:
            from tfrs_negatives.cli.query_command import query as command
        command(options)
    except CommandError as error:
        message = " ".join(str(error).split())
        print(f"tfrs-negatives: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tfrs-negatives: interrupted; nothing was written", file=sys.stderr)
        return 130
    except SystemExit as stop:  # argparse, after --help or --version.
        return int(stop.code or 0)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return 0


def _end(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
