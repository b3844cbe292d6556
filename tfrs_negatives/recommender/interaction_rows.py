"""A table of interactions, read once and kept by user outside memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrs_negatives.data import table_sources
from tfrs_negatives.data.id_vocabulary import IdNumbers, IdVocabulary
from tfrs_negatives.data.row_buckets import RowBuckets
from tfrs_negatives.data.time_range import time_range
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    from tfrs_negatives.data.table_parts import TableParts

_SECONDS_A_DAY = 86_400
# Roles whose values are numbered.
_NUMBERED = ("user", "item", "request", "title")


@dataclasses.dataclass(frozen=True)
class Window:
    """All rows of some users, in the order of the table; columns [n].

    Attributes:
      row: Places in the table.
      user, item: Numbers of the ids.
      request: A number for each request.
      time: Seconds since 1970; without times, `row`.
      title: Numbers of the titles, or None.
    """

    row: np.ndarray
    user: np.ndarray
    item: np.ndarray
    request: np.ndarray
    time: np.ndarray
    title: np.ndarray | None

    def take(self, rows: np.ndarray) -> Window:
        """Some of the rows, by [n] bool."""
        return Window(
            row=self.row[rows],
            user=self.user[rows],
            item=self.item[rows],
            request=self.request[rows],
            time=self.time[rows],
            title=None if self.title is None else self.title[rows],
        )


@dataclasses.dataclass(frozen=True)
class InteractionRows:
    """Positive interactions in buckets by user, and the numbers of their ids.

    Attributes:
      users, items: `IdNumbers`.
      requests, titles: The same, or None without such a column.
      source: Where the rows came from, for messages.
      num_rows: How many rows there are.
      num_dropped: Rows that were left out because their label was not above 0.
      times: The first and the last time, or None without a time column.
      first_held_out: Place of the first row of the table that is held out, which all
        later ones are of too; None where no such table was given.
    """

    users: IdNumbers
    items: IdNumbers
    requests: IdNumbers | None
    titles: IdNumbers | None
    source: str
    num_rows: int
    num_dropped: int
    times: tuple[float, float] | None
    first_held_out: int | None
    _buckets: RowBuckets = dataclasses.field(repr=False)

    @property
    def time_range(self) -> str:
        """The first and the last time in words; "none" without a time column."""
        return "none" if self.times is None else time_range(*self.times)

    def windows(self) -> Iterator[Window]:
        """The rows, some users' after the others'; once, as their room is freed."""
        for buckets in self._buckets.windows():
            rows = self._buckets.read(buckets)
            self._buckets.forget(buckets)
            user = self.users(rows["user"])
            title = None if self.titles is None else self.titles(rows["title"])
            yield Window(
                row=rows["row"],
                user=user,
                item=self.items(rows["item"]),
                request=self._request(rows, user),
                time=rows["row"] if self.times is None else rows["time"],
                title=title,
            )

    def _request(self, rows: np.ndarray, user: np.ndarray) -> np.ndarray:
        """What was named, or else a user's UTC day, or a user."""
        if self.requests is not None:
            return self.requests(rows["request"])
        if self.times is None:
            return user
        first, last = (int(time // _SECONDS_A_DAY) for time in self.times)
        day = np.floor_divide(rows["time"], _SECONDS_A_DAY).astype(np.int64)
        return user * (last - first + 1) + day - first


def read_rows(
    parts: TableParts,
    folder: PathLike,
    progress: Callable[[int], None] | None = None,
    held_out: TableParts | None = None,
) -> InteractionRows:
    """Reads a table once, part by part.

    Args:
      parts: The table.
      folder: Where rows are written, if they are more than a million.
      progress: Function of the number of rows read so far, or None.
      held_out: A table of the same columns, whose rows come behind the others.

    Returns:
      `InteractionRows`.

    Raises:
      ValueError: As `data.interactions`; columns or ids of `held_out` that differ.
      OSError: No room in the folder.
    """
    if held_out is not None:
        _check_alike(parts, held_out)
    vocabularies = {
        role: IdVocabulary(parts.is_text and role != "title")
        for role in _NUMBERED
        if role in parts.names
    }
    fields = [("row", "i8"), *((role, "i8") for role in vocabularies)]
    if "time" in parts.names:
        fields.append(("time", "f8"))
    buckets = RowBuckets(np.dtype(fields), folder)
    num_dropped, first, last = 0, np.inf, -np.inf

    def add(part: dict[str, Any]) -> None:
        nonlocal num_dropped, first, last
        kept: Any = part["label"] > 0 if "label" in part else slice(None)
        columns = {role: part[role][kept] for role in part if role != "label"}
        num = len(columns["user"])
        num_dropped += len(part["user"]) - num
        rows = np.empty(num, buckets.dtype)
        rows["row"] = len(buckets) + np.arange(num)
        for role, vocabulary in vocabularies.items():
            rows[role] = vocabulary.add(columns[role])
        if "time" in columns and num:
            # Seconds are below 10^11: float64 has whole ones exactly.
            rows["time"] = columns["time"]
            first = min(first, rows["time"].min())
            last = max(last, rows["time"].max())
        buckets.add(rows, rows["user"])

    def told(num_rows: int) -> None:
        if progress is not None:
            progress(num_before + num_rows)

    first_held_out, num_before = None, 0
    for table in (parts,) if held_out is None else (parts, held_out):
        if table is held_out:
            first_held_out = len(buckets)
        num_kept, num_lost = len(buckets), num_dropped
        for part in table.checked(told):
            add(part)
        num_kept, num_lost = len(buckets) - num_kept, num_dropped - num_lost
        table_sources.check_positive(table, num_kept, num_kept + num_lost)
        num_before = len(buckets) + num_dropped
    numbers = {role: vocabulary.finish() for role, vocabulary in vocabularies.items()}
    for role in ("user", "item"):
        if len(numbers[role]) < 2:
            raise table_sources.only_one(parts, role, len(buckets))
    return InteractionRows(
        users=numbers["user"],
        items=numbers["item"],
        requests=numbers.get("request"),
        titles=numbers.get("title"),
        source=parts.source,
        num_rows=len(buckets),
        num_dropped=num_dropped,
        times=(float(first), float(last)) if "time" in parts.names else None,
        first_held_out=first_held_out,
        _buckets=buckets,
    )


def _check_alike(parts: TableParts, held_out: TableParts) -> None:
    """Raises `ValueError` where two tables cannot be one behind the other."""
    if set(parts.names) != set(held_out.names):
        raise ValueError(
            f"{held_out.source}, which is held out, must have the columns of "
            f"{parts.source}: expected {', '.join(sorted(parts.names))}, received "
            f"{', '.join(sorted(held_out.names))}. Write both alike."
        )
    for role in _NUMBERED:
        if role not in parts.names:
            continue
        ids, others = (_kind_of_ids(table, role) for table in (parts, held_out))
        if ids != others:
            raise ValueError(
                f"Column {held_out.names[role]!r} of {held_out.source} must hold what "
                f"it holds in {parts.source}: expected {ids}, received {others}. Write "
                "both alike."
            )


def _kind_of_ids(parts: TableParts, role: str) -> str:
    if parts.is_text:  # Whole numbers, if all of them are.
        return "text of a .csv or .tsv file"
    return "whole numbers" if parts.dtypes[role].is_integer else "strings"
