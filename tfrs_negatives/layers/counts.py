"""Counts of ids as layers take them: an array, a mapping or a dataset of ids."""

import collections.abc

import numpy as np
import tensorflow as tf

from tfrs_negatives._ids import as_int64


def checked_counts(counts, ids=None):
    """Returns ids, their int64 keys, and their counts, checked.

    Args:
      counts: [V] counts of the ids 0 to V - 1, or of `ids`; a mapping from id to
        count; or a `tf.data.Dataset` of ids, which is read once and counted.
      ids: [V] distinct integers or strings, one for each count; None for a mapping
        or a dataset.

    Returns:
      `(ids, keys, counts)`: [V] NumPy arrays, int64 keys and float64 counts.

    Raises:
      ValueError: Counts that are negative, not finite or all zero; ids that are
        repeated, of a wrong kind, or not as many as counts.
    """
    if isinstance(counts, (collections.abc.Mapping, tf.data.Dataset)):
        if ids is not None:
            raise ValueError(
                "A mapping or a dataset of counts has its ids: expected `ids=None`, "
                "received both. Pass two lists, or the mapping or dataset alone."
            )
        if isinstance(counts, tf.data.Dataset):
            # Reading tables needs more than layers do: not before it is asked for.
            from tfrs_negatives.data import count_ids

            ids, counts = count_ids(counts)
        else:
            ids, counts = list(counts.keys()), list(counts.values())
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 1 or not len(counts):
        raise ValueError(
            f"`counts` must be a non-empty vector, received shape {counts.shape}."
        )
    if not np.all(np.isfinite(counts)) or np.any(counts < 0) or not np.any(counts > 0):
        raise ValueError(
            "`counts` must be finite, none negative and one at least positive, "
            f"received values from {counts.min()} to {counts.max()}."
        )
    ids = np.arange(len(counts)) if ids is None else np.asarray(ids)
    if len(ids) != len(counts):
        raise ValueError(
            f"Expected one id for each count, received {len(ids)} ids and "
            f"{len(counts)} counts."
        )
    keys = as_int64("ids", ids).numpy()
    if len(np.unique(keys)) < len(keys):
        raise ValueError("`ids` must be distinct, received some more than once.")
    return ids, keys, counts
