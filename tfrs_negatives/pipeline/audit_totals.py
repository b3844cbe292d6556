"""Totals of a table for its audit, counted by many workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tfrs_negatives.audit.audit_table import request_rule
from tfrs_negatives.audit.table_facts import TableFacts
from tfrs_negatives.data.table_sources import only_one
from tfrs_negatives.data.time_range import time_range
from tfrs_negatives.pipeline.beam_engine import import_beam
from tfrs_negatives.pipeline.input_rows import InputRows, keys_of, packed, unpacked
from tfrs_negatives.pipeline.key_counts import NUM_GROUPS, row_counts, write_summary
from tfrs_negatives.pipeline.step import FIRST_PASS, Step
from tfrs_negatives.pipeline.step_folder import StepFolder
from tfrs_negatives.pipeline.table_groups import by_group, group_of, grouped

if TYPE_CHECKING:
    import apache_beam as beam

_TOTALS = "_totals.json"
_REQUESTS = "_requests"


def first_rows_of_parts(step: Step, rows: InputRows) -> Mapping[int, int]:
    """How many positive rows come before each part of a table, in a first pass."""
    found = step.counted(rows, _part_counts)
    numbers = [part for part, _ in found["parts"]]
    before = np.cumsum([0, *(count for _, count in found["parts"])])[:-1]
    return dict(zip(numbers, before.tolist(), strict=True))


def key_columns(batch: pa.Table, before: Mapping[int, int]) -> pa.Table:
    """Users, items and requests of positive rows as int64 keys, and rows' numbers.

    Args:
      batch: Of `InputRows.read`.
      before: How many positive rows come before each part.
    """
    columns = {
        role: keys_of(batch.column(role)) for role in ("user", "item", "request")
    }
    first = before[batch.column("part")[0].as_py()] if len(batch) else 0
    return pa.table({**columns, "row": np.arange(first, first + len(batch))})


def table_facts(step: Step, rows: InputRows, before: Mapping[int, int]) -> TableFacts:
    """Totals of the table, in one pass that also finds the requests' first rows.

    Raises:
      ValueError: All rows have one user, or one item.
    """
    folder = step.folder
    found = folder.read_json(_TOTALS)
    if found is None:
        step.tell("counts users, items, pairs and requests")

        def build(pipeline: beam.Pipeline) -> None:
            from tfrs_negatives.pipeline.combiners import MergeGroups

            beam = import_beam()
            totals = (
                rows.read(pipeline)
                | "Group" >> beam.FlatMap(_groups, before)
                | "Merge" >> beam.CombinePerKey(MergeGroups())
                | "Total" >> beam.Map(_total, folder)
            )
            write_summary((totals,), folder, _TOTALS)

        step.engine.run(build)
        found = folder.read_json(_TOTALS)
    counted = folder.read_json(FIRST_PASS)
    numbers = np.array(found["item_counts"])
    item_counts = np.repeat(numbers[:, 0], numbers[:, 1])
    for role, num in (("user", found["users"]), ("item", len(item_counts))):
        if num == 1:
            raise only_one(rows.parts, role, counted["rows"])
    times = np.array(counted.get("times", []))
    return TableFacts(
        name=rows.parts.name,
        num_read=counted["rows_read"],
        num_used=counted["rows"],
        time_range=time_range(times.min(), times.max()) if len(times) else "none",
        num_users=found["users"],
        num_requests=found["requests"],
        num_pairs=found["pairs"],
        request_rule=request_rule(rows.parts),
        item_counts=item_counts,
        other_positives=found["other_positives"],
    )


def read_requests(folder: StepFolder) -> tuple[np.ndarray, np.ndarray]:
    """Keys of requests and how many rows each has, in the order of their first rows."""
    tables = [folder.table(name) for name in folder.names(f"{_REQUESTS}/")]
    whole = pa.concat_tables(tables)
    order = np.argsort(whole.column("first").to_numpy())
    return tuple(whole.column(name).to_numpy()[order] for name in ("request", "rows"))


def _part_counts(batch: pa.Table) -> dict[str, Any]:
    found: dict[str, Any] = row_counts(batch)
    if len(batch):
        found["parts"] = [[batch.column("part")[0].as_py(), len(batch)]]
        if "time" in batch.column_names:
            time = batch.column("time").to_numpy()
            found["times"] = [[float(time.min()), float(time.max())]]
    return found


def _groups(
    batch: pa.Table, before: Mapping[int, int]
) -> Iterator[tuple[tuple[str, int], bytes]]:
    """What is counted of a batch, by group of keys."""
    keys = key_columns(batch, before)
    ones = np.ones(len(keys), np.int64)
    tables = {
        "item": {"item": keys.column("item"), "rows": ones},
        "user": {name: keys.column(name) for name in ("user", "item")},
        "request": {"request": keys.column("request"), "first": keys.column("row")},
    }
    tables["user"]["rows"] = tables["request"]["rows"] = ones
    for name, columns in tables.items():
        table = grouped(pa.table(columns))
        groups = group_of(table.column(name).to_numpy(), NUM_GROUPS)
        for group, some in by_group(table, groups):
            yield (name, group), packed(some)


def _total(
    of_group: tuple[tuple[str, int], bytes], folder: StepFolder
) -> dict[str, Any]:
    """The totals of a group of items, users or requests."""
    (name, group), data = of_group
    table = unpacked(data)
    rows = table.column("rows").to_numpy()
    if name == "item":
        counts, items = np.unique(rows, return_counts=True)
        pairs = zip(counts.tolist(), items.tolist(), strict=True)
        return {"item_counts": [list(pair) for pair in pairs]}
    if name == "user":
        user = np.unique(table.column("user").to_numpy(), return_inverse=True)[1]
        others = np.bincount(user)[user] - 1
        return {
            "users": int(user.max()) + 1,
            "pairs": len(table),
            "other_positives": int(rows @ others),
        }
    order = np.argsort(table.column("first").to_numpy())
    folder.write_table(f"{_REQUESTS}/{group:03d}.parquet", table.take(pa.array(order)))
    return {"requests": len(table)}
