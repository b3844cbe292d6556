"""Chunks of rows with their keys: what pipelines of requests work on.

A TensorFlow function for every single row would cost more than a training step; one
for a thousand rows costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, keys_or_own, mix, pairs

#: The name of a feature, or its place in a tuple.
Key: TypeAlias = str | int

#: Tensors [n, ...] of n rows, in the structure of a dataset's elements.
Rows: TypeAlias = Any

_MIN_CHUNK = 1024


def check_sizes(batch_size: int, buffer_size: int) -> None:
    """Raises `ValueError` where they are out of range."""
    _checks.check_at_least("batch_size", batch_size, 1)
    _checks.check_at_least("buffer_size", buffer_size, 1)
    if buffer_size < batch_size:
        raise ValueError(
            f"`buffer_size` must be at least `batch_size`, expected {batch_size} rows "
            f"or more, received {buffer_size}."
        )


def row_chunks(
    dataset: tf.data.Dataset,
    key: Key | Sequence[Key],
    batch_size: int,
    input_context: tf.distribute.InputContext | None = None,
    key_mask: Key | None = None,
) -> tf.data.Dataset:
    """Cuts a dataset into chunks of rows, with a last empty one that says so.

    Args:
      dataset: Yields rows, or batches of rows (of any sizes), as dicts or tuples of
        dense tensors whose shapes are known but for the batch.
      key: Name (or place, in a tuple) of the key, or a list of several.
      batch_size: How many rows a batch will have.
      input_context: `tf.distribute.InputContext`: keeps this pipeline's requests only.
      key_mask: Name (or place) of a feature that says which rows have a key; None: all.

    Returns:
      A dataset of dicts: "rows", the elements' structure with one more axis [n, ...];
      "keys", [n] int64, equal for rows of one request, of its own for each row without
      a key; "has_key", [n] bool; "is_last", bool, whether nothing follows.

    Raises:
      ValueError: No such key, keys that are neither integers nor strings, a mask that
        is not bool, features that cannot be batched.
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise ValueError(
            f"`dataset` must be a `tf.data.Dataset`, received {type(dataset).__name__}."
            " Make one with `tf.data.Dataset.from_tensor_slices`."
        )
    keys: list[Any] = list(key) if isinstance(key, (list, tuple)) else [key]
    if not keys:
        raise ValueError(
            "`key` must name at least one feature of the dataset, received none."
        )
    is_batched = _check_spec(dataset.element_spec, keys, key_mask)
    size = max(batch_size, _MIN_CHUNK)
    dataset = dataset.rebatch(size) if is_batched else dataset.batch(size)
    spec = dataset.element_spec
    empty = tf.nest.map_structure(empty_rows, spec)
    last = tf.data.Dataset.from_tensors((empty, True))
    is_spread = type(spec) is tuple  # `map` spreads tuples over arguments.
    chunks = dataset.map(lambda *rows: (rows if is_spread else rows[0], False))
    chunks = chunks.concatenate(last)

    def add_keys(
        num_before: tf.Tensor, chunk: tuple[Rows, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, Any]]:
        rows, is_last = chunk
        column = _keys(rows, keys)
        places = num_before + tf.range(tf.size(column, tf.int64))
        has_key = tf.ones_like(column, tf.bool) if key_mask is None else rows[key_mask]
        keyed = {
            "rows": rows,
            "keys": keys_or_own(column, has_key, places),
            "has_key": has_key,
        }
        if input_context is not None and input_context.num_input_pipelines > 1:
            keyed = _own(keyed, input_context)
        return num_before + tf.size(column, tf.int64), {**keyed, "is_last": is_last}

    return chunks.scan(tf.zeros([], tf.int64), add_keys)


def empty_rows(spec: tf.TensorSpec) -> tf.Tensor:
    """No rows [0, ...] of a batched feature, by its `tf.TensorSpec`."""
    return tf.zeros([0, *spec.shape[1:]], spec.dtype)


def join(first: Rows, second: Rows) -> Rows:
    """The rows of the first structure, then those of the second."""
    return tf.nest.map_structure(lambda *both: tf.concat(both, 0), first, second)


