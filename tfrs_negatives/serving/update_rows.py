"""A file of updates, a row an item: from JSON lines or Parquet to checked changes."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any

from tfrs_negatives._saved_live_retrieval import SavedLiveRetrieval
from tfrs_negatives.index.live.live_changes import Change

#: Endings of the names of files that are read.
ENDINGS = (".jsonl", ".parquet")

# Rows of a change: searches see the rows of one all at once, and others in between.
_ROWS = 1_000


@dataclasses.dataclass(frozen=True)
class FileChange:
    """Rows of a file that are changed together.

    Attributes:
      change: Them, checked.
      end: How many rows of the file there are up to the last of them.
    """

    change: Change
    end: int


def read_changes(path: str, model: SavedLiveRetrieval) -> list[FileChange]:
    """The changes of a file, all of them checked.

    A row has `id`, and either `deleted`, true, or `embedding` and all payload and
    attribute columns by their names, and `popularity` if the export has it.

    Args:
      path: The file.
      model: What they are for.

    Raises:
      ValueError: The file, or a row, is not as it should be; the message says which.
      OSError: It cannot be read.
    """
    payload, attributes = (
        list(model.description[n]) for n in ("payload", "attributes")
    )
    both = {*payload, *attributes}
    clash = both & {"id", "embedding", "deleted", "popularity"}
    if clash:
        raise ValueError(
            f"The column {sorted(clash)[0]!r} has the name of a field that files of "
            "updates have themselves. Change its items by requests, or rename it."
        )
    popularity = ["popularity"] if "popularity" in model.description else []
    upserted = {"id", "embedding", *both, *popularity}
    changes = []
    for start, rows, deletes in _runs(_rows_of(path)):
        ids = [row["id"] for row in rows]
        try:
            if deletes:
                _check_fields(rows, {"id", "deleted"}, upserted | {"deleted"})
                change = model.items.checked_delete(ids)
            else:
                _check_fields(rows, upserted, upserted | {"deleted"})
                change = model.checked_upsert(
                    ids,
                    [row["embedding"] for row in rows],
                    {name: [row[name] for row in rows] for name in payload},
                    {name: [row[name] for row in rows] for name in attributes},
                    *([row[name] for row in rows] for name in popularity),
                )
        except ValueError as error:
            end = start + len(rows)
            raise ValueError(f"In rows {start + 1:,} to {end:,}: {error}") from None
        changes.append(FileChange(change, start + len(rows)))
    return changes


def _rows_of(path: str) -> Iterator[dict[str, Any]]:
    if path.endswith(".parquet"):
        yield from _rows_of_parquet(path)
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                if not isinstance(row, dict) or "id" not in row:
                    raise ValueError("expected an object with `id`")
            except (ValueError, RecursionError) as error:
                raise ValueError(f"In line {number:,}: {error}.") from None
            yield row


def _rows_of_parquet(path: str) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise OSError(
            f"Parquet needs pyarrow, which cannot be imported ({error}). Run "
            "`pip install pyarrow`."
        ) from error
    try:
        with pq.ParquetFile(path) as file:
            if "id" not in file.schema_arrow.names:
                names = ", ".join(file.schema_arrow.names)
                raise ValueError(f"Expected a column `id`, received {names}.")
            for batch in file.iter_batches(_ROWS):
                for row in batch.to_pylist():
                    # A table of both has all columns in all rows.
                    if row.get("deleted"):
                        row = {"id": row["id"], "deleted": row["deleted"]}
                    yield row
    except pa.ArrowException as error:
        raise ValueError(f"It is no Parquet that can be read: {error}") from None


def _runs(
    rows: Iterator[dict[str, Any]],
) -> Iterator[tuple[int, list[dict[str, Any]], bool]]:
    """(number of the first row, rows, whether they are deleted).

    Rows of a run come one after the other in the file, and have ids of their own.
    """
    run: list[dict[str, Any]] = []
    ids: set[Any] = set()
    start, deletes = 0, False
    for number, row in enumerate(rows):
        deleted = row.get("deleted", False)
        if deleted is None:
            deleted = False
        if not isinstance(deleted, bool):
            raise ValueError(
                f"In row {number + 1:,}: `deleted` must be true or false, received "
                f"{deleted!r}."
            )
        each = row["id"]
        if not isinstance(each, (int, str)):
            raise ValueError(
                f"In row {number + 1:,}: `id` must be an integer or a text, received "
                f"{each!r}."
            )
        if run and (deleted != deletes or each in ids or len(run) == _ROWS):
            yield start, run, deletes
            run, ids, start = [], set(), number
        run.append(row)
        ids.add(each)
        deletes = deleted
    if run:
        yield start, run, deletes


def _check_fields(
    rows: list[dict[str, Any]], needed: set[str], allowed: set[str]
) -> None:
    for row in rows:
        if not needed <= set(row) <= allowed:
            raise ValueError(
                f"a row must have {', '.join(sorted(needed))}, received "
                f"{', '.join(sorted(row))}."
            )


def is_update(name: str) -> bool:
    """Whether a file of this name is read: others may be unfinished."""
    return name.endswith(ENDINGS) and not os.path.basename(name).startswith(".")
