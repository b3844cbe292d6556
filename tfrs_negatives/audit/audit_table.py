"""Tables with ids as numbers: twelve bytes a row once they are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfrs_negatives._ids import as_int64
from tfrs_negatives.data import table_sources
from tfrs_negatives.data.id_vocabulary import hashes_of
from tfrs_negatives.data.time_range import time_range
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    from tfrs_negatives.data.arrow_columns import EncodedText
    from tfrs_negatives.data.table_parts import TableParts

_SECONDS_A_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class AuditTable:
    """Positive interactions in file order, with positions for ids.

    Attributes:
      user, item, request: [n] int32 positions, each from 0 with none left out.
      user_ids, item_ids: [U] and [N] int64, by first appearance: integers as they
        are, hashes (63-bit SipHash) of strings.
      hashed: Names of the columns, of "user" and "item", whose ids are hashes.
      time: [n] seconds since 1970, or None: rows are in the order of events then.
      time_range: The first and the last time in words, or "none".
      user_names: Dict from hash to id, for the users of a table whose ids are hashes,
        if asked for.
      name: Where the rows came from.
      request_rule: What a request is, in words.
      num_read: Rows that were read, n and those left out.
      num_dropped: Rows that were left out because their label was not above 0.

    Example:
      >>> import pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp(), "log.csv")
      >>> _ = path.write_text("user,item\\nann,3\\nbob,4\\nann,5\\n")
      >>> table = tn.audit.read_table(path)
      >>> table.num_users, table.num_items, table.user.tolist()
      (2, 3, [0, 1, 0])
    """

    user: np.ndarray
    item: np.ndarray
    request: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    hashed: tuple[str, ...]
    time: np.ndarray | None
    time_range: str
    user_names: dict[int, str] | None
    name: str
    request_rule: str
    num_read: int
    num_dropped: int

    def __len__(self) -> int:
        return len(self.user)

    @property
    def num_users(self) -> int:
        """How many users there are."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """How many items there are."""
        return len(self.item_ids)

    @property
    def num_requests(self) -> int:
        """How many requests there are."""
        return int(self.request.max()) + 1


def read_table(
    path: PathLike | None = None,
    *,
    tfds: str | None = None,
    data_dir: PathLike | None = None,
    user: str | None = None,
    item: str | None = None,
    request: str | None = None,
    time: str | None = None,
    label: str | None = None,
    for_model: bool = False,
    progress: Callable[[int], None] | None = None,
) -> AuditTable:
    """Reads a table of interactions for an audit.

    Files are read part by part: while they are, 8 bytes a row and column are in memory,
    and of a Parquet file one row group. Arguments are those of `data.interactions`;
    without `path` and `tfds`, its default table.

    Args:
      path, tfds, data_dir, user, item, request, time, label: As there.
      for_model: Whether to keep the times and the users' ids, which an audit with a
        model needs.
      progress: Function of the number of rows read so far, or None.

    Returns:
      `AuditTable`.

    Raises:
      ValueError, ImportError: As `data.interactions`.
    """
    named = {"user": user, "item": item, "request": request, "time": time}
    parts = table_sources.parts(path, tfds, data_dir, {**named, "label": label})
    return _table(parts, *_read(parts, for_model, progress), for_model)


def request_rule(parts: TableParts) -> str:
    """What a request of a table is, in words."""
    if "request" in parts.names:
        return f"rows of equal {parts.names['request']!r}"
    if "time" in parts.names:
        return "rows of one user on one UTC day"
    return "all rows of a user"


def comparable_ids(ids: ArrayLike, hashed: bool) -> np.ndarray | None:
    """Ids as int64 that can be compared with those of a table.

    Args:
      ids: [m] integers or strings, bytes perhaps.
      hashed: Whether the table's ids are hashes of strings.

    Returns:
      [m] int64, or None where they cannot be: strings that are no whole numbers, for a
      table of integers.
    """
    ids = np.asarray(ids)
    is_integer = ids.dtype.kind in "iu"
    if hashed:
        texts = [str(value) for value in ids.tolist()] if is_integer else ids.tolist()
        return as_int64("ids", tf.constant(texts, tf.string)).numpy()
    if is_integer:
        return ids.astype(np.int64)
    try:
        return np.array([int(text) for text in ids.tolist()], np.int64)
    except (OverflowError, ValueError):
        return None


def _read(
    parts: TableParts, for_model: bool, progress: Callable[[int], None] | None
) -> tuple[dict[str, np.ndarray], dict[int, str] | None, int]:
    """The columns of a table without rows whose label is not above 0.

    Returns:
      Dict from role to int64 ids, or times; dict from hash to id of the users, or
      None; and how many rows were read.
    """
    found: dict[str, list[np.ndarray]] = {
        role: [] for role in parts.names if role != "label"
    }
    names: dict[int, str] | None = (
        {} if for_model and parts.dtypes["user"] == tf.string else None
    )
    num_read = 0
    for part in parts.checked(progress):
        num_read += len(part["user"])
        kept: Any = slice(None)
        if "label" in part:
            kept = part["label"] > 0
        for role in found:
            found[role].append(_compact(part[role], kept))
        if names is not None:
            _add_names(names, part["user"], kept)
    # One column at a time, so that parts of one and no more are there twice.
    columns = {role: np.concatenate(found.pop(role)) for role in list(found)}
    return columns, names, num_read


def _compact(column: np.ndarray | EncodedText, kept: np.ndarray | slice) -> np.ndarray:
    if isinstance(column, np.ndarray):
        return column[kept]
    return hashes_of(column.values)[column.codes[kept]]


def _add_names(
    names: dict[int, str], column: EncodedText, kept: np.ndarray | slice
) -> None:
    used = np.unique(column.codes[kept])
    values = column.values.take(used)
    for number, name in zip(
        hashes_of(values).tolist(), values.to_pylist(), strict=True
    ):
        names.setdefault(number, name)


def _table(
    parts: TableParts,
    columns: dict[str, np.ndarray],
    names: dict[int, str] | None,
    num_read: int,
    for_model: bool,
) -> AuditTable:
    """The table from columns of ids."""
    num_rows = len(columns["user"])
    table_sources.check_positive(parts, num_rows, num_read)
    ids, codes = {}, {}
    for role in table_sources.ID_ROLES:
        if role in columns:
            ids[role], codes[role] = _codes(columns.pop(role))
    for role in ("user", "item"):
        table_sources.check_several(parts, role, codes[role])
    time = columns.get("time")
    if "request" not in codes:
        codes["request"] = codes["user"]
        if time is not None:
            codes["request"] = _days(codes["user"], time)
    return AuditTable(
        **codes,
        user_ids=ids["user"],
        item_ids=ids["item"],
        hashed=tuple(r for r in ("user", "item") if parts.dtypes[r] == tf.string),
        time=time if for_model else None,
        time_range="none" if time is None else time_range(time.min(), time.max()),
        user_names=names,
        name=parts.name,
        request_rule=request_rule(parts),
        num_read=num_read,
        num_dropped=num_read - num_rows,
    )


def _days(user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Numbers of pairs of a user and a UTC day."""
    day = np.floor_divide(time, _SECONDS_A_DAY).astype(np.int64)
    day -= day.min()
    day += user * (day.max() + 1)
    return _codes(day)[1]


def _codes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values by first appearance, and where each row's is: int32.

    What they are called changes nothing, so neither does it change an audit.
    """
    import pyarrow as pa

    encoded = pa.array(values).dictionary_encode()
    ids = encoded.dictionary.to_numpy()
    return ids, encoded.indices.to_numpy()
