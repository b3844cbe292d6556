"""A batch scored at the cost of what is distinct in it."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives._gather_rows import gather_rows
from tfrs_negatives.losses.repeat_groups import Groups, Layout
from tfrs_negatives.losses.scoring import Scoring
from tfrs_negatives.tasks.batch import Batch
from tfrs_negatives.tasks.columns import Columns
from tfrs_negatives.tasks.keys import Keys
from tfrs_negatives.tasks.log_q import LogQ
from tfrs_negatives.tasks.masks import accidental_hits_of, rules_of
from tfrs_negatives.tasks.options import Options
from tfrs_negatives.tasks.repeats import Repeats


class GroupScores:
    """Groups of rows that no rule tells apart, against distinct columns.

    Attributes:
      positives: [num_positives, d], the embeddings of everyone's positives.
    """

    def __init__(
        self, batch: Batch, columns: Columns, log_q: LogQ, options: Options
    ) -> None:
        assert batch.repeats is not None  # As `batch_scores` says.
        self._batch, self._columns, self._options = batch, columns, options
        self._repeats = batch.repeats
        self._groups = _groups_of(batch, self._repeats)
        self._rules = rules_of(batch, columns, options, self._groups)
        self._log_q = columns.log_q(log_q.candidates)
        self._embeddings, self._places = columns.places(self._repeats)
        own = columns.positives(self._places)
        self.positives = tf.gather(self._embeddings, own)

    def loss(self) -> tf.Tensor:
        """The loss of the batch."""
        columns, log_q = self._columns, self._log_q
        ids = columns.ids if columns.has_ids else None
        distinct = _distinct_columns(self._places, ids, log_q)
        query_of_group = tf.gather(self._repeats.query_rows, self._groups.first)
        scoring = Scoring.of(
            gather_rows(self._repeats.queries, query_of_group),
            gather_rows(self._embeddings, tf.gather(self._places, distinct.first)),
            self._batch.temperature,
            log_q=None if log_q is None else tf.gather(log_q, distinct.first),
            sample_weight=self._batch.sample_weight,
            negative_weight=self._batch.negative_weight,
        )
        hits: tuple = ()
        if self._options.remove_accidental_hits:
            hits = columns.ids.values, columns.ids.mask
        layout = Layout(self._groups, distinct, self._rules, *hits)
        return self._options.sampled.of_repeats(scoring, layout)

    def row_scoring(self) -> Scoring:
        """What a loss would take without repeats, for metrics that look at single rows.

        Its rule on accidental hits is of the rows that they observe alone.
        """
        batch, columns = self._batch, self._columns
        rules = [rule.of_rows(self._groups.of) for rule in self._rules]
        if self._options.remove_accidental_hits and batch.observed is not None:
            observed = batch.observed.rows
            rules.append(accidental_hits_of(observed, batch.num_rows, columns))
        return Scoring.of(
            batch.queries,
            gather_rows(self._embeddings, self._places),
            batch.temperature,
            log_q=self._log_q,
            rules=rules,
            labels=batch.labels,
            sample_weight=batch.sample_weight,
            negative_weight=batch.negative_weight,
        )


def _groups_of(batch: Batch, repeats: Repeats) -> Groups:
    """Rows of one query that no rule tells apart, but for accidental hits."""
    return Groups(repeats.query_rows, *batch.row_respects())


def _distinct_columns(
    places: tf.Tensor, ids: Keys | None, log_q: tf.Tensor | None
) -> Groups:
    """Columns that nothing tells apart.

    Args:
      places: [size] int32, the embedding of each column.
      ids: `Keys` [size] or None.
      log_q: [size] or None.
    """
    respects = [places]
    if ids is not None:
        respects += ids.respects()
    if log_q is not None:
        kind = tf.int64 if log_q.dtype == tf.float64 else tf.int32
        respects.append(tf.bitcast(log_q, kind))
    return Groups(*respects)
