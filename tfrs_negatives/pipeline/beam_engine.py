"""Where steps run: Apache Beam, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tfrs_negatives import _checks
from tfrs_negatives.data.packages import import_package

if TYPE_CHECKING:
    import apache_beam as beam

_LOCAL = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
# How errors of this package are found in what a worker printed.
_MISTAKE = re.compile(r"^(?:ValueError|OSError): (.+?)(?: \[while running .*)?$", re.M)


@dataclasses.dataclass(frozen=True)
class BeamEngine:
    """A runner of Apache Beam.

    Attributes:
      runner: "local", the processes of this machine, which hold what they exchange in
        memory; or the name of a runner of Beam, such as "FlinkRunner", "SparkRunner",
        "DataflowRunner" or "PortableRunner".
      workers: How many processes, for "local".
      options: Options of the runner, as on a command line: "--region=...", say.

    Example:
      >>> engine = tn.pipeline.BeamEngine(workers=2)
      >>> engine.runner
      'local'
    """

    runner: str = "local"
    workers: int = 1
    options: Sequence[str] = ()

    def __post_init__(self) -> None:
        _checks.check_at_least("workers", self.workers, 1)
        if self.runner != "local" and self.workers > 1:
            raise ValueError(
                "`workers` is of the local runner, received "
                f"{self.workers} for {self.runner!r}. Use the runner's own option."
            )

    def run(self, build: Callable[[beam.Pipeline], None]) -> None:
        """Runs a pipeline to its end.

        Args:
          build: Adds the transforms to a pipeline.

        Raises:
          ValueError: What a worker said of its rows, or that the runner failed.
          ImportError: Apache Beam is not installed.
        """
        beam = import_beam()
        from apache_beam.options.pipeline_options import PipelineOptions

        options = list(self.options)
        runner = self.runner
        if runner == "local":
            runner = _LOCAL
            if self.workers > 1:
                options += [
                    f"--direct_num_workers={self.workers}",
                    "--direct_running_mode=multi_processing",
                ]
        pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(options))
        build(pipeline)
        has_processes = self.runner == "local" and self.workers > 1
        with contextlib.ExitStack() as during:
            during.enter_context(_told(self.runner))
            during.enter_context(_quiet())
            if has_processes:
                during.enter_context(_aside())
                during.enter_context(_without_timed_flushes())
            pipeline.run().wait_until_finish()


def import_beam() -> Any:
    """Apache Beam, or an `ImportError` that says how to install it."""
    logging.disable(logging.WARNING)  # Of clouds whose packages are not there.
    try:
        return import_package("apache_beam", "beam")
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Errors are raised; Beam's notes are for those who look for a fault in it."""
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _without_timed_flushes() -> Iterator[None]:
    """What is sent to worker processes is sent when all of it is written.

    Beam's local runner also sends what a stream holds once a second, from a thread of
    its own. That thread empties the stream after it has sent it, and what another
    thread wrote in between is lost (Beam 2.77,
    `TimeBasedBufferingClosableOutputStream`).
    """
    from apache_beam.runners.portability.fn_api_runner import worker_handlers

    before = worker_handlers.DATA_BUFFER_TIME_LIMIT_MS
    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0
    try:
        yield
    finally:
        worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = before


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """What worker processes print goes to a file, which stays after an error."""
    log, path = tempfile.mkstemp(".log", "tfrs-negatives-workers-")
    before = os.dup(2)
    os.dup2(log, 2)
    try:
        yield
    except BaseException:
        os.write(before, f"The workers' log is {path}\n".encode())
        raise
    else:
        os.remove(path)
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(log)


@contextlib.contextmanager
def _told(runner: str) -> Iterator[None]:
    """What workers refuse is a `ValueError`, as on one machine."""
    try:
        yield
    except (ImportError, KeyboardInterrupt):
        raise
    except Exception as error:
        found = _MISTAKE.findall(f"{type(error).__name__}: {error}")
        if found:
            raise ValueError(found[-1]) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"Expected the runner {runner!r} to finish, received an error ({reason}). "
            "Check its options and its log, and run the step again: it goes on where "
            "it was."
        ) from error
