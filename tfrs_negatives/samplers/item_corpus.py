"""The items that samplers draw from, and where each id stands among them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64
from tfrs_negatives.samplers.catalogue_tensors import check_distinct, tensors_of
from tfrs_negatives.samplers.row_sets import search
from tfrs_negatives.types import CorpusLike, TensorLike


class ItemCorpus:
    """Features of N items, held once in host memory.

    A dataset is held twice for a moment: in the batches as read, and joined.

    Args:
      features: A tensor, array or list [N, ...], a dict of such, or a
        `tf.data.Dataset` of items, single or in batches, read once.
      id_feature: Which feature of a dict holds the items' distinct ids. None: the
        corpus itself if it is a vector of integers or strings, else an item's id is
        its row number.

    Attributes:
      features: Tensors [N, ...] in the corpus's structure.
      num_items: N.
      ids: [N] tensor, or None where ids are row numbers.

    Raises:
      ValueError: No items, features of unequal length, ragged or sparse ones, an
        unknown `id_feature`, ids that repeat; as `catalogue_tensors.tensors_of`.
    """

    def __init__(self, features: CorpusLike, id_feature: str | None = None) -> None:
        # Pipelines run on the host; a corpus on the accelerator would be copied.
        with tf.device("CPU:0"):
            features = tensors_of(features, id_feature)
        shapes = [feature.shape for feature in tf.nest.flatten(features)]
        lengths: set[Any] = {shape[0] if shape.rank else None for shape in shapes}
        if len(lengths) != 1 or not lengths.isdisjoint({0, None}):
            raise ValueError(
                "`corpus` must hold the same number of items, at least one, along the "
                f"first axis of every feature, received shapes "
                f"{[shape.as_list() for shape in shapes]}."
            )
        self.features = features
        self.num_items: int = lengths.pop()
        self.ids = self._find_ids(id_feature)
        if self.ids is not None and self.ids.shape.rank == 1:
            check_distinct("corpus", self.ids)

    def _find_ids(self, id_feature: str | None) -> tf.Tensor | None:
        if id_feature is None:
            vector = tf.is_tensor(self.features) and self.features.shape.rank == 1
            if vector and (
                self.features.dtype.is_integer or self.features.dtype == tf.string
            ):
                return self.features
            return None
        if not isinstance(self.features, dict) or id_feature not in self.features:
            received = (
                sorted(self.features)
                if isinstance(self.features, dict)
                else "a corpus that is not a dict"
            )
            raise ValueError(
                f"`id_feature` must name a feature of the corpus, received "
                f"{id_feature!r} and {received}."
            )
        return self.features[id_feature]

    @functools.cached_property
    def lookup(self) -> IdLookup:
        """The `IdLookup` of the items, made when first needed."""
        if self.ids is None:
            return IdLookup("corpus", self.num_items)
        return IdLookup("corpus", self.ids)


class IdLookup:
    """Finds where ids stand in a vector of distinct ids, by binary search.

    Args:
      name: What the ids are, for messages.
      ids: [N] distinct integers or strings, any at all; or N, for the ids 0 to N - 1.

    Attributes:
      size: N.

    Raises:
      ValueError: Ids that repeat, or of another type or rank.
    """

    def __init__(self, name: str, ids: TensorLike) -> None:
        self._name = name
        self._keys = None
        self.dtype = tf.int64
        if isinstance(ids, int):
            self.size = ids
            return
        # Kept as tensors of the host, also when first needed inside a function, whose
        # constants the ids may be.
        if tf.is_tensor(ids) and not hasattr(ids, "numpy"):
            ids = tf.get_static_value(ids)
            if ids is None:
                raise ValueError(
                    f"Ids of `{name}` must be known while a graph is traced, received "
                    "a tensor that it computes. Pass an array or a constant."
                )
        with tf.init_scope(), tf.device("CPU:0"):
            ids = tf.convert_to_tensor(ids)
            _checks.check_rank(f"ids of {name}", ids, (1,), "Pass one id an item.")
            self.size = int(ids.shape[0])
            self.dtype = ids.dtype
            keys = as_int64(f"ids of {name}", ids).numpy()
            if ids.dtype != tf.string and np.array_equal(keys, np.arange(self.size)):
                return
            check_distinct(name, ids)
            order = np.argsort(keys, kind="stable")
            self._keys = tf.constant(keys[order])
            self._order = tf.constant(order)

    def __call__(self, name: str, ids: TensorLike) -> tf.Tensor:
        """Positions of ids: int64 of their shape, N where an id is not found.

        Raises:
          ValueError: Strings for integers, or the reverse.
        """
        ids = tf.convert_to_tensor(ids)
        if (ids.dtype == tf.string) != (self.dtype == tf.string):
            expected = "strings" if self.dtype == tf.string else "integers"
            raise ValueError(
                f"`{name}` must hold {expected}, as the ids of `{self._name}` are, "
                f"received {ids.dtype.name}."
            )
        keys = as_int64(name, ids)
        if self._keys is None:
            found = tf.logical_and(keys >= 0, keys < self.size)
            return tf.where(found, keys, self.size)
        flat = tf.reshape(keys, [-1])
        places = tf.minimum(search(self._keys, flat), self.size - 1)
        found = tf.equal(tf.gather(self._keys, places), flat)
        found = tf.where(found, tf.gather(self._order, places), self.size)
        return tf.reshape(found, tf.shape(ids))
