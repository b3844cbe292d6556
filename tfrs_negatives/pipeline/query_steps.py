"""What the steps share that bring queries, items and interactions together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfrs_negatives.pipeline.beam_engine import BeamEngine
from tfrs_negatives.pipeline.embedding_shards import EmbeddingShards
from tfrs_negatives.pipeline.input_rows import InputRows, files_description
from tfrs_negatives.pipeline.query_pairs import check_ids
from tfrs_negatives.pipeline.step import Progress, Step
from tfrs_negatives.pipeline.step_folder import StepFolder
from tfrs_negatives.types import PathLike


@dataclasses.dataclass(frozen=True)
class QueryStep:
    """The input of such a step, which has been looked at.

    Attributes:
      queries, items: Their embeddings.
      tables: Interactions, by what they are for.
    """

    queries: EmbeddingShards
    items: EmbeddingShards
    tables: Mapping[str, InputRows]

    @classmethod
    def of(
        cls,
        queries: PathLike,
        items: PathLike,
        tables: Mapping[str, PathLike | None],
        columns: Mapping[str, str | None] | None,
    ) -> QueryStep:
        """The input at these paths, of which tables may be None.

        Raises:
          ValueError: Folders that hold no embeddings, of different widths, without
            rows, or of other ids than the tables.
        """
        found = EmbeddingShards.of(queries), EmbeddingShards.of(items)
        if found[0].width != found[1].width:
            raise ValueError(
                "Embeddings of queries and items must be equally wide, received widths "
                f"{found[0].width} and {found[1].width}. Embed both by the towers of "
                "one model."
            )
        for shards in found:
            if not len(shards):
                raise ValueError(
                    f"Expected embeddings in {shards.path!r}, received none. Embed a "
                    "table that has rows."
                )
        rows = {
            name: InputRows(path, columns or {})
            for name, path in tables.items()
            if path is not None
        }
        for table in rows.values():
            check_ids(table, *found)
        return cls(*found, rows)

    def begun(
        self,
        output: PathLike,
        description: Mapping[str, Any],
        engine: BeamEngine | None,
        progress: Progress | None,
    ) -> Step | None:
        """The step, as `Step.begun` returns it."""
        told = {**description, "input": self.description()}
        return Step.begun(output, told, engine, progress)

    def folder(self, output: PathLike, description: Mapping[str, Any]) -> StepFolder:
        """The output of the step, once it is done."""
        return StepFolder(output, {**description, "input": self.description()})

    def description(self) -> dict[str, Any]:
        """What tells this input from another."""
        return {
            "queries": files_description(self.queries.path),
            "items": files_description(self.items.path),
            **{name: rows.description() for name, rows in self.tables.items()},
        }
