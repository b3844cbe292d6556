"""A dataset of embeddings as one matrix, without copies on the way."""

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras


def collect(dataset, verbose=0):
    """Reads ids and embeddings of all batches.

    Args:
      dataset: `tf.data.Dataset` of embeddings `[batch, d]`, or of pairs (ids
        `[batch]`, embeddings `[batch, d]`).
      verbose: 1 shows a progress bar, counting batches.

    Returns:
      Ids `[N]`, or None, and embeddings `[N, d]`, both tensors.

    Raises:
      ValueError: for elements of another structure, an empty or endless dataset, and
        batches whose ids and embeddings differ in number.
    """
    spec = dataset.element_spec
    paired = isinstance(spec, tuple)
    if (paired and len(spec) != 2) or isinstance(spec, (dict, list)):
        raise ValueError(
            "The dataset must yield embeddings or pairs (identifiers, "
            f"embeddings), received elements {spec}. Map it first."
        )
    num_batches = int(dataset.cardinality())
    if num_batches == tf.data.INFINITE_CARDINALITY:
        raise ValueError("The dataset of candidates is endless. Drop its `repeat`.")
    progress = keras.utils.Progbar(
        num_batches if num_batches > 0 else None, verbose=verbose, unit_name="batch"
    )
    ids, rows = [], _Rows()
    for batch in dataset:
        batch_ids, batch = batch if paired else (None, batch)
        if paired and tf.shape(batch_ids)[:1] != tf.shape(batch)[:1]:
            raise ValueError(
                "Each batch must have one identifier per embedding, received "
                f"shapes {batch_ids.shape} and {batch.shape}. Batch both alike."
            )
        rows.append(batch)
        ids.append(batch_ids)
        progress.add(1)
    if not ids:
        raise ValueError("The dataset of candidates is empty.")
    return (tf.concat(ids, axis=0) if paired else None), rows.finish()


class _Rows:
    """A matrix that grows in place, by a factor, as lists do."""

    def __init__(self):
        self._values, self._count = None, 0

    def append(self, batch):
        if batch.shape.rank != 2:
            raise ValueError(
                "The dataset must yield batches of embeddings [batch, d], received "
                f"an element of shape {batch.shape}. Batch it first."
            )
        batch = batch.numpy()
        if self._values is None:
            self._values = np.empty_like(batch)
        if batch.shape[1] != self._values.shape[1]:
            raise ValueError(
                "All batches of embeddings must be equally wide, received widths "
                f"{self._values.shape[1]} and {batch.shape[1]}."
            )
        needed = self._count + len(batch)
        if needed > len(self._values):
            # No other reference to the array exists. Large blocks of memory are moved
            # by changing page tables, and what is not yet written takes no room.
            capacity = max(needed, 2 * len(self._values))
            self._values.resize([capacity, batch.shape[1]], refcheck=False)
        self._values[self._count : needed] = batch
        self._count = needed

    def finish(self):
        """The matrix as a tensor; the array is given up."""
        values, self._values = self._values, None
        return tf.convert_to_tensor(values[: self._count])
