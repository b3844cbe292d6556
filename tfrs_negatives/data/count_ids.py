"""How often each id occurs in a dataset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras

# Counted batches are merged when they hold so many ids, or twice as many as the merged
# ones before them: so merging takes time in proportion to all batches.
_MERGE = 2**22


def count_ids(
    dataset: tf.data.Dataset, feature: str | None = None, progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Counts the ids of a dataset in one pass.

    Memory: about 16 bytes a distinct id (more for strings), and three times that
    while batches are merged, whatever the length of the dataset.

    Args:
      dataset: A finite `tf.data.Dataset` of ids, integers or strings, single or in
        batches; or of dicts that hold them.
      feature: Name of the ids in the dicts; None where elements are ids.
      progress: Whether to show how many elements were read.

    Returns:
      `(ids, counts)`: distinct ids, sorted, and int64 counts, NumPy arrays [V]. This
      pair is what all take that take counts, such as `layers.StaticFrequency`.

    Raises:
      ValueError: No dataset, no such feature, ids that are neither integers nor
        strings, an infinite or an empty dataset.
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise ValueError(
            f"Expected a `tf.data.Dataset`, received a {type(dataset).__name__}. Count "
            "columns by `np.unique(ids, return_counts=True)`, the same pair."
        )
    spec = dataset.element_spec
    if isinstance(spec, dict) != (feature is not None) or (
        feature is not None and feature not in spec
    ):
        given = sorted(spec) if isinstance(spec, dict) else "ids, not dicts"
        raise ValueError(
            f"`feature` names the ids in a dataset of dicts: received {feature!r} for "
            f"a dataset of {given}."
        )
    spec = spec if feature is None else spec[feature]
    dtype = getattr(spec, "dtype", None)
    if dtype is None or not (dtype.is_integer or dtype == tf.string):
        raise ValueError(f"Expected integer or string ids, received {spec}.")
    length = dataset.cardinality().numpy()
    if length == tf.data.INFINITE_CARDINALITY:
        raise ValueError("Cannot count an infinite dataset: pass `dataset.take(n)`.")
    if not spec.shape.rank and isinstance(spec, tf.TensorSpec):
        # Single ids: reading them one at a time would cost more than counting.
        rows = 4096
        dataset, length = dataset.batch(rows), -(-length // rows) if length > 0 else -1
    if feature is not None:
        dataset = dataset.map(lambda row: row[feature])

    bar = keras.utils.Progbar(int(length) if length > 0 else None, unit_name="batch")
    parts, held, num_merged = [], 0, 0
    for index, ids in enumerate(dataset):
        values = ids.flat_values if isinstance(ids, tf.RaggedTensor) else ids
        distinct, counts = np.unique(values.numpy().ravel(), return_counts=True)
        parts.append((distinct, counts))
        held += len(distinct)
        if held > max(_MERGE, 2 * num_merged):
            parts = [merged_counts(parts)]
            held = num_merged = len(parts[0][0])
        if progress:
            bar.update(index + 1)
    if not held:
        raise ValueError("Cannot count an empty dataset.")
    return merged_counts(parts)


def merged_counts(
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """One pair of distinct ids, sorted, and int64 counts of several.

    Args:
      parts: Pairs of ids and counts, at least one; ids may repeat.
    """
    ids = np.concatenate([ids for ids, _ in parts])
    counts = np.concatenate([counts for _, counts in parts])
    distinct, places = np.unique(ids, return_inverse=True)
    return distinct, np.bincount(places, weights=counts).astype(np.int64)
