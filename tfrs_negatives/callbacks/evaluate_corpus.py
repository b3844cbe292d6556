"""Evaluation over the whole corpus while `fit` runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import keras
from tfrs_negatives.callbacks.tower_encoder import TowerEncoder
from tfrs_negatives.index import BruteForce
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.metrics import CorpusRecall, PopularityBands
from tfrs_negatives.types import Tower

_TARGETS = {"positive_ids", "excluded_ids", "sample_weight"}


class EvaluateCorpus(keras.callbacks.Callback):
    """Embeds the corpus and ranks held-out positives in it, at the end of epochs.

    Epoch logs get the measures, named as in "val_corpus/recall@10", for callbacks that
    come later in the list: `EarlyStopping("val_corpus/ndcg@10", mode="max")`,
    `ModelCheckpoint`, `TensorBoard`.

    Args:
      candidates: Finite `tf.data.Dataset` of batches (ids, features), the corpus.
      candidate_tower: From features to embeddings `[b, d]`; a Keras layer or model,
        or a function.
      queries: Finite `tf.data.Dataset` of batches (features, targets). Targets are the
        ids of positives, `[b]`, `[b, M]`, or ragged; or a dict of those as
        "positive_ids" and, if there are, "excluded_ids" and "sample_weight": see
        `metrics.CorpusRecall.update_state`.
      query_tower: As `candidate_tower`.
      ks, measures, popularity: As for `metrics.CorpusRecall`.
      every_epochs: Epochs from one evaluation to the next.
      index: A `BruteForce` or `ScaNN` for this callback alone, which is refilled:
        with `ScaNN`, what is measured is what would be served. None: exact.
      name: Prefix of the measures' names.

    Raises:
      ValueError: Options out of range; datasets of another structure. When training
        begins, ids that repeat; at the end of an epoch, embeddings that are NaN or
        infinite.

    Example:
      >>> user_tower = tf.keras.layers.Embedding(2, 4)
      >>> item_tower = tf.keras.layers.Embedding(3, 4)
      >>> items = tf.data.Dataset.from_tensor_slices(([0, 1, 2], [0, 1, 2])).batch(3)
      >>> held_out = tf.data.Dataset.from_tensor_slices(([0, 1], [2, 0])).batch(2)
      >>> evaluate = tn.callbacks.EvaluateCorpus(
      ...     items, item_tower, held_out, user_tower, ks=[1, 3], measures="recall"
      ... )
      >>> logs = {}  # Given to `fit` as `callbacks=[evaluate]`, it adds to the epoch's.
      >>> evaluate.on_epoch_end(0, logs)
      >>> sorted(logs), logs["val_corpus/recall@3"]
      (['val_corpus/recall@1', 'val_corpus/recall@3'], 1.0)
    """

    def __init__(
        self,
        candidates: tf.data.Dataset,
        candidate_tower: Tower,
        queries: tf.data.Dataset,
        query_tower: Tower,
        *,
        ks: int | Sequence[int] = (10, 100),
        measures: str | Iterable[str] = ("recall", "ndcg"),
        popularity: PopularityBands | None = None,
        every_epochs: int = 1,
        index: TopK | None = None,
        name: str = "val_corpus",
    ) -> None:
        super().__init__()
        _checks.check_at_least("every_epochs", every_epochs, 1)
        if index is not None and not isinstance(index, TopK):
            raise ValueError(
                "`index` must be a BruteForce or ScaNN of tfrs_negatives.index, "
                f"received {type(index).__name__}."
            )
        self._corpus = TowerEncoder("candidates", candidates, candidate_tower)
        _check_queries(queries, query_tower)
        self._queries, self._embed = queries, tf.function(query_tower)
        self._every_epochs = every_epochs
        self._index = BruteForce() if index is None else index
        self._metric = CorpusRecall(
            self._index, ks, name, measures=measures, popularity=popularity
        )
        self._step = tf.function(
            self._sums, input_signature=queries.element_spec, autograph=False
        )

    def evaluate(self) -> dict[str, float]:
        """Evaluates now.

        Returns:
          Dict from a measure's name to its value, a float.
        """
        ids, embeddings = self._corpus.encode()
        self._index.index(embeddings, ids)
        sums = np.zeros([len(self._metric.names), 2])
        for features, targets in self._queries:
            sums += np.array(self._step(features, targets))
        # Without any positive, 0 as Keras's means are.
        values = sums[:, 0] / np.where(sums[:, 1] == 0, 1, sums[:, 1])
        return dict(zip(self._metric.names, values.tolist(), strict=True))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        # What would end training after its first epoch.
        self._corpus.check_distinct()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self._every_epochs == 0:
            measured = self.evaluate()
            if logs is not None:
                logs.update(measured)

    def _sums(self, features: Any, targets: Any) -> list[tuple[tf.Tensor, tf.Tensor]]:
        if not isinstance(targets, dict):
            targets = {"positive_ids": targets}
        # Not by its state, which only replicas could change.
        return self._metric.sums(
            self._embed(features),
            true_candidate_ids=targets["positive_ids"],
            sample_weight=targets.get("sample_weight"),
            excluded_ids=targets.get("excluded_ids"),
        )


def _check_queries(queries: tf.data.Dataset, tower: Tower) -> None:
    spec = getattr(queries, "element_spec", None)
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise ValueError(
            "`queries` must be a tf.data.Dataset of batches (features, targets), "
            f"received {spec if spec is not None else type(queries).__name__}. Map it "
            "to pairs."
        )
    targets = spec[1]
    if isinstance(targets, dict) and (
        "positive_ids" not in targets or targets.keys() - _TARGETS
    ):
        raise ValueError(
            'Targets of `queries` must have "positive_ids", and may have '
            f'"excluded_ids" and "sample_weight", received {sorted(targets)}.'
        )
    if queries.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("`queries` must be finite: pass `dataset.take(n)`.")
    if not callable(tower):
        raise ValueError(
            "`query_tower` must be a Keras layer or a function, received "
            f"{type(tower).__name__}."
        )