def take(rows: Rows, places: tf.Tensor) -> Rows:
    """The rows at these places."""
    return tf.nest.map_structure(lambda feature: tf.gather(feature, places), rows)


def slices(rows: Rows, ends: tf.Tensor) -> tf.data.Dataset:
    """A dataset of batches: rows up to ends[0], then up to ends[1], and so on."""
    starts = tf.concat([[0], ends], 0)

    def batch(i: tf.Tensor) -> Rows:
        return tf.nest.map_structure(lambda f: f[starts[i] : starts[i + 1]], rows)

    return tf.data.Dataset.range(tf.size(ends, tf.int64)).map(batch)


def _check_spec(spec: Any, keys: Sequence[Any], key_mask: Any) -> bool:
    """Whether elements are batches of rows."""
    if not isinstance(spec, (dict, tuple)):
        raise ValueError(
            f"`dataset` must yield dicts or tuples of features, received {spec}. Map "
            'it to `{"key": ..., "feature": ...}`.'
        )
    for feature in tf.nest.flatten(spec):
        if not isinstance(feature, tf.TensorSpec):
            raise ValueError(
                f"Features must be dense tensors, received {feature}. Convert it with "
                "`.to_tensor()` in a `map`."
            )
    names = sorted(spec) if isinstance(spec, dict) else list(range(len(spec)))
    ranks = []
    for key in keys:
        if isinstance(key, bool) or key not in names:
            raise ValueError(
                f"`key` must name a feature of the dataset, received {key!r}. Name "
                f"one of {names}."
            )
        column = spec[key]
        dtype = getattr(column, "dtype", None)
        # As int64, large unsigned keys would be negative.
        is_key = dtype == tf.string or (dtype and dtype.is_integer)
        if not is_key or dtype == tf.uint64:
            raise ValueError(
                f"Keys must be integers or strings, received {column} for {key!r}. "
                "Cast whole numbers to int64; say by `key_mask` which rows have none."
            )
        ranks.append(column.shape.rank)
    if key_mask is not None:
        mask: Any = spec[key_mask] if key_mask in names else None
        if getattr(mask, "dtype", None) != tf.bool or mask.shape.rank != ranks[0]:
            raise ValueError(
                "`key_mask` must name a bool feature with a value for each key, "
                f"received {key_mask!r}, which is {mask}. Add one in a `map`."
            )
    if ranks[0] not in (0, 1) or len(set(ranks)) > 1:
        raise ValueError(
            "Keys must be scalars in a dataset of rows, or vectors in one of batches: "
            f"expected rank 0 or 1, received {ranks} for {keys}."
        )
    for feature in tf.nest.flatten(spec):
        if feature.shape.rank is not None and feature.shape.rank < ranks[0]:
            raise ValueError(
                f"Features must have a row for each of the {keys}, which are vectors: "
                f"received {feature}. Repeat it for all rows of its batch."
            )
        row = feature.shape[ranks[0] :] if feature.shape.rank is not None else None
        if row is None or not row.is_fully_defined():
            raise ValueError(
                "Rows of a batch must have the same shape: expected known shapes, "
                f"received {feature}. Pad it, and say so with `tf.ensure_shape`."
            )
    return ranks[0] == 1


def _keys(rows: Rows, keys: Sequence[Key]) -> tf.Tensor:
    """One int64 for each row's request."""
    first, *others = (as_int64(str(name), rows[name]) for name in keys)
    for other in others:
        first = pairs(first, other)
    return first


def _own(
    chunk: dict[str, Any], input_context: tf.distribute.InputContext
) -> dict[str, Any]:
    """The rows of the requests that fall to this pipeline."""
    pipeline = pipeline_of(chunk["keys"], input_context.num_input_pipelines)
    return take(chunk, tf.where(pipeline == input_context.input_pipeline_id)[:, 0])


def pipeline_of(keys: tf.Tensor, num_pipelines: int) -> tf.Tensor:
    """Which of several pipelines has the rows of a request.

    Args:
      keys: [n] int64, as `row_chunks` gives them.
      num_pipelines: How many there are.

    Returns:
      [n] int64, from 0.
    """
    hashed = mix(tf.bitcast(keys, tf.uint64))
    return tf.cast(hashed % tf.constant(num_pipelines, tf.uint64), tf.int64)
