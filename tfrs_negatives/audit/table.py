"""Tables with ids as numbers: twelve bytes a row."""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from tfrs_negatives._ids import as_int64
from tfrs_negatives.data import interactions, sources

# Rows of a file that are read at a time.
_PART = 131_072
_SECONDS_A_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class AuditTable:
    """Positive interactions in file order, with positions for ids.

    Attributes:
      user, item, request: [n] int32 positions, each from 0 with none left out.
      user_ids, item_ids: [U] and [N] int64, ascending: integers as they are, hashes
        (63-bit SipHash) of strings.
      hashed: Names of the columns, of "user" and "item", whose ids are hashes.
      time: [n] seconds since 1970, or None: rows are in the order of events then.
      user_names: Dict from hash to id, for the users of a table whose ids are hashes,
        if asked for.
      name: Where the rows came from.
      request_rule: What a request is, in words.
      num_read: Rows that were read, n and those left out.
      num_dropped: Rows that were left out because their label was not above 0.
    """

    user: np.ndarray
    item: np.ndarray
    request: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    hashed: tuple
    time: np.ndarray | None
    user_names: dict | None
    name: str
    request_rule: str
    num_read: int
    num_dropped: int

    def __len__(self):
        return len(self.user)

    @property
    def num_users(self):
        return len(self.user_ids)

    @property
    def num_items(self):
        return len(self.item_ids)

    @property
    def num_requests(self):
        return int(self.request.max()) + 1


def read_table(
    path=None,
    *,
    tfds=None,
    data_dir=None,
    user=None,
    item=None,
    request=None,
    time=None,
    label=None,
    for_model=False,
    progress=None,
):
    """Reads a table of interactions for an audit.

    Files are read part by part: of a Parquet file one row group and 24 bytes a row are
    in memory. Arguments are those of `data.interactions`; without `path` and `tfds`,
    its default table.

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
    named["label"] = label
    sources.check_one(path, tfds, data_dir)
    if path is None:
        table = interactions(tfds=tfds, data_dir=data_dir, **named)
        columns = {"user": table.user, "item": table.item}
        if request is not None:
            columns["request"] = table.request
        if table.has_time:
            columns["time"] = table.time
        num_read, name = len(table) + table.num_dropped, table.name
    else:
        parts = sources.parts_of_file(path, {**named, "title": None})
        columns, num_read = _read(parts, for_model, progress)
        name = os.path.basename(path)
    return _coded(columns, name, num_read, request, for_model)


def comparable_ids(ids, hashed):
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


def _read(parts, for_model, progress):
    """The columns of a file, without rows whose label is not above 0."""
    found = {role: [] for role in parts.names}
    names = {} if for_model and parts.dtypes["user"] == tf.string else None
    position, num_read = parts.start, 0
    while position >= 0:
        read, position = parts.read(position, _PART)
        num_read += len(read["user"])
        kept = slice(None)
        if "label" in read:
            kept = read.pop("label") > 0
        for role, values in read.items():
            compact = _compact(role, values[kept])
            found[role].append(compact)
            if role == "user" and names is not None:
                _add_names(names, compact, values[kept])
        if progress is not None:
            progress(num_read)
    if not num_read:
        raise ValueError(
            f"{parts.source} must hold interactions, received an empty table. Check "
            "how it was written."
        )
    # One column at a time, so that parts of one and no more are there twice.
    columns = {}
    for role in ("user", "item", "request", "time"):
        if role in found:
            columns[role] = np.concatenate(found.pop(role))
    columns["hashed"] = tuple(
        role for role in ("user", "item") if parts.dtypes[role] == tf.string
    )
    columns["user_names"] = names
    return columns, num_read


def _add_names(names, hashes, values):
    distinct, first = np.unique(hashes, return_index=True)
    for number, name in zip(distinct.tolist(), values[first], strict=True):
        names.setdefault(number, _text(name))


def _text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _compact(role, values):
    if role == "time" or values.dtype.kind == "i":
        return values
    numbers = as_int64(role, tf.constant(values, tf.string)).numpy()
    if role == "request":
        numbers[values == (b"" if values.dtype.kind == "O" else "")] = -1
    return numbers


def _apart(requests):
    """Requests with another for each row that has none, and how many rows those are.

    A request that is negative or "" is none, as it is for the pipelines and the task.
    """
    without = requests < 0
    num_without = np.count_nonzero(without)
    if num_without:
        requests = requests.copy()
        requests[without] = -1 - np.arange(num_without)
    return requests, num_without


def _coded(columns, name, num_read, request, for_model):
    """The table from columns of ids."""
    hashed = columns.pop("hashed", None)
    if hashed is None:
        hashed = tuple(r for r in ("user", "item") if columns[r].dtype.kind == "U")
    names, num_rows = columns.pop("user_names", None), len(columns["user"])
    if not num_rows:
        raise ValueError(
            f"The label column of {name} must be above 0 where an interaction is "
            f"positive, received no such row of {num_read}. Name another label column, "
            "or leave the label out."
        )
    ids, codes = {}, {}
    for role in ("user", "item", "request"):
        if role in columns:
            values = columns.pop(role)
            if values.dtype.kind == "U":
                strings = values
                values = _compact(role, strings)
                if role == "user" and for_model:
                    names = {}
                    _add_names(names, values, strings)
            if role == "request":
                values, num_without = _apart(values)
            ids[role], codes[role] = _codes(values)
            del values
    for role in ("user", "item"):
        if len(ids[role]) < 2:
            raise ValueError(
                f"{name} must hold at least 2 {role}s, received 1 in {num_rows} rows. "
                "Load a table with more of them, or name another column."
            )
    time = columns.get("time")
    if "request" in codes:
        rule = f"rows of equal {request!r}"
        if num_without:
            rule += f", and each of {num_without:,} rows without one"
    elif time is None:
        codes["request"], rule = codes["user"], "all rows of a user"
    else:
        day = np.floor_divide(time, _SECONDS_A_DAY).astype(np.int64)
        day -= day.min()
        day += codes["user"] * (day.max() + 1)
        codes["request"] = _codes(day)[1]
        rule = "rows of one user on one UTC day"
    return AuditTable(
        **codes,
        user_ids=ids["user"],
        item_ids=ids["item"],
        hashed=hashed,
        time=time if for_model else None,
        user_names=names,
        name=name,
        request_rule=rule,
        num_read=num_read,
        num_dropped=num_read - num_rows,
    )


def _codes(values):
    """Distinct values, ascending, and where each row's is: int32."""
    ids, codes = np.unique(values, return_inverse=True)
    return ids, codes.astype(np.int32)
