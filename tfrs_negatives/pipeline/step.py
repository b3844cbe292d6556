"""What all steps do: begin, look at the rows once, write, check, and finish."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from tfrs_negatives.pipeline.beam_engine import BeamEngine, import_beam
from tfrs_negatives.pipeline.key_counts import row_counts, summarise, write_summary
from tfrs_negatives.pipeline.step_folder import StepFolder
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    import apache_beam as beam

#: Function of a line that says how far a step is.
Progress: TypeAlias = Callable[[str], None]

FIRST_PASS = "_first_pass.json"
# A look at how many shards are there, in seconds.
_LOOK = 2.0


class StepRows(Protocol):
    """A table whose rows workers read."""

    def description(self) -> dict[str, Any]:
        """What tells this table from another."""

    def no_rows(self) -> pa.Table:
        """A batch without rows."""

    def read(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Batches of rows: Arrow tables, as `key_counts.row_counts` takes them."""

    def check(self, summary: Mapping[str, int]) -> None:
        """Raises `ValueError` where there are no rows, given how many were read."""


class Step:
    """A step that is running.

    Args:
      folder: The output.
      engine: Where it runs.
      progress: Function of a line of text, or None.
    """

    def __init__(
        self,
        folder: StepFolder,
        engine: BeamEngine,
        progress: Progress | None,
    ) -> None:
        import_beam()  # Before anything is written.
        self.folder, self.engine = folder, engine
        self.tell: Progress = progress or (lambda line: None)

    @classmethod
    def begun(
        cls,
        output: PathLike,
        description: Mapping[str, Any],
        engine: BeamEngine | None,
        progress: Progress | None,
    ) -> Step | None:
        """A step whose folder is there to be written; None if all is done.

        Args:
          output: The folder that the step is to make.
          description: What tells whether an output is that of the same step.
          engine: Where it runs; None: in this process.
          progress: Function of a line of text, or None.

        Raises:
          ValueError: Something else is at `output`.
        """
        folder = StepFolder(output, dict(description))
        step = cls(folder, engine or BeamEngine(), progress)
        if folder.begin():
            return step
        step.tell("already done")
        return None

    def summary(
        self,
        rows: StepRows,
        keys: Callable[[pa.Table], np.ndarray],
        heavy_rows: int,
    ) -> Mapping[str, Any]:
        """The first pass: how many rows there are, and heavy keys: see `summarise`."""
        found = self.folder.read_json(FIRST_PASS)
        if found is None:
            self.tell("counts rows")
            self.engine.run(
                lambda pipeline: summarise(
                    rows.read(pipeline), keys, heavy_rows, self.folder, FIRST_PASS
                )
            )
            found = self.folder.read_json(FIRST_PASS)
        rows.check(found)
        self.tell(
            f"{found['rows']:,} rows of {found['rows_read']:,} read, "
            f"{found['keys']:,} keys, {len(found['heavy'])} of them heavy"
        )
        return found

    def counted(
        self,
        rows: StepRows,
        counts_of: Callable[[pa.Table], Mapping[str, Any]] = row_counts,
    ) -> Mapping[str, Any]:
        """A first pass that adds up what is counted of each batch.

        Args:
          rows: The input.
          counts_of: Function of a batch: what `row_counts` has of it, and more.
        """
        found = self.folder.read_json(FIRST_PASS)
        if found is None:
            self.tell("counts rows")

            def build(pipeline: beam.Pipeline) -> None:
                beam = import_beam()
                counts = rows.read(pipeline) | "Count rows" >> beam.Map(counts_of)
                write_summary((counts,), self.folder, FIRST_PASS)

            self.engine.run(build)
            found = self.folder.read_json(FIRST_PASS)
        rows.check(found)
        self.tell(f"{found['rows']:,} rows of {found['rows_read']:,} read")
        return found

    def check_rows(self, found: int, expected: int) -> None:
        """Raises `ValueError` where what was written does not have all rows once.

        The work is removed first: shards that lack rows would pass for whole ones when
        the step is started again.
        """
        if found != expected:
            self.folder.discard()
            raise ValueError(
                f"Expected {expected:,} rows in what was written, received {found:,}: "
                "the input changed while it was read, or the runner lost rows. What "
                "was written has been removed. Run the step again."
            )

    @contextlib.contextmanager
    def shards_told(self, names: Sequence[str]) -> Iterator[None]:
        """Tells of the shards that are there, while the block runs."""
        ended = threading.Event()
        last = -1

        def look() -> None:
            nonlocal last
            num = sum(map(self.folder.has, names))
            if num != last:
                self.tell(f"{num} of {len(names)} files written")
            last = num

        def watch() -> None:
            while not ended.wait(_LOOK):
                look()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
        look()
