"""Which rows of a batch the metrics of negatives look at, and what they need."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfrs_negatives.metrics.negative_metric import NegativeMetric
from tfrs_negatives.tasks.keys import KnownPositives, NamedKeys
from tfrs_negatives.tasks.row_negatives import RowNegatives
from tfrs_negatives.types import ListsLike


class ObservedRows:
    """Chooses rows, and checks that the metrics have what they need.

    Args:
      metrics: At least one `NegativeMetric`.
      limit: How many rows to look at, evenly spaced; None: all.
      num_rows: B, scalar int32.
      candidate_ids: [C], checked, or None.
      keys: The rows' keys by name.
      negatives: Negatives of single rows, or None.
      positives: The rows' positives, `KnownPositives` or lists of ids; or None.

    Attributes:
      metrics: The metrics.
      rows: [r] int32, the rows to look at.
      compares_ids: Whether a metric looks at items.
      measured: `KnownPositives`, the rows' positives; None where no metric needs them.

    Raises:
      ValueError: A metric without what it needs.
    """

    def __init__(
        self,
        metrics: Sequence[NegativeMetric],
        limit: int | None,
        num_rows: tf.Tensor,
        candidate_ids: tf.Tensor | None,
        keys: NamedKeys,
        negatives: RowNegatives | None,
        positives: KnownPositives | ListsLike | None,
    ) -> None:
        self.metrics = metrics
        needs: set[str] = set()
        for metric in metrics:
            needs.update(metric.NEEDS)
        self.compares_ids = compare_ids(metrics)
        if "positives" in needs:
            self._need("positives", positives, "measured_positive_ids", "[B, P]")
        if self.compares_ids:
            self._need("ids", candidate_ids, "candidate_ids", "[C]", "positives")
            if negatives is not None:
                ids = negatives.ids
                self._need("ids", ids, "negative_ids", "[B, M]", "positives")
        if "keys" in needs:
            self._need("keys", keys or None, "query_keys", "[B]")
        for metric in metrics:
            metric.check(candidate_ids, keys)
        self.measured = None
        if "positives" in needs:
            if not isinstance(positives, KnownPositives):
                name = "measured_positive_ids"
                positives = KnownPositives(positives, candidate_ids, num_rows, name)
            self.measured = positives
        self.rows = _evenly_spaced(limit, num_rows)

    def _need(
        self, need: str, value: object | None, name: str, shape: str, *also: str
    ) -> None:
        if value is not None:
            return
        needs = (need, *also)
        asking = [m.name for m in self.metrics if not set(needs).isdisjoint(m.NEEDS)]
        known = " or `known_positive_ids`" if need == "positives" else ""
        raise ValueError(
            f"The metrics {asking} look at `{name}`: expected `{name}`{known} of shape "
            f"{shape}, received None. Pass it when calling the task, leave the metrics "
            "out, or call with `compute_batch_metrics=False`."
        )


def compare_ids(metrics: Sequence[NegativeMetric]) -> bool:
    """Whether any of the metrics looks at items."""
    return any(not {"ids", "positives"}.isdisjoint(m.NEEDS) for m in metrics)


def _evenly_spaced(limit: int | None, num_rows: tf.Tensor) -> tf.Tensor:
    """[r] int32, numbers of rows; None: of all."""
    limit = num_rows if limit is None else tf.minimum(limit, num_rows)
    # In 64 bits: B times the limit is more than 32 hold.
    places = tf.range(tf.cast(limit, tf.int64)) * tf.cast(num_rows, tf.int64)
    return tf.cast(places // tf.cast(tf.maximum(limit, 1), tf.int64), tf.int32)
