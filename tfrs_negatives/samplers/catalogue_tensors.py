"""What people have as a catalogue, as tensors with one row an item."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._id_columns import is_frame, is_series, places_of_repeats
from tfrs_negatives._ids import as_int64
from tfrs_negatives.types import CorpusLike

# Rows read at once from a dataset; by single rows it would take minutes.
_ROWS = 2**16


def tensors_of(features: CorpusLike, id_feature: str | None = None) -> Any:
    """Tensors in the same structure; a list is one feature, as in tf.data.

    Args:
      features: As in `ItemCorpus`.
      id_feature: As in `ItemCorpus`; tells whether a dataset is batched.

    Raises:
      ValueError: A data frame, a Series with an index of its own, features that are
        ragged or sparse, a dataset that is empty, endless, or of which nobody can say
        whether it is batched.
    """
    if isinstance(features, tf.data.Dataset):
        return _read(features, id_feature)
    if is_frame(features):
        raise ValueError(
            f"`corpus` must be a dict of features, received a "
            f"{type(features).__name__}. Pass its columns: `{{name: table[name] for "
            "name in ...}`, and `id_feature`."
        )
    if isinstance(features, dict):
        return {name: tensors_of(feature) for name, feature in features.items()}
    if isinstance(features, list) or is_series(features):
        return _dense(features)
    return tf.nest.map_structure(_dense, features)


def check_distinct(name: str, ids: tf.Tensor) -> None:
    """Raises `ValueError` if an item's id comes twice.

    Each row is drawn as an item of its own: a column of interactions would be drawn
    by popularity, and said to be drawn uniformly.

    Args:
      name: What the ids are of, for the message.
      ids: [N] integers or strings. Of a graph, such as a `dataset_fn` makes, they are
        checked if they are constants.
    """
    values = tf.get_static_value(ids)
    if values is None:
        return
    with tf.init_scope():
        keys = as_int64(f"ids of {name}", values).numpy()
    repeats = places_of_repeats(keys)
    if len(repeats):
        example = values[int(repeats[0])]
        example = example if isinstance(example, bytes) else int(example)
        raise ValueError(
            f"`{name}` must hold each id once, received {len(keys)} ids of which "
            f"{len(repeats)} are repeats, {example!r} for one. Drop them: "
            "`np.unique(ids)`."
        )


def _dense(feature: Any) -> tf.Tensor:
    if isinstance(feature, (tf.RaggedTensor, tf.SparseTensor)):
        raise ValueError(
            "`corpus` must hold dense features, whose rows are gathered as they are "
            f"drawn, received a {type(feature).__name__} of shape {feature.shape}. Pad "
            "it: `.to_tensor()`, or `tf.sparse.to_dense`."
        )
    if is_series(feature):
        if not np.array_equal(np.asarray(feature.index), np.arange(len(feature))):
            raise ValueError(
                "`corpus` is a Series with an index of its own: received one from "
                f"{feature.index[0]!r} to {feature.index[-1]!r}. Pass "
                "`series.to_numpy()` if the values are the items, `series.index` if it "
                "is."
            )
        feature = np.asarray(feature)
    return tf.convert_to_tensor(feature)


def _read(dataset: tf.data.Dataset, id_feature: str | None) -> Any:
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("`corpus` is an endless dataset. Pass `dataset.take(n)`.")
    if not _is_batched(dataset.element_spec, id_feature):
        dataset = dataset.batch(_ROWS)
    batches = list(dataset.prefetch(1))
    if not batches:
        raise ValueError("`corpus` must hold at least one item, received none.")
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *batches)


def _is_batched(spec: Any, id_feature: str | None) -> bool:
    """Whether elements are batches of items, and not one item each."""
    if isinstance(spec, dict) and id_feature in spec:
        return spec[id_feature].shape.rank == 1
    features = tf.nest.flatten(spec)
    if any(feature.shape.rank == 0 for feature in features):
        return False
    firsts = {feature.shape[0] for feature in features if feature.shape.rank}
    if firsts == {None}:
        return True
    # Vectors of a known size: an item's own, or batches that were cut to size.
    ids = [f for f in features if f.shape.rank == 1 and not f.dtype.is_floating]
    if ids and len(firsts) == 1:
        raise ValueError(
            f"`corpus` is a dataset of elements {spec}, which may be an item or a "
            "batch of them. Pass `dataset.unbatch()`, or name `id_feature`."
        )
    return False
