"""What some rows of a batch are trained against, for metrics of negatives."""

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64
from tfrs_negatives.losses import rules
from tfrs_negatives.losses.overwrite import set_each
from tfrs_negatives.losses.row_blocks import Rows
from tfrs_negatives.metrics.negative_metric import NegativeMetric
from tfrs_negatives.metrics.negatives import SOURCES, Negatives
from tfrs_negatives.tasks import row_negatives
from tfrs_negatives.tasks.keys import KnownPositives, row_keys


class ObservedRows:
    """Chooses rows, checks that metrics have what they need, and hands it to them.

    Args:
      metrics: At least one `NegativeMetric`.
      limit: How many rows to look at, evenly spaced; None: all.
      num_rows: B, scalar int32.
      candidate_ids: [C], checked, or None.
      positive_ids: [B, P] or ragged, the rows' positives, or None.
      query_keys, query_key_mask: As in `tasks.Retrieval`.
      negative_ids, negative_mask: [B, M] or None, as the caller gave them.
      has_negatives: Whether rows have negatives of their own.

    Attributes:
      checked: Tensors to compute before any state changes.

    Raises:
      ValueError: A metric without what it needs.
    """

    def __init__(
        self,
        metrics,
        limit,
        num_rows,
        *,
        candidate_ids=None,
        positive_ids=None,
        query_keys=None,
        query_key_mask=None,
        negative_ids=None,
        negative_mask=None,
        has_negatives=False,
    ):
        self._metrics = metrics
        self._needs = {need for metric in metrics for need in metric.NEEDS}
        self._candidate_ids, self._positive_ids = candidate_ids, positive_ids
        self._negative_ids, self._negative_mask = negative_ids, negative_mask
        self.checked = []
        if "positives" in self._needs:
            self._need("positives", positive_ids, "measured_positive_ids", "[B, P]")
        if self.compares_ids:
            self._need("ids", candidate_ids, "candidate_ids", "[C]", "positives")
            if has_negatives:
                self._need("ids", negative_ids, "negative_ids", "[B, M]", "positives")
        if "keys" in self._needs:
            self._need("keys", query_keys, "query_keys", "[B]")
        self._keys = row_keys(query_keys, query_key_mask, num_rows)
        for metric in metrics:
            metric.check(candidate_ids, self._keys)
        if "positives" in self._needs:
            name = "measured_positive_ids"
            known = KnownPositives(positive_ids, candidate_ids, num_rows, name)
            self.checked.append(known.ids)
        limit = num_rows if limit is None else tf.minimum(limit, num_rows)
        # In 64 bits: B times the limit is more than 32 hold.
        places = tf.range(tf.cast(limit, tf.int64)) * tf.cast(num_rows, tf.int64)
        #: [r] int32, the rows to look at.
        self.rows = tf.cast(places // tf.cast(tf.maximum(limit, 1), tf.int64), tf.int32)

    @property
    def compares_ids(self):
        """Whether a metric looks at items."""
        return not self._needs.isdisjoint(("ids", "positives"))

    def update(self, loss, scoring, labels, sample_weight, columns, column_ids):
        """Updates the metrics.

        Args:
          loss: `losses.sampled_loss.SampledLoss`.
          scoring: Dict of its arguments, the embeddings' among them.
          labels: [B] or None, its labels.
          sample_weight: [B] or None.
          columns: `tasks.columns.Columns`.
          column_ids: What `ids_of_columns` returned, with the memory's; or None.

        Returns:
          What the metrics' updates returned.
        """
        allowed, kept, mass = loss.negatives_of(self.rows, **scoring, labels=labels)
        num_shared = _checks.size(scoring["candidate_embeddings"])
        sources = _sources(columns, num_shared, tf.shape(kept)[1])
        offered = self._offered(num_shared, tf.shape(kept)[1])
        own_ids = None
        if self.compares_ids and self._negative_ids is not None:
            own_ids = tf.gather(self._negative_ids, self.rows)
        negatives = Negatives(
            offered=offered,
            allowed=allowed,
            kept=kept,
            mass=mass,
            sources=sources,
            weights=self._weights(sample_weight),
            positives=self._positives(column_ids, own_ids, offered),
            column_ids=column_ids.values if self.compares_ids else None,
            column_id_mask=column_ids.mask if self.compares_ids else None,
            row_ids=None if own_ids is None else as_int64("negative_ids", own_ids),
            keys=self._keys,
        )
        return [metric.update_state(negatives) for metric in self._metrics]

    def _offered(self, num_shared, width):
        shared = tf.ones(tf.stack([tf.size(self.rows), num_shared]), bool)
        none = tf.zeros_like(self.rows, bool)
        shared = set_each(shared, self.rows, none, in_place=False)
        is_negative = tf.ones(tf.stack([tf.size(self.rows), width - num_shared]), bool)
        if self._negative_mask is not None:
            is_negative &= tf.gather(self._negative_mask, self.rows)
        return tf.concat([shared, is_negative], axis=1)

    def _positives(self, column_ids, own_ids, offered):
        if "positives" not in self._needs:
            return None
        num_rows = tf.size(self.rows)
        candidate_ids = tf.gather(self._candidate_ids, self.rows)
        listed = tf.gather(self._positive_ids, self.rows)
        here, by_item = (
            Rows(0, num_rows),
            rules.SortedColumns(
                column_ids.values, tf.size(column_ids.values), column_ids.mask
            ),
        )
        known = KnownPositives(listed, candidate_ids, num_rows)
        same = rules.same_key(as_int64("candidate_ids", candidate_ids), by_item)
        positives = rules.matches([same, known.rule(by_item)], here)
        if own_ids is not None:
            others = row_negatives.allowed(
                own_ids,
                candidate_ids,
                tf.unstack(tf.shape(own_ids)),
                None,
                remove_accidental_hits=True,
                known_positive_ids=listed,
            )
            positives = tf.concat([positives, ~others], axis=1)
        return positives & offered

    def _weights(self, sample_weight):
        if sample_weight is None:
            return tf.ones_like(self.rows, tf.float32)
        return tf.cast(tf.gather(sample_weight, self.rows), tf.float32)

    def _need(self, need, value, name, shape, *also):
        if value is not None:
            return
        needs = (need, *also)
        asking = [m.name for m in self._metrics if not set(needs).isdisjoint(m.NEEDS)]
        known = " or `known_positive_ids`" if need == "positives" else ""
        raise ValueError(
            f"The metrics {asking} look at `{name}`: expected `{name}`{known} of shape "
            f"{shape}, received None. Pass it when calling the task, leave the metrics "
            "out, or call with `compute_batch_metrics=False`."
        )


def check_metrics(metrics):
    """Raises `ValueError` unless all are `NegativeMetric`s, of distinct names."""
    for metric in metrics:
        if not isinstance(metric, NegativeMetric):
            raise ValueError(
                "`negative_metrics` must be `metrics.NegativeMetric`s, such as "
                f"`metrics.MaskRate()`, received {type(metric).__name__}. Metrics of "
                "labels and scores are `batch_metrics`."
            )
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise ValueError(
            f"`negative_metrics` must have distinct names, received {names}: logs "
            "would show one of them. Pass `name=`."
        )


def _sources(columns, num_shared, width):
    """[width] int32, where each column is from."""
    counts = {
        "in_batch": columns.num_positives,
        "memory": num_shared - columns.num_columns,
        "extra": columns.num_columns - columns.num_positives,
        "per_row": width - num_shared,
    }
    return tf.concat(
        [tf.fill([count], SOURCES.index(name)) for name, count in counts.items()],
        axis=0,
    )
