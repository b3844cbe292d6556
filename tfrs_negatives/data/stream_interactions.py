"""Tables of interactions that need not fit into memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, pairs
from tfrs_negatives.data import table_sources
from tfrs_negatives.types import Features, PathLike

if TYPE_CHECKING:
    from tfrs_negatives.data.table_parts import TableParts

# A part of a table takes as long to ask for as this many rows take to read.
_MIN_PART = 8_192
_SECONDS_A_DAY = 86_400


def stream_interactions(
    path: PathLike | None = None,
    *,
    tfds: str | None = None,
    data_dir: PathLike | None = None,
    user: str | None = None,
    item: str | None = None,
    request: str | None = None,
    time: str | None = None,
    label: str | None = None,
    title: str | None = None,
    batch_size: int = 8_192,
) -> tf.data.Dataset:
    """Reads a table of interactions batch by batch, in file order.

    The columns are named as in `interactions`, which holds a whole table in memory. All
    rows come, whatever their label. Memory: of a Parquet file one row group (write it
    with `row_group_size`) and two batches, of others two batches.

    Iterators checkpoint, and a restored one reads on from its place; in a text file it
    passes over the rows before. A file is read by Python functions: the dataset cannot
    be sent to another process.

    Args:
      path: A `.csv`, `.tsv` (or either with `.gz`) or `.parquet` file. Text files are
        UTF-8, with a header. Or a folder of such files, whose folders may name columns
        (`dt=2024-05-01`), a glob (`"log/*.parquet"`), or either on a file system of
        fsspec (`"s3://bucket/log"`). Files come in the order of their paths.
      tfds: A TensorFlow Datasets name, such as "movielens/100k-ratings", split "train".
      data_dir: The TensorFlow Datasets directory; None: its default.
      user, item: Names of the id columns. Known sources have their own defaults,
        files "user" and "item". Where a Parquet file has lists of items (baskets),
        each item is a row.
      request: Name of the column that groups rows served together. None: what rows of
        one user on one UTC day share, a hash (without times, the user).
      time: Name of the time column: seconds since 1970, or dates (UTC unless they
        say otherwise), all written alike, as the first rows tell. None: no times,
        unless the source is a known one.
      label: Name of a column of numbers, or of true and false.
      title: Name of a column of item titles. Titles may be missing ("").
      batch_size: Rows of a batch; `unbatch()` gives single rows.

    Returns:
      A `tf.data.Dataset` of dicts of vectors: "user", "item" and "request" int64 where
      the column holds integers, else strings (always, from text files: only the whole
      file would tell); where there are such columns "time", float64 seconds since 1970,
      "label", float64, and "title", strings.

    Raises:
      ValueError: A source or column that is not there or cannot be read.
      ImportError: A package that the source needs is not installed.
      tf.errors.InvalidArgumentError: While iterating: nulls, values of another type
        than their column should have, rows that were cut off, files that cannot be
        read any more or have changed. Batches before have come, but for some of the
        rows next to what is wrong.
    """
    _checks.check_at_least("batch_size", batch_size, 1)
    named = {
        "user": user,
        "item": item,
        "request": request,
        "time": time,
        "label": label,
        "title": title,
    }
    table_sources.check_one(path, tfds, data_dir)
    if path is not None:
        batches = _from_parts(table_sources.parts_of_path(path, named), batch_size)
    elif tfds is not None:
        dataset, names, source = table_sources.tfds_dataset(tfds, data_dir, named)
        if "time" in names:
            _check_form_of_times(dataset, names["time"], source)
        batches = dataset.batch(batch_size).map(lambda row: _features(row, names))
    else:
        raise ValueError(
            "Expected a source to stream, received none. Pass `path` or `tfds`; "
            "`interactions()` loads the default table."
        )
    return batches.map(with_request)


def _from_parts(parts: TableParts, batch_size: int) -> tf.data.Dataset:
    """Batches of what `table_parts.TableParts` hold."""
    num = max(batch_size, _MIN_PART)
    roles = sorted(parts.dtypes)

    def read(position: np.int64) -> list[Any]:
        if position < 0:
            nothing = [np.zeros(0, _numpy_dtype(parts.dtypes[role])) for role in roles]
            return [np.int64(-1), *nothing]
        columns, after = parts.read(int(position), num)
        return [np.int64(after), *(_array(columns[r], parts.dtypes[r]) for r in roles)]

    def step(
        position: tf.Tensor, _: tf.Tensor
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, Features]]:
        dtypes = [tf.int64, *(parts.dtypes[role] for role in roles)]
        # A position has its rows: not stateful.
        after, *columns = tf.numpy_function(read, [position], dtypes, stateful=False)
        columns = [tf.ensure_shape(column, [None]) for column in columns]
        element = dict(zip(roles, columns, strict=True))
        return tf.ensure_shape(after, []), (position >= 0, element)

    start = tf.constant(0, tf.int64)
    dataset = tf.data.Dataset.counter().scan(start, step)
    dataset = dataset.take_while(lambda is_part, _: is_part)
    return dataset.map(lambda _, element: element).rebatch(batch_size)


def _array(column: Any, dtype: tf.DType) -> np.ndarray:
    if dtype == tf.string:
        return column.bytes()
    return column.astype(dtype.as_numpy_dtype)


def _numpy_dtype(dtype: tf.DType) -> Any:
    return object if dtype == tf.string else dtype.as_numpy_dtype


def _features(row: Features, names: Mapping[str, str]) -> Features:
    """Columns of a TFDS data set by role, as those of files."""
    features = {}
    for role, name in names.items():
        column = row[name]
        if role in table_sources.ID_ROLES:
            is_string = column.dtype == tf.string
            if not (is_string or column.dtype.is_integer):
                raise ValueError(
                    f"Ids in column {name!r} must be integers or strings, received "
                    f"{column.dtype.name}. Name another column."
                )
            features[role] = column if is_string else tf.cast(column, tf.int64)
        else:
            features[role] = column if role == "title" else _numbers(column, role, name)
    return features


def _check_form_of_times(dataset: tf.data.Dataset, name: str, source: str) -> None:
    """Raises `ValueError` where the first times are dates written as one number."""
    import pyarrow as pa

    from tfrs_negatives.data import times

    first = dataset.map(lambda row: row[name]).batch(_MIN_PART).take(1)
    for values in first.as_numpy_iterator():
        column = pa.array(values)
        form = times.form(column)
        if form is not None and form.digits:
            times.seconds(column, form, name, source)


def _numbers(column: tf.Tensor, role: str, name: str) -> tf.Tensor:
    """A column of times or labels as float64, checked as those of files are."""
    if not (column.dtype.is_floating or column.dtype.is_integer):
        raise ValueError(
            f"Column `{name}` must hold numbers, received {column.dtype.name}. Name "
            "another column."
        )
    numbers = tf.cast(column, tf.float64)
    checks = [
        tf.debugging.Assert(
            tf.reduce_all(tf.math.is_finite(numbers)),
            [
                f"Column `{name}` must have a number in every row, received nulls. "
                "Fill them or drop those rows."
            ],
        )
    ]
    if role == "time":
        from tfrs_negatives.data.times import LATEST_TIME

        latest = tf.reduce_max(tf.abs(numbers))
        checks.append(
            tf.debugging.Assert(
                ~(latest > LATEST_TIME),
                [
                    f"Column `{name}` must hold seconds since 1970. Divide "
                    "milliseconds by 1,000, microseconds by 1,000,000. Received:",
                    latest,
                ],
            )
        )
    return _checks.guard(numbers, *checks)


def with_request(features: Features) -> Features:
    """Features of rows with a default "request": a user's UTC day, or the user."""
    if "request" in features:
        return features
    request = features["user"]
    if "time" in features:
        day = tf.cast(tf.floor(features["time"] / _SECONDS_A_DAY), tf.int64)
        request = pairs(as_int64("user", request), day)
    return {**features, "request": request}
