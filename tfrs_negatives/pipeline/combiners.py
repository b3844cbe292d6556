"""How workers' parts of a result become one: what Beam calls combiners."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import apache_beam as beam
import numpy as np
import pyarrow as pa

from tfrs_negatives.data.count_ids import merged_counts
from tfrs_negatives.pipeline.heavy_users import Order
from tfrs_negatives.pipeline.input_rows import packed, unpacked
from tfrs_negatives.pipeline.key_counts import Counts
from tfrs_negatives.pipeline.table_groups import grouped

#: Numbers of rows, and the rows as `packed` has them.
Groups: TypeAlias = list[tuple[int, bytes]]


class MergeCounts(beam.CombineFn):
    """Counts of parts of the rows to counts of all.

    Memory: the distinct ids, three times over, however many rows there are: a key that
    a tenth of the rows have is one entry.
    """

    def create_accumulator(self) -> list[Counts]:
        """Nothing counted."""
        return []

    def add_input(self, held: list[Counts], counts: Counts) -> list[Counts]:
        """Adds counts; they are merged when they are as many as those before."""
        held.append(counts)
        num = sum(len(ids) for ids, _ in held)
        return [merged_counts(held)] if num > 2 * len(held[0][0]) else held

    def merge_accumulators(self, several: Iterable[list[Counts]]) -> list[Counts]:
        """One of several."""
        held = [counts for accumulator in several for counts in accumulator]
        return [merged_counts(held)] if held else held

    def extract_output(self, held: list[Counts]) -> Counts:
        """The counts."""
        return merged_counts(held)


class MergeGroups(beam.CombineFn):
    """`grouped` tables of parts of the rows to that of all, as `packed` has them.

    Memory: the distinct rows, three times over, however often they are repeated. An
    accumulator holds numbers of rows and packed rows, as Beam pickles it: chunks of a
    table are slices of one buffer, and pickle writes the whole buffer for each.
    """

    def create_accumulator(self) -> Groups:
        """None."""
        return []

    def add_input(self, held: Groups, rows: bytes) -> Groups:
        """Adds rows; they are merged when they are as many as those before."""
        held.append((len(unpacked(rows)), rows))
        num = sum(number for number, _ in held)
        return [_merged(held)] if num > 2 * held[0][0] else held

    def merge_accumulators(self, several: Iterable[Groups]) -> Groups:
        """One of several."""
        held = [part for accumulator in several for part in accumulator]
        return [_merged(held)] if held else held

    def extract_output(self, held: Groups) -> bytes:
        """The rows."""
        return _merged(held)[1]


class MergeSummaries(beam.CombineFn):
    """Dicts of numbers, which are added, and of lists, which are joined and sorted."""

    def create_accumulator(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def add_input(self, held: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
        """Adds one."""
        return self.merge_accumulators([held, more])

    def merge_accumulators(self, several: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """One of several."""
        found: dict[str, Any] = {}
        for summary in several:
            for name, value in summary.items():
                found[name] = found[name] + value if name in found else value
        return found

    def extract_output(self, held: dict[str, Any]) -> dict[str, Any]:
        """The summary, the same whatever the order in which parts came."""
        return {
            name: sorted(value) if isinstance(value, list) else value
            for name, value in held.items()
        }


class JoinOrders(beam.CombineFn):
    """Numbers, which are added, and rows, which are joined."""

    def create_accumulator(self) -> tuple[int, list[Order]]:
        """None."""
        return 0, []

    def add_input(
        self, held: tuple[int, list[Order]], more: tuple[int, Order]
    ) -> tuple[int, list[Order]]:
        """Adds the rows of a batch."""
        return held[0] + more[0], [*held[1], more[1]]

    def merge_accumulators(
        self, several: Iterable[tuple[int, list[Order]]]
    ) -> tuple[int, list[Order]]:
        """All of several."""
        held = list(several)
        joined = [order for _, orders in held for order in orders]
        return sum(number for number, _ in held), joined

    def extract_output(self, held: tuple[int, list[Order]]) -> tuple[int, Order]:
        """The number, and the rows in order."""
        columns = [np.concatenate(column) for column in zip(*held[1], strict=True)]
        time, part, place = columns
        order = np.lexsort((place, part, time))
        return held[0], (time[order], part[order], place[order])


def _merged(held: Groups) -> tuple[int, bytes]:
    if len(held) == 1:
        return held[0]
    table = grouped(pa.concat_tables([unpacked(rows) for _, rows in held]))
    return len(table), packed(table)
