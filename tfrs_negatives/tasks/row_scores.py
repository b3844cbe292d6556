"""A batch scored row by row."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives.losses.dense_scores import DenseScores
from tfrs_negatives.losses.scoring import Scoring
from tfrs_negatives.tasks import compiled_loss
from tfrs_negatives.tasks.batch import Batch
from tfrs_negatives.tasks.columns import Columns
from tfrs_negatives.tasks.log_q import LogQ
from tfrs_negatives.tasks.masks import mask_of_negatives, rules_of
from tfrs_negatives.tasks.options import Options
from tfrs_negatives.tasks.row_targets import FoundTargets, rows_own


class RowScores:
    """Every row against every column.

    Attributes:
      positives: [num_positives, d], the embeddings of everyone's positives.
      scoring: What the loss takes.
    """

    def __init__(
        self,
        batch: Batch,
        columns: Columns,
        targets: FoundTargets | None,
        log_q: LogQ,
        options: Options,
    ) -> None:
        self._options = options
        self._is_compiled = compiled_loss.is_compiled(options, batch)
        self._dense: DenseScores | None = None
        embeddings = columns.embeddings(batch.candidates)
        self.positives = columns.positives(embeddings)
        rules = rules_of(batch, columns, options)
        if targets is not None and targets.copies is not None:
            copies = targets.copies
            if targets.are_shared and not self._is_compiled:
                copies = copies.of_repeats()
            rules.append(copies)
        mask = mask_of_negatives(batch, columns, options)
        negatives, negative_log_q, negative_mask = rows_own(batch, log_q, mask)
        self.scoring = Scoring.of(
            batch.queries,
            embeddings,
            batch.temperature,
            negatives=negatives,
            log_q=columns.log_q(log_q.candidates),
            negative_log_q=negative_log_q,
            rules=rules,
            score_mask=columns.score_mask(batch.score_mask),
            negative_mask=negative_mask,
            labels=batch.labels,
            targets=None if targets is None else targets.places,
            sample_weight=batch.sample_weight,
            negative_weight=batch.negative_weight,
            guide=columns.guide(batch.guide),
        )

    def loss(self) -> tf.Tensor:
        """The loss of the batch."""
        keras_loss = self._options.keras_loss
        if keras_loss is not None:
            return self.dense.loss(keras_loss)
        return compiled_loss.loss_of(
            self._options.sampled, self.scoring, self._is_compiled
        )

    def row_scoring(self) -> Scoring:
        """What the loss takes, for metrics that look at single rows."""
        return self.scoring

    @property
    def dense(self) -> DenseScores:
        """All scores at once, for Keras's losses and metrics."""
        if self._dense is None:
            self._dense = self._dense_scores()
        return self._dense

    def _dense_scores(self) -> DenseScores:
        logits = self._options.sampled.logits(self.scoring)
        # Keras's own reductions know nothing of other replicas.
        masked = self.scoring.is_masked or distribute.num_replicas() > 1
        return DenseScores(*logits, self.scoring.sample_weight, masked)
