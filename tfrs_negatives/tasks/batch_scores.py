"""How a batch is scored: row by row, or at the cost of what is distinct in it."""

from __future__ import annotations

from typing import TypeAlias

from tfrs_negatives.tasks.batch import Batch
from tfrs_negatives.tasks.columns import Columns
from tfrs_negatives.tasks.compiled_loss import is_compiled
from tfrs_negatives.tasks.group_scores import GroupScores
from tfrs_negatives.tasks.log_q import LogQ
from tfrs_negatives.tasks.options import Options
from tfrs_negatives.tasks.row_scores import RowScores
from tfrs_negatives.tasks.row_targets import FoundTargets

#: Either form; the loss and its gradients are the same.
BatchScores: TypeAlias = RowScores | GroupScores


def batch_scores_of(
    batch: Batch,
    columns: Columns,
    targets: FoundTargets | None,
    log_q: LogQ,
    options: Options,
) -> BatchScores:
    """Scores a batch in the form that costs less, where both can be had."""
    if _has_groups(batch, options):
        return GroupScores(batch, columns, log_q, options)
    return RowScores(batch, columns, targets, log_q, options)


def _has_groups(batch: Batch, options: Options) -> bool:
    """Whether embeddings repeat, and nothing needs the scores of single rows."""
    return (
        batch.repeats is not None
        and batch.score_mask is None
        and batch.negatives is None
        # Nearly all pairs of a row with others' strata would be listed.
        and batch.strata is None
        and batch.targets is None
        and not batch.measures_scores
        and options.keras_loss is None
        and not is_compiled(options, batch)
        and options.sampled.can_repeat(batch.queries)
    )
