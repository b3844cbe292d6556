"""What a task was made with."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfrs_negatives import _checks
from tfrs_negatives.losses import SampledSoftmax
from tfrs_negatives.losses.reductions import of_keras_loss
from tfrs_negatives.losses.sampled_loss import SampledLoss
from tfrs_negatives.metrics.negative_metric import NegativeMetric
from tfrs_negatives.tasks import catalogue_options, compiled_loss
from tfrs_negatives.types import KerasLayer, KerasLoss, KerasMetric, ScalarLike


@dataclasses.dataclass(frozen=True, eq=False)
class Options:
    """The options of `tasks.Retrieval`, checked.

    Attributes:
      sampled: Scores, masks and mines. Its value is the task's loss, unless there is a
        Keras loss.
      keras_loss: A Keras loss of one-hot labels and scores, or None.
      remove_accidental_hits, mask_shared_positives, sampling_correction, memory,
        eval_by_scores, global_negatives, gather_dtype, batch_metrics, negative_metrics,
        negative_metric_rows, absent_targets, jit_compile: As in `tasks.Retrieval`.
    """

    sampled: SampledLoss
    keras_loss: KerasLoss | None
    remove_accidental_hits: bool
    mask_shared_positives: bool
    sampling_correction: KerasLayer | None
    memory: KerasLayer | None
    eval_by_scores: bool
    global_negatives: bool
    gather_dtype: str | None
    batch_metrics: list[KerasMetric]
    negative_metrics: list[NegativeMetric]
    negative_metric_rows: int | None
    absent_targets: str
    jit_compile: bool | str

    def __post_init__(self) -> None:
        _checks.check_choice("gather_dtype", self.gather_dtype, (None, "bfloat16"))
        _checks.check_choice("absent_targets", self.absent_targets, ("error", "drop"))
        has_keras_loss = self.keras_loss is not None
        compiled_loss.check(self.jit_compile, self.sampled, has_keras_loss)
        _check_metrics(self.negative_metrics)
        if self.negative_metric_rows is not None:
            _checks.check_at_least("negative_metric_rows", self.negative_metric_rows, 1)
        catalogue_options.check_options(self)

    @property
    def reduction(self) -> str:
        """How rows' losses become the batch's, as in `losses.reductions`."""
        return of_keras_loss(self.keras_loss or self.sampled)


def losses_of(
    loss: SampledLoss | KerasLoss | None, reduction: str | None, **options: Any
) -> tuple[SampledLoss, KerasLoss | None]:
    """The loss that scores, and the Keras loss that takes its scores or None.

    Args:
      loss, reduction: As in `tasks.Retrieval`.
      **options: Of `losses.SampledSoftmax`, as the task was given them.

    Raises:
      ValueError: Options out of range, or that contradict `loss`.
    """
    if isinstance(loss, SampledLoss):
        _check_sampled_loss(loss, **options, reduction=reduction)
        return loss, None
    if loss is not None:
        _check_keras_loss(reduction, **options)
    reduction = "sum" if reduction is None else reduction
    return SampledSoftmax(**options, reduction=reduction), loss


def _check_sampled_loss(loss: SampledLoss, **options: Any) -> None:
    defaults = {"positive": "all"}
    given = [name for name, v in options.items() if v != defaults.get(name)]
    if given:
        raise ValueError(
            f"`{type(loss).__name__}` has its own options: received {given} for the "
            "task too. Give them to the loss."
        )


def _check_keras_loss(
    reduction: str | None,
    *,
    positive: str,
    negative_weight: ScalarLike | None,
    row_block: int | None,
    target_share: ScalarLike | None,
    **others: Any,
) -> None:
    del others  # Scores that they change are what the loss is given.
    if reduction is not None:
        raise ValueError(
            f"A custom `loss` has its own reduction: expected `reduction=None`, "
            f"received {reduction!r}. Set it where the loss is made."
        )
    has_outside = positive == "outside" or negative_weight is not None
    if positive == "refined" or has_outside or row_block is not None:
        raise ValueError(
            '`positive="refined"`, `positive="outside"`, `negative_weight` and '
            "`row_block` belong to the default loss: leave them out, or leave `loss` "
            "out."
        )
    if target_share is not None:
        raise ValueError(
            "`target_share` belongs to the default loss, a custom `loss` is given "
            "one-hot labels: leave it out, or leave `loss` out."
        )


def _check_metrics(metrics: list[NegativeMetric]) -> None:
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
