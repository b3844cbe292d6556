"""The distinct values of a column, and Keras's layers that number them."""

from __future__ import annotations

import collections
import heapq
from typing import Any

import numpy as np

from tfrs_negatives._keras import keras
from tfrs_negatives.types import KerasLayer


def most_frequent(
    values: np.ndarray, most: int | None = None
) -> tuple[np.ndarray, float]:
    """Distinct values in ascending order: the most frequent ones where there are more.

    Args:
      values: [n] int64, or objects of `str`.
      most: How many to keep; None: all. Of equally frequent ones the least.

    Returns:
      [at most `most`], of the dtype of `values`; the share of values that are others.
    """
    if values.dtype.kind == "O":
        counted = collections.Counter(values.tolist())
        distinct = np.empty(len(counted), object)
        distinct[:] = list(counted)
        counts = np.fromiter(counted.values(), np.int64, len(counted))
    else:
        distinct, counts = np.unique(values, return_counts=True)
    if most is not None and len(distinct) > most:
        least = -np.partition(-counts, most - 1)[most - 1]
        above = distinct[counts > least]
        # Not all of them are sorted, which may be millions of strings.
        ties = heapq.nsmallest(most - len(above), distinct[counts == least].tolist())
        num_kept = counts[counts > least].sum() + least * len(ties)
        kept = sorted([*above.tolist(), *ties])
        return np.array(kept, values.dtype), 1 - float(num_kept) / len(values)
    return np.sort(distinct), 0.0


def lookup(vocabulary: np.ndarray) -> KerasLayer:
    """A layer from values to numbers: 0 where unknown, from 1 in the vocabulary's
    order.

    Args:
      vocabulary: [M] distinct int64, or objects of `str`; at least one.
    """
    values = vocabulary.tolist()
    # What stands for unknown values must be none of them.
    unknown: Any
    if vocabulary.dtype.kind == "O":
        unknown, known = "[UNK]", set(values)
        while unknown in known:
            unknown += "]"
        return keras.layers.StringLookup(vocabulary=values, oov_token=unknown)
    # Of one number more than there are values, one is free.
    unknown = int(np.setdiff1d(np.arange(len(values) + 1), vocabulary)[0])
    return keras.layers.IntegerLookup(vocabulary=values, oov_token=unknown)


def as_json(vocabulary: np.ndarray) -> list[Any]:
    """A vocabulary as JSON holds it; `from_json` is the reverse."""
    return vocabulary.tolist()


def from_json(values: list[Any]) -> np.ndarray:
    """A vocabulary of `as_json`."""
    is_text = bool(values) and isinstance(values[0], str)
    return np.array(values, object if is_text else np.int64)
