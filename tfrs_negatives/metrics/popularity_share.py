"""How many negatives are popular items."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import check_comparable
from tfrs_negatives._keras import keras
from tfrs_negatives.layers.id_counts import checked_counts, from_config, to_config
from tfrs_negatives.metrics.negative_metric import NegativeMetric, named
from tfrs_negatives.metrics.negatives import Negatives, only
from tfrs_negatives.types import Config, CountsLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class PopularityShare(NegativeMetric):
    """The share of negatives that are among the most popular items.

    It counts the negatives that the loss sees. The most popular items are the `top`
    share of the counted ones, rounded up; of equal counts, the first ones. It needs
    `candidate_ids`.

    Args:
      counts: Counts of items, as `layers.StaticFrequency` takes them.
      top: Which share of the items is popular, in (0, 1].
      by: "count": the share of the number of negatives. "mass": of their gradient mass
        (see `NegativeHardness`), which is what log-Q correction takes from popular
        items.
      source: One of `SOURCES`, to count its negatives alone; None: all.
      name: Name of the metric.

    Raises:
      ValueError: Options out of range; counts as `layers.StaticFrequency`.

    Example:
      >>> metric = tn.metrics.PopularityShare({1: 9, 2: 1, 3: 1}, top=0.1)
      >>> task = tn.tasks.Retrieval(negative_metrics=[metric])
      >>> embeddings = tf.ones([4, 2])
      >>> _ = task(embeddings, embeddings, candidate_ids=tf.constant([1, 1, 2, 3]))
      >>> round(float(metric.result()), 3)
      0.5
    """

    NEEDS = ("ids",)

    def __init__(
        self,
        counts: CountsLike,
        *,
        top: float = 0.01,
        by: str = "count",
        source: str | None = None,
        name: str | None = None,
    ) -> None:
        _checks.check_number("top", top)
        if not 0 < top <= 1:
            raise ValueError(
                f"`top` must be in (0, 1], the share of items that is popular, "
                f"received {top}."
            )
        _checks.check_choice("by", by, ("count", "mass"))
        ids, keys, counts = checked_counts(counts)
        measure = "popularity_share" + ("" if by == "count" else "_by_mass")
        super().__init__(name or named(measure, source), source)
        self.top, self.by = top, by
        self._counts, self._ids = counts, ids
        # A hair less, so that 0.07 of 100 are 7.
        size = max(math.ceil(top * len(keys) - 1e-9), 1)
        most = np.argsort(-counts, kind="stable")[:size]
        self._popular = np.sort(keys[most])

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            **to_config(self._ids, self._counts),
            "top": self.top,
            "by": self.by,
        }

    @classmethod
    def from_config(cls, config: Config) -> PopularityShare:
        return cls(**from_config(config))

    def check(
        self, candidate_ids: tf.Tensor | None, query_keys: Mapping[str | None, Any]
    ) -> None:
        counted = tf.convert_to_tensor(self._ids[:1])
        name = f"{self.name}.ids"
        check_comparable(name, counted, "candidate_ids", candidate_ids)

    def parts(self, negatives: Negatives) -> tuple[tf.Tensor, tf.Tensor]:
        popular = negatives.where_item(self._is_popular)
        pairs = negatives.kept if self.by == "count" else negatives.mass
        return (
            negatives.total(only(pairs, popular), self.source),
            negatives.total(pairs, self.source),
        )

    def _is_popular(self, ids: tf.Tensor) -> tf.Tensor:
        popular = tf.constant(self._popular)
        places = tf.minimum(tf.searchsorted(popular, ids), len(self._popular) - 1)
        return tf.equal(tf.gather(popular, places), ids)
