"""A dataset of candidates, embedded once for each evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives._ids import as_int64, check_comparable
from tfrs_negatives.metrics.candidate_corpus import (
    EmbeddedCorpus,
    largest_norm,
    norm_check,
)
from tfrs_negatives.metrics.corpus_ids import KnownIds, ids_of_dataset


class DatasetCorpus(EmbeddedCorpus):
    """Embeddings of a dataset, read once for each evaluation.

    What was read is held by variables of each replica, so that it is read within the
    evaluation's own step, with the towers' weights of that time.

    Args:
      dataset: Finite `tf.data.Dataset` of batches of embeddings `[b, d]`, or of pairs
        (ids `[b]`, embeddings). Towers in its `map` are run again each time. An id may
        have several rows.

    Raises:
      ValueError: Elements of another structure, an endless dataset.
    """

    def __init__(self, dataset: tf.data.Dataset) -> None:
        spec = dataset.element_spec
        self._paired = isinstance(spec, tuple) and len(spec) == 2
        parts = spec if self._paired else (spec,)
        embeddings, self._id_spec = parts[-1], parts[0] if self._paired else None
        if (
            not all(isinstance(part, tf.TensorSpec) for part in parts)
            or embeddings.shape.rank not in (None, 2)
            or not embeddings.dtype.is_floating
            or (self._paired and parts[0].shape.rank not in (None, 1))
        ):
            raise ValueError(
                "`candidates` must yield batches of embeddings [b, d], or of pairs "
                f"(ids [b], embeddings), received elements {spec}. Map and batch it "
                "first."
            )
        if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError("The dataset `candidates` is endless. Drop its `repeat`.")
        if dataset.cardinality() == 0:
            raise ValueError("The dataset `candidates` is empty.")
        self._dataset = dataset
        self._is_read = _local_variable(False, [])
        self._embeddings = _local_variable(tf.zeros([0, 0]), [None, None])
        self._keys = _local_variable(tf.zeros([0], tf.int64), [None])
        self._rows = _local_variable(tf.zeros([0], tf.int32), [None])
        # How many rows an id has at most.
        self._most_rows = _local_variable(1, [])
        self._largest_norm = _local_variable(tf.zeros([], tf.float64), [])
        self._width = None if embeddings.shape.rank is None else embeddings.shape[1]

    @property
    def width(self) -> int | None:
        return self._width

    def known_ids(self) -> KnownIds:
        return ids_of_dataset(self._dataset)

    def invalidate(self) -> None:
        # Lets go of the memory, too.
        if bool(tf.convert_to_tensor(self._is_read)):
            self._is_read.assign(False)
            self._embeddings.assign(tf.zeros([0, 0]))
            self._keys.assign(tf.zeros([0], tf.int64))
            self._rows.assign(tf.zeros([0], tf.int32))

    def read(self) -> tuple[tf.Tensor, tf.Tensor]:
        distribute.check_in_scope(self, self._is_read)
        tf.cond(self._is_read, lambda: True, self._fill)
        values = self._embeddings, self._largest_norm
        return tuple(tf.convert_to_tensor(value) for value in values)

    def _fill(self) -> bool:
        # All batches as one.
        whole = self._dataset.rebatch(np.iinfo(np.int64).max).get_single_element()
        ids, embeddings = whole if self._paired else (None, whole)
        embeddings = tf.cast(embeddings, tf.float32)
        norm = largest_norm(embeddings)
        checks = [norm_check(norm)]
        if ids is not None:
            keys = as_int64("ids of candidates", ids)
            rows = tf.argsort(keys)
            keys = tf.gather(keys, rows)
            checks.append(
                tf.debugging.assert_equal(
                    tf.shape(ids)[:1],
                    tf.shape(embeddings)[:1],
                    "`candidates` must have one id for each embedding.",
                )
            )
        with tf.control_dependencies([c for c in checks if c is not None]):
            self._embeddings.assign(embeddings)
            self._largest_norm.assign(norm)
            if ids is not None:
                self._keys.assign(keys)
                self._rows.assign(rows)
                ends = tf.searchsorted(keys, keys, side="right")
                starts = tf.searchsorted(keys, keys)
                self._most_rows.assign(tf.reduce_max(ends - starts))
            self._is_read.assign(True)
        return True

    def positions(self, name: str, ids: tf.Tensor) -> tf.Tensor:
        check_comparable(name, ids, "ids of candidates", self._id_spec)
        keys, rows, most = (
            tf.convert_to_tensor(value)
            for value in (self._keys, self._rows, self._most_rows)
        )
        wanted = tf.reshape(as_int64(name, ids), [-1])
        first = tf.searchsorted(keys, wanted)
        places = first[:, tf.newaxis] + tf.range(most)
        places = tf.minimum(places, tf.size(keys) - 1)
        same = tf.equal(tf.gather(keys, places), wanted[:, tf.newaxis])
        # The last place stands for those beyond it, once too often.
        same &= places == first[:, tf.newaxis] + tf.range(most)
        found = tf.where(same, tf.gather(rows, places), -1)
        return tf.reshape(found, tf.concat([tf.shape(ids), [most]], axis=0))


def _local_variable(value: Any, shape: Sequence[int | None]) -> tf.Variable:
    """A variable of which each replica has its own value."""
    return tf.Variable(
        value,
        shape=shape,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
