"""A dataset of embeddings as one matrix."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrs_negatives._keras import keras


def collect(
    dataset: tf.data.Dataset, verbose: int = 0
) -> tuple[tf.Tensor | None, tf.Tensor]:
    """Reads ids and embeddings of all batches.

    Batches and matrix are held together for the moment in which they become one: a
    tensor is no array of NumPy that could be filled in place, and a variable that was
    written in slices is copied when it is read.

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
    ids: list[tf.Tensor | None] = []
    embeddings: list[tf.Tensor] = []
    for element in dataset:
        pair: tuple[Any, Any] = element if paired else (None, element)
        batch_ids, batch = pair
        if batch.shape.rank != 2:
            raise ValueError(
                "The dataset must yield batches of embeddings [batch, d], received "
                f"an element of shape {batch.shape}. Batch it first."
            )
        if embeddings and batch.shape[1] != embeddings[0].shape[1]:
            raise ValueError(
                "All batches of embeddings must be equally wide, received widths "
                f"{embeddings[0].shape[1]} and {batch.shape[1]}."
            )
        if paired and tf.shape(batch_ids)[:1] != tf.shape(batch)[:1]:
            raise ValueError(
                "Each batch must have one identifier per embedding, received "
                f"shapes {batch_ids.shape} and {batch.shape}. Batch both alike."
            )
        embeddings.append(batch)
        ids.append(batch_ids)
        progress.add(1)
    if not ids:
        raise ValueError("The dataset of candidates is empty.")
    return (tf.concat(ids, axis=0) if paired else None), tf.concat(embeddings, axis=0)
