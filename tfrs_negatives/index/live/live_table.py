"""The rows of a live index: all that there are, and which of them count."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tfrs_negatives.index.filters.filter_columns import AttributeValues
from tfrs_negatives.index.live.approximate_rows import ApproximateRows
from tfrs_negatives.index.live.growing_array import GrowingArray
from tfrs_negatives.index.live.live_changes import Change, Delete, Upsert
from tfrs_negatives.index.live.live_columns import COLUMNS, Arrays, LiveColumn
from tfrs_negatives.index.live.live_schema import LiveSchema

# Later than any change.
_NEVER = np.iinfo(np.int64).max


class Applied(NamedTuple):
    """What a change did.

    Attributes:
      result: Of an `Upsert`, how many items are new; of a `Delete`, how many there
        were.
      num_changed: How many items it added, replaced or took away.
    """

    result: int
    num_changed: int


@dataclasses.dataclass(frozen=True)
class LiveState:
    """What a search sees: the rows after one change, whatever comes after it.

    Attributes:
      sequence: The number of the last change.
      embeddings: `[N, d]` float32.
      ids: `[N]`.
      gone_at: `[N]` int64, the number of the change that took each row away. Later
        changes write here too, numbers above `sequence`.
      payload: Columns by name, `[N]`.
      attributes: What a filter reads, by name.
      num_items: How many rows count.
      approximate: Searches the first rows; None: all are searched exactly.
    """

    sequence: int
    embeddings: np.ndarray
    ids: np.ndarray
    gone_at: np.ndarray
    payload: dict[str, np.ndarray]
    attributes: dict[str, AttributeValues]
    num_items: int
    approximate: ApproximateRows | None

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.gone_at)

    @functools.cached_property
    def alive(self) -> np.ndarray | None:
        """Which rows count, `[N]` bool; None: all do."""
        if self.num_items == self.num_rows:
            return None
        return self.gone_at > self.sequence

    def alive_rows(self) -> np.ndarray:
        """Numbers of the rows that count, ascending."""
        if self.alive is None:
            return np.arange(self.num_rows)
        return np.flatnonzero(self.alive)


class LiveTable:
    """Rows in the order in which they came.

    A row is never changed. To replace an item is to add a row and to say from which
    change on the earlier one does not count. So a `LiveState` costs no copy, and a
    search that has one goes on while rows are added.

    Args:
      schema: The kinds of its columns.
      embeddings: `[N, d]` float32 of its own, not copied.
      ids: A column.
      payload: Columns by name.
      attributes: Columns by name.
    """

    def __init__(
        self,
        schema: LiveSchema,
        embeddings: np.ndarray,
        ids: LiveColumn,
        payload: dict[str, LiveColumn],
        attributes: dict[str, LiveColumn],
    ) -> None:
        self._schema = schema
        self._embeddings = GrowingArray(embeddings)
        self._ids, self._payload, self._attributes = ids, payload, attributes
        self._gone_at = GrowingArray(np.full(len(embeddings), _NEVER, np.int64))
        self._row_of = {each: row for row, each in enumerate(ids.view().tolist())}

    @classmethod
    def of(cls, schema: LiveSchema, items: Upsert) -> LiveTable:
        """The table of the first items."""
        return cls(
            schema,
            items.embeddings.copy(),
            COLUMNS[schema.id_kind].of(items.ids),
            _columns(schema.payload, items.payload),
            _columns(schema.attributes, items.attributes),
        )

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def num_rows(self) -> int:
        """How many rows there are, with those that do not count any more."""
        return len(self._gone_at)

    def apply(self, change: Change, sequence: int) -> Applied:
        """Applies a checked change.

        Args:
          change: The change.
          sequence: Its number.
        """
        before = len(self)
        self._take_away(change.ids, sequence)
        gone = before - len(self)
        if isinstance(change, Delete):
            return Applied(gone, gone)
        first = self.num_rows
        self._append(change)
        self._gone_at.append(np.full(len(change.ids), _NEVER, np.int64))
        self._row_of.update(zip(change.ids, range(first, self.num_rows), strict=True))
        return Applied(len(change.ids) - gone, len(change.ids))

    def state(
        self, sequence: int, approximate: ApproximateRows | None = None
    ) -> LiveState:
        """The rows as they are, after change number `sequence`."""
        return LiveState(
            sequence,
            self._embeddings.view(),
            self._ids.view(),
            self._gone_at.view(),
            {name: column.view() for name, column in self._payload.items()},
            {name: column.view() for name, column in self._attributes.items()},
            len(self),
            approximate,
        )

    def arrays(self, rows: np.ndarray) -> dict[str, Arrays]:
        """Some rows as arrays by column, for `from_arrays`."""
        return {
            "embeddings": {"values": self._embeddings.view()[rows]},
            "ids": self._ids.arrays(rows),
            **{f"payload {n}": c.arrays(rows) for n, c in self._payload.items()},
            **{f"attribute {n}": c.arrays(rows) for n, c in self._attributes.items()},
        }

    @classmethod
    def from_arrays(
        cls, schema: LiveSchema, arrays: Mapping[str, Mapping[str, np.ndarray]]
    ) -> LiveTable:
        """The table that `arrays` returned these of; they become its own."""

        def columns(prefix: str, kinds: Mapping[str, str]) -> dict[str, LiveColumn]:
            return {
                name: COLUMNS[kind].from_arrays(arrays[f"{prefix} {name}"])
                for name, kind in kinds.items()
            }

        return cls(
            schema,
            arrays["embeddings"]["values"],
            COLUMNS[schema.id_kind].from_arrays(arrays["ids"]),
            columns("payload", schema.payload),
            columns("attribute", schema.attributes),
        )

    def catch_up(self, other: LiveTable, rows: np.ndarray, num_rows: int) -> None:
        """Takes over what has happened to another table since this was made of it.

        Args:
          other: The table whose `arrays(rows)` this was made of.
          rows: The row of `other` that each row of this was.
          num_rows: How many rows `other` had then.
        """
        gone_at = other._gone_at.view()
        gone = np.flatnonzero(gone_at[rows] < _NEVER)
        self._gone_at.view()[gone] = gone_at[rows[gone]]
        for each in self._ids.values(gone):
            del self._row_of[each]
        new = np.arange(num_rows, other.num_rows)
        first = self.num_rows
        self._append(other._items(new))
        self._gone_at.append(gone_at[new])
        for row, each in enumerate(self._ids.view()[first:].tolist(), first):
            if self._gone_at.view()[row] == _NEVER:
                self._row_of[each] = row

    def _take_away(self, ids: list[Any], sequence: int) -> None:
        gone_at = self._gone_at.view()
        for each in ids:
            row = self._row_of.pop(each, None)
            if row is not None:
                gone_at[row] = sequence

    def _append(self, items: Upsert) -> None:
        if not items.ids:
            return
        self._embeddings.append(items.embeddings)
        self._ids.append(items.ids)
        for name, column in self._payload.items():
            column.append(items.payload[name])
        for name, column in self._attributes.items():
            column.append(items.attributes[name])

    def _items(self, rows: np.ndarray) -> Upsert:
        return Upsert(
            self._ids.values(rows),
            self._embeddings.view()[rows],
            {name: column.values(rows) for name, column in self._payload.items()},
            {name: column.values(rows) for name, column in self._attributes.items()},
        )


def _columns(
    kinds: Mapping[str, str], values: Mapping[str, list[Any]]
) -> dict[str, LiveColumn]:
    return {name: COLUMNS[kind].of(values[name]) for name, kind in kinds.items()}
