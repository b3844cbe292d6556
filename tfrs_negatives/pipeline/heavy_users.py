"""Where the last rows of users begin that have too many rows for one worker."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrs_negatives._ids import mix, pairs
from tfrs_negatives.audit.held_out import num_held_out
from tfrs_negatives.pipeline.beam_engine import import_beam
from tfrs_negatives.pipeline.input_rows import InputRows, keys_of
from tfrs_negatives.pipeline.key_counts import positions_of, write_summary
from tfrs_negatives.pipeline.step import Step

if TYPE_CHECKING:
    import apache_beam as beam

#: What rows are sorted by: [n] times, and their part and place in the table.
Order: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]

#: One row's time, part and place.
Row: TypeAlias = tuple[float, int, int]

# Rows of a user that are sampled.
_SAMPLE = 65_536
# Standard deviations that a bracket is wide to each side: missed once in 5e8.
_WIDTH = 6.0
_BRACKETS, _FIRST_ROWS = "_heavy_brackets.json", "_heavy_rows.json"


def user_keys(batch: pa.Table) -> np.ndarray:
    """Keys of the rows' users: [n] int64."""
    return keys_of(batch.column("user"))


def row_order(batch: pa.Table) -> Order:
    """What rows are sorted by; without times, their places alone."""
    part, place = (batch.column(name).to_numpy() for name in ("part", "place"))
    if "time" in batch.column_names:
        return batch.column("time").to_numpy(), part, place
    return np.zeros(len(part)), part, place


@dataclasses.dataclass(frozen=True)
class HeavyUsers:
    """Users with many rows, and the first of each one's last rows.

    Attributes:
      keys: [m] int64, sorted.
      first: [m] rows.
    """

    keys: np.ndarray
    first: Sequence[Row]

    @classmethod
    def found(
        cls, step: Step, rows: InputRows, heavy: Sequence[tuple[int, int]]
    ) -> HeavyUsers:
        """Looks for them, in two passes over the rows.

        Args:
          step: The step that is running.
          rows: Its input.
          heavy: Pairs of a user's key and number of rows, sorted.
        """
        keys = np.array([key for key, _ in heavy], np.int64)
        counts = np.array([count for _, count in heavy], np.int64)
        if not len(keys):
            return cls(keys, [])
        found = step.folder.read_json(_FIRST_ROWS)
        if found is None:
            step.tell(f"finds the last rows of {len(keys)} users with many rows")
            brackets = _brackets(step, rows, keys, counts)
            first = _first_rows(step, rows, keys, counts, brackets)
            missed = [n for n in range(len(keys)) if n not in first]
            if missed:  # All their rows, then.
                nothing = dict.fromkeys(missed, (None, None))
                first |= _first_rows(step, rows, keys, counts, nothing)
            found = [first[n] for n in range(len(keys))]
            step.folder.write_json(_FIRST_ROWS, found)
        return cls(keys, [tuple(row) for row in found])

    def are_last(
        self, heavy: np.ndarray, time: np.ndarray, part: np.ndarray, place: np.ndarray
    ) -> np.ndarray:
        """Which rows are a heavy user's last ones.

        Args:
          heavy: [n] which heavy user each row is of, or -1.
          time, part, place: [n].

        Returns:
          [n] bool, False for rows of other users.
        """
        is_last = np.zeros(len(heavy), bool)
        for number in np.unique(heavy[heavy >= 0]).tolist():
            is_of = heavy == number
            of_user = time[is_of], part[is_of], place[is_of]
            is_last[is_of] = _at_or_after(of_user, self.first[number])
        return is_last


def _brackets(
    step: Step, rows: InputRows, keys: np.ndarray, counts: np.ndarray
) -> dict[int, Any]:
    """For each user, a row before and one after the one that is looked for.

    Either is None where the sample has none.
    """

    def build(pipeline: beam.Pipeline) -> None:
        from tfrs_negatives.pipeline.combiners import JoinOrders

        beam = import_beam()
        summaries = (
            rows.read(pipeline)
            | "Sample" >> beam.FlatMap(_sampled, keys, counts)
            | "Join samples" >> beam.CombinePerKey(JoinOrders())
            | "Bracket" >> beam.Map(_bracket, counts)
        )
        write_summary((summaries,), step.folder, _BRACKETS)

    step.engine.run(build)
    found = step.folder.read_json(_BRACKETS)["found"]
    return {number: (low, high) for number, low, high in found}


