"""Whether the task has XLA compile its loss, and the loss compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives._xla import compiled_by_xla, placed_on_gpu
from tfrs_negatives.losses.sampled_loss import SampledLoss
from tfrs_negatives.losses.scoring import Scoring

if TYPE_CHECKING:
    from tfrs_negatives.tasks.batch import Batch
    from tfrs_negatives.tasks.options import Options

CHOICES = ("auto", True, False)


def is_compiled(options: Options, batch: Batch) -> bool:
    """Whether the loss of a call made here is computed in the form that XLA compiles.

    "auto" takes what is expected to be faster; not measured on a GPU. There it is the
    compiled form, whose masks are compared inside of the softmax; on a CPU, and on
    several replicas, the plain one, which lists what it masks. The plain one too where
    XLA loses what is known to save much: repeats, which it scores one by one, and
    `mask_shared_positives`, which scatters into a matrix under XLA. Nor does it compile
    what XLA would compile again for many a batch, or what `check` refuses.
    Calls that are not traced into a function run as they are, as compiling takes longer
    than many of them.
    """
    if compiled_by_xla():
        return True
    if tf.executing_eagerly() or options.keras_loss is not None:
        return False
    if options.jit_compile != "auto":
        return bool(options.jit_compile)
    return (
        placed_on_gpu()
        and distribute.num_replicas() == 1
        and options.sampled.reduction != "none"
        and not options.sampled.mines_a_variable
        and not options.mask_shared_positives
        and batch.repeats is None
        and not (batch.known is not None and batch.known.is_ragged)
        and not (batch.targets is not None and batch.targets.is_ragged)
    )


def check(jit_compile: bool | str, sampled: SampledLoss, has_keras_loss: bool) -> None:
    """Raises `ValueError` where the choice is none, or cannot be had.

    Args:
      jit_compile: As in `tasks.Retrieval`.
      sampled: The loss of the package.
      has_keras_loss: Whether a Keras loss takes its scores.
    """
    _checks.check_choice("jit_compile", jit_compile, CHOICES)
    if jit_compile is not True:
        return
    hint = (
        "Leave `jit_compile` out, or compile the whole step, "
        "`model.compile(jit_compile=True)`."
    )
    if has_keras_loss:
        raise ValueError(
            "`jit_compile=True` compiles the losses of this package: expected one of "
            f"them, received a Keras loss. {hint}"
        )
    if sampled.reduction == "none":
        # Blocks are formed again in the gradient, which is compiled by itself, of sizes
        # that its forward pass found.
        raise ValueError(
            "`jit_compile=True` compiles losses that are scalars: expected another "
            f"reduction, received 'none'. {hint}"
        )
    if sampled.mines_a_variable:
        raise ValueError(
            "XLA must know how many hard negatives there are when it compiles: with "
            "`jit_compile=True` expected `num_hard_negatives` to be an int or None, "
            "received a variable. Leave `jit_compile` out, or pass an int."
        )


def loss_of(sampled: SampledLoss, scoring: Scoring, compiled: bool) -> tf.Tensor:
    """The loss, compiled by XLA if asked to; where XLA compiles already it just is.

    XLA compiles once for each number of rows and columns that it is given: for whole
    batches, and once more for a last one that is smaller.
    """
    if not compiled or compiled_by_xla():
        return sampled.of(scoring)

    @tf.function(jit_compile=True, autograph=False)
    def loss() -> tf.Tensor:
        return sampled.of(scoring)

    return loss()
