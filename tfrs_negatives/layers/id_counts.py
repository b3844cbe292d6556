"""Counts of ids, as layers, metrics and samplers take them."""

from __future__ import annotations

import collections.abc
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._id_columns import (
    id_column,
    is_frame,
    is_series,
    places_of_repeats,
)
from tfrs_negatives._ids import as_int64
from tfrs_negatives.types import Config, CountsLike


def checked_counts(counts: CountsLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ids, their int64 keys, and their counts, checked.

    Args:
      counts: How often each id occurs, as one of

        * a vector [V], of the ids 0 to V - 1;
        * a mapping from id to count: a dict, a `collections.Counter`;
        * a pandas Series with the ids as its index: what `value_counts()` returns;
        * a pair `(ids, counts)` of vectors: what `data.count_ids` and
          `np.unique(ids, return_counts=True)` return;
        * a `tf.data.Dataset` of ids, which is read once and counted.

    Returns:
      `(ids, keys, counts)`: [V] NumPy arrays, of ids (int64, or bytes), int64 keys and
      float64 counts.

    Raises:
      ValueError: Counts in another form, negative, not finite or all zero; ids that are
        repeated, of a wrong kind, or not as many as counts.
    """
    ids, counts = _with_ids(counts)
    counts = _numbers(counts)
    ids = np.arange(len(counts)) if ids is None else _ids(ids)
    if len(ids) != len(counts):
        raise ValueError(
            f"Expected one id for each count, received {len(ids)} ids and "
            f"{len(counts)} counts."
        )
    keys = as_int64("ids", ids).numpy()
    repeats = places_of_repeats(keys)
    if len(repeats):
        raise ValueError(
            f"`ids` must be distinct, received {len(repeats)} repeats, "
            f"{ids[repeats[0]]!r} for one. Add their counts up."
        )
    return ids, keys, counts


def ids_and_keys(ids: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ids as int64 or bytes, and their int64 keys: [V] both."""
    ids = _ids(ids)
    return ids, as_int64("ids", ids).numpy()


def have_ids(counts: CountsLike) -> bool:
    """Whether counts are of a form that names their ids."""
    return (
        isinstance(counts, (collections.abc.Mapping, tf.data.Dataset))
        or is_series(counts)
        or _is_pair(counts)
    )


def to_config(ids: np.ndarray, counts: np.ndarray) -> Config:
    """Ids and counts as a config can hold them."""
    if ids.dtype == object:
        # Bytes that are no text pass through a config as text too.
        ids = np.array([i.decode("utf-8", "surrogateescape") for i in ids], object)
    return {"ids": ids.tolist(), "counts": counts.tolist()}


def from_config(config: Config) -> Config:
    """The arguments of a constructor that takes `counts`, from `to_config`."""
    config = dict(config)
    ids = config.pop("ids")
    return {**config, "counts": (ids, config["counts"])}


def _with_ids(counts: CountsLike) -> tuple[Any, Any]:
    """Ids, or None where they are 0 to V - 1, and counts, unchecked."""
    if isinstance(counts, tf.data.Dataset):
        # Reading tables needs more than layers do: not before it is asked for.
        from tfrs_negatives.data import count_ids

        return count_ids(counts)
    if isinstance(counts, collections.abc.Mapping):
        return list(counts.keys()), list(counts.values())
    if is_series(counts):
        return np.asarray(counts.index), counts
    if is_frame(counts):
        raise ValueError(
            "`counts` of a table must name the columns: received a "
            f"{type(counts).__name__}. Pass a pair of its columns, `(table['id'], "
            "table['count'])`, or a Series with the ids as its index."
        )
    return counts if _is_pair(counts) else (None, counts)


def _is_pair(counts: object) -> bool:
    """Whether it is a tuple of two vectors, not of two numbers."""
    return (
        isinstance(counts, tuple)
        and len(counts) == 2
        and all(np.ndim(part) == 1 for part in counts)
    )


def _numbers(counts: Any) -> np.ndarray:
    try:
        counts = np.asarray(counts, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`counts` must be numbers, one for each id, received {type(counts)} "
            f"({error}). Of ids themselves, pass `(ids, counts)`."
        ) from error
    if counts.ndim != 1 or not len(counts):
        raise ValueError(
            f"`counts` must be a non-empty vector, or a tuple `(ids, counts)` of two, "
            f"received shape {counts.shape}."
        )
    if not np.all(np.isfinite(counts)) or np.any(counts < 0) or not np.any(counts > 0):
        raise ValueError(
            "`counts` must be finite, none negative and one at least positive, "
            f"received values from {counts.min()} to {counts.max()}."
        )
    return counts


def _ids(ids: Any) -> np.ndarray:
    ids = id_column("ids of counts", ids)
    if ids.dtype.kind == "i":
        return ids
    encoded = np.empty(len(ids), object)
    encoded[:] = [
        i if isinstance(i, bytes) else i.encode("utf-8", "surrogateescape")
        for i in ids.tolist()
    ]
    return encoded