def _first_rows(
    step: Step,
    rows: InputRows,
    keys: np.ndarray,
    counts: np.ndarray,
    brackets: dict[int, Any],
) -> dict[int, Row]:
    """The first of the last rows of the users that have brackets, if it is in them."""
    name = "_in_brackets.json"

    def build(pipeline: beam.Pipeline) -> None:
        from tfrs_negatives.pipeline.combiners import JoinOrders

        beam = import_beam()
        summaries = (
            rows.read(pipeline)
            | "Take" >> beam.FlatMap(_in_brackets, keys, brackets)
            | "Join rows" >> beam.CombinePerKey(JoinOrders())
            | "Choose" >> beam.Map(_chosen, counts)
        )
        write_summary((summaries,), step.folder, name)

    step.engine.run(build)
    found = step.folder.read_json(name)["found"]
    return {number: row for number, row in found if row is not None}


def _sampled(
    batch: pa.Table, keys: np.ndarray, counts: np.ndarray
) -> Iterator[tuple[int, tuple[int, Order]]]:
    """Rows of heavy users whose hash says so: about `_SAMPLE` of each."""
    order = row_order(batch)
    hashed = mix(tf.bitcast(pairs(order[1], order[2]), tf.uint64)).numpy()
    share = (hashed >> np.uint64(11)) / 2.0**53
    for number, is_of in _of_users(batch, keys):
        chosen = is_of & (share < _SAMPLE / counts[number])
        yield number, (0, _taken(order, chosen))


def _bracket(
    of_user: tuple[int, tuple[int, Order]], counts: np.ndarray
) -> dict[str, Any]:
    number, (_, order) = of_user
    size, num_before = len(order[0]), _num_before(counts[number])
    share = num_before / counts[number]
    width = _WIDTH * np.sqrt(size * share * (1 - share)) + 1
    low, high = int(share * size - width), int(np.ceil(share * size + width))
    rows = [_row(order, at) if 0 <= at < size else None for at in (low, high)]
    return {"found": [[number, *rows]]}


def _in_brackets(
    batch: pa.Table, keys: np.ndarray, brackets: dict[int, Any]
) -> Iterator[tuple[int, tuple[int, Order]]]:
    """How many rows are before a user's bracket, and those in it."""
    order = row_order(batch)
    for number, is_of in _of_users(batch, keys):
        if number not in brackets:
            continue
        low, high = brackets[number]
        is_before = np.zeros(len(is_of), bool)
        if low is not None:
            is_before = is_of & ~_at_or_after(order, low)
        is_in = is_of & ~is_before
        if high is not None:
            is_in &= ~_at_or_after(order, high)
        yield number, (int(is_before.sum()), _taken(order, is_in))


def _chosen(
    of_user: tuple[int, tuple[int, Order]], counts: np.ndarray
) -> dict[str, Any]:
    """The first of a user's last rows; None: the bracket does not have it."""
    number, (num_below, order) = of_user
    place = _num_before(counts[number]) - num_below
    row = _row(order, place) if 0 <= place < len(order[0]) else None
    return {"found": [[number, row]]}


def _num_before(count: int) -> int:
    return int(count - num_held_out(np.array([count]))[0])


def _of_users(batch: pa.Table, keys: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """For each heavy user of a batch, which rows it has."""
    heavy = positions_of(user_keys(batch), keys)
    for number in np.unique(heavy[heavy >= 0]).tolist():
        yield number, heavy == number


def _taken(order: Order, chosen: np.ndarray) -> Order:
    time, part, place = (column[chosen] for column in order)
    return time, part, place


def _row(order: Order, at: int) -> Row:
    time, part, place = (column[at].item() for column in order)
    return time, part, place


def _at_or_after(order: Order, row: Row) -> np.ndarray:
    """Which rows do not come before one of them: [n] bool."""
    time, part, place = order
    is_later = (part > row[1]) | ((part == row[1]) & (place >= row[2]))
    return (time > row[0]) | ((time == row[0]) & is_later)
