"""Several targets a row: cross-entropy against a distribution over columns.

Row i gives its targets t, columns beside its own positive, shares of its weight; what
they leave stays with the positive. With L the log of its sum over columns, it costs

    loss_i = L_i - (1 - sum_t share_t) s(i, positive) - sum_t share_t s(i, t),

which is the loss of one positive plus sum_t share_t (s(i, positive) - s(i, t)). The
derivative in the scores is the softmax less the shares. Where the positive is outside
of the sum, the targets are too. So targets need a list of
places beside the scores of a block, and no matrix of their own.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._xla import compiled_by_xla
from tfrs_negatives.losses.in_place import add, get_each, overwrite, row_starts
from tfrs_negatives.losses.row_blocks import AnyRows
from tfrs_negatives.types import TensorLike


class Targets(NamedTuple):
    """The targets of rows, M places a row, of which some may hold none.

    Attributes:
      columns: [B, M] int32, columns of the rows' scores, none of them the row's own
        positive's; which it is where a place holds no target. A row may name a column
        several times.
      shares: [B, M], of the row's weight; 0 where a place holds no target.
      mask: [B, M] bool, which places hold one. The share of a target may be 0 too.
    """

    columns: tf.Tensor
    shares: tf.Tensor
    mask: tf.Tensor

    def of(self, rows: AnyRows) -> Targets:
        """Those of some rows."""
        return Targets(*map(rows.of, self))


class ScoredTargets(NamedTuple):
    """The targets of n rows, and what they score.

    Attributes:
      places: `Targets` [n, M] by their columns in the rows' logits.
      scores: [n, M], the positive's where a place holds no target.
      own: [n], the scores of the rows' own positives.
    """

    places: Targets
    scores: tf.Tensor
    own: tf.Tensor


def targets_of(columns: tf.Tensor, weights: tf.Tensor, share: tf.Tensor) -> Targets:
    """The shares of targets from their weights.

    Args:
      columns: [B, M] int32. A row may name a column several times, and its own.
      weights: [B, M], at least 0 and finite; 0 where a place holds no target.
      share: Scalar, what a row's targets get together, in proportion to their weights.
        A row without targets keeps its weight.
    """
    mask = weights > 0
    # By the largest one first: the sum of large weights may overflow.
    shares = tf.math.divide_no_nan(weights, tf.reduce_max(weights, 1, keepdims=True))
    total = tf.reduce_sum(shares, axis=1, keepdims=True)
    shares = share * tf.math.divide_no_nan(shares, total)
    own = tf.range(tf.shape(columns)[0])[:, tf.newaxis]
    # What the positive's own column gets is what the others leave.
    mask &= tf.not_equal(columns, own)
    shares = tf.where(mask, shares, tf.zeros_like(shares))
    return Targets(tf.where(mask, columns, own), shares, mask)


def check_columns(
    columns: TensorLike,
    weights: TensorLike | None,
    share: tf.Tensor,
    num_rows: tf.Tensor,
    num_columns: tf.Tensor,
) -> Targets:
    """Checks targets that are given as columns.

    Args:
      columns: [B, M] integers.
      weights: [B, M] or None, all 1.
      share: As in `targets_of`.
      num_rows, num_columns: B and how many columns a row is scored against, its own
        negatives included; scalars int32.

    Raises:
      ValueError, tf.errors.InvalidArgumentError: As `SampledSoftmax.__call__`.
    """
    columns = _checks.dense("target_columns", columns)
    if not columns.dtype.is_integer:
        raise ValueError(
            "`target_columns` must be integers, the column of each target; received "
            f"{columns.dtype.name}."
        )
    hint = "Pass [B, M], padded with weights of 0 where rows have fewer targets."
    _checks.check_rank("target_columns", columns, (2,), hint)
    columns = _checks.check_size("target_columns", columns, 0, num_rows, hint)
    columns = check_some("target_columns", tf.cast(columns, tf.int32))
    if weights is None:
        weights = tf.ones_like(columns, share.dtype)
    weights = check_weights(weights, _checks.size(columns), _checks.size(columns, 1))
    weights = tf.cast(weights, share.dtype)
    inside = (columns >= 0) & (columns < num_columns)
    message = (
        "`target_columns` must be from 0 to one less than the number of columns, the "
        "row's own negatives included. Received the columns, and their number:"
    )
    is_right = tf.reduce_all(inside | tf.equal(weights, 0))
    columns = _checks.guard(
        columns, tf.debugging.Assert(is_right, [message, columns, num_columns])
    )
    return targets_of(columns, weights, share)


def check_some(name: str, values: tf.Tensor) -> tf.Tensor:
    """Returns `values` [B, M], checked that M is not 0."""
    message = (
        f"`{name}` must have at least one place a row, received a shape of [B, 0]. "
        "Leave it out where no row has a target."
    )
    if values.shape[1] is None:
        some = tf.debugging.assert_positive(tf.shape(values)[1], message=message)
        return _checks.guard(values, some)
    if not values.shape[1]:
        raise ValueError(message)
    return values


def check_weights(
    weights: TensorLike,
    num_rows: tf.Tensor,
    num_targets: tf.Tensor,
    has_targets: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns weights [B, M], checked to be at least 0, finite, and some above 0.

    Args:
      weights: [B, M] numbers.
      num_rows, num_targets: B and M, scalars int32.
      has_targets: [B] bool, which rows list any; None: all.
    """
    weights = _checks.dense("target_weights", weights)
    hint = "Pass one weight for each target, [B, M]."
    if not (weights.dtype.is_floating or weights.dtype.is_integer):
        raise ValueError(
            f"`target_weights` must be numbers, received {weights.dtype.name}. {hint}"
        )
    if weights.dtype != tf.float64:
        weights = tf.cast(weights, tf.float32)
    _checks.check_rank("target_weights", weights, (2,), hint)
    weights = _checks.check_size("target_weights", weights, 0, num_rows, hint)
    weights = _checks.check_size("target_weights", weights, 1, num_targets, hint)
    is_right = tf.reduce_all((weights >= 0) & tf.math.is_finite(weights))
    message = (
        "`target_weights` must be finite and at least 0: they are shares of a row's "
        "weight, of any scale. Received:"
    )
    is_empty = ~tf.reduce_any(weights > 0, axis=1)
    if has_targets is not None:
        is_empty &= has_targets
    empty = tf.where(is_empty)[:, 0]
    all_0 = (
        "`target_weights` are all 0 in rows that list targets. Give one of them a "
        "weight, leave them out of a ragged list, or list the row's own positive "
        "alone, which then keeps its weight. These rows are:"
    )
    return _checks.guard(
        weights,
        tf.debugging.Assert(is_right, [message, weights]),
        tf.debugging.Assert(tf.equal(tf.size(empty), 0), [all_0, empty]),
    )


def read(
    targets: Targets,
    logits: tf.Tensor,
    positives: tf.Tensor,
    others: tf.Tensor | None = None,
) -> ScoredTargets:
    """What targets score, read from scores that no mask has changed.

    Args:
      targets: Of the n rows.
      logits: [n, C].
      positives: [n] int32, the column of each row's positive.
      others: [n, M'], scores of each row's own negatives, columns from C on; or None.
    """
    own = get_each(logits, positives)
    if others is not None:
        # Few of all pairs: what is joined here is read and thrown away.
        num_shared = tf.shape(logits)[1]
        of_others = tf.maximum(targets.columns - num_shared, 0)
        shared = tf.minimum(targets.columns, num_shared - 1)
        scores = tf.where(
            targets.columns < num_shared,
            tf.gather(logits, shared, batch_dims=1),
            _gather_each(others, of_others),
        )
    else:
        scores = tf.gather(logits, targets.columns, batch_dims=1)
    return ScoredTargets(targets, scores, own)


def corrected_back(
    scored: ScoredTargets, log_q: tf.Tensor, negative_log_q: tf.Tensor | None
) -> ScoredTargets:
    """Targets without what log q took from them.

    Args:
      scored: The targets of n rows.
      log_q: [C].
      negative_log_q: [n, M'] or None.
    """
    columns, mask = scored.places.columns, scored.places.mask
    num_shared = tf.size(log_q)
    added = tf.gather(log_q, tf.minimum(columns, num_shared - 1))
    if negative_log_q is not None:
        of_others = _gather_each(negative_log_q, tf.maximum(columns - num_shared, 0))
        added = tf.where(columns < num_shared, added, of_others)
    scores = tf.where(mask, scored.scores + added, scored.scores)
    return scored._replace(scores=scores)


def write(
    logits: tf.Tensor, targets: Targets, values: tf.Tensor, in_place: bool
) -> tf.Tensor:
    """`logits` [n, width] with `values` [n, M] in the targets' places.

    Where a place holds no target, the value must be that of the row's positive, or one
    for a matrix without it.
    """
    if not compiled_by_xla():
        # Most are there already, and to write one takes longer than to read it.
        found = tf.gather(logits, targets.columns, batch_dims=1)
        differs = targets.mask & tf.not_equal(found, values)
        targets = targets._replace(mask=differs)
    places, values = _listed(logits, targets, values)
    with tf.control_dependencies([values]):
        return overwrite(logits, places, values, in_place)


def hide(logits: tf.Tensor, scored: ScoredTargets, in_place: bool) -> tf.Tensor:
    """`logits` [n, width] with -inf in the targets' places, so that no sum has them."""
    minus_inf = tf.constant(float("-inf"), logits.dtype)
    hidden = tf.where(scored.places.mask, minus_inf, scored.scores)
    return write(logits, scored.places, hidden, in_place)


def among_the_hardest(
    scored: ScoredTargets, logits: tf.Tensor, mined: tf.Tensor
) -> tuple[ScoredTargets, tf.Tensor, tf.Tensor]:
    """Puts targets between the positives and the hardest negatives of rows.

    Args:
      scored: The targets of n rows, none of which is among the hardest.
      logits, mined: [n, 1 + k], as `hard_negatives.hardest` returns them.

    Returns:
      The targets by their new columns; logits and columns [n, 1 + M + k].
    """
    targets, minus_inf = scored.places, tf.constant(float("-inf"), logits.dtype)
    # Each column counts once; what its other places lose goes to it too.
    counts = targets.mask & _are_first(targets.columns)
    values = tf.where(counts, scored.scores, minus_inf)
    behind = 1 + tf.range(tf.shape(values)[1])
    places = targets._replace(columns=tf.where(targets.mask, behind, 0))
    return (
        scored._replace(places=places),
        tf.concat([logits[:, :1], values, logits[:, 1:]], axis=1),
        tf.concat([mined[:, :1], targets.columns, mined[:, 1:]], axis=1),
    )


def shared_out(
    losses: tf.Tensor,
    d_logits: tf.Tensor,
    positives: tf.Tensor,
    scored: ScoredTargets,
    in_sum: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Losses and derivatives of rows that share their weight, from those of one target.

    Args:
      losses, d_logits: [n] and [n, width], as if all weight was the positive's; the
        derivatives may be changed in place.
      positives: [n] int32.
      scored: The rows' targets.
      in_sum: Whether the rows' sums have the positive and the targets.
    """
    targets = scored.places
    shares = targets.shares
    behind = tf.reduce_sum(shares * (scored.own[:, tf.newaxis] - scored.scores), axis=1)
    if not in_sum:
        # The derivative in the positive alone: -1, before a row's factor, or 0 where
        # there are no negatives, and nothing is paid.
        weight = -get_each(d_logits, positives)
        behind = tf.where(tf.equal(weight, 0), tf.zeros_like(behind), behind)
        shares *= weight[:, tf.newaxis]
    losses += behind
    places, values = _listed(d_logits, targets, -shares)
    num_rows, num_columns = tf.unstack(tf.shape(d_logits))
    own = row_starts(num_rows, num_columns) + positives
    places = tf.concat([own, places], axis=0)
    values = tf.concat([tf.reduce_sum(shares, axis=1), values], axis=0)
    return losses, add(d_logits, places, values)


def without(matrix: tf.Tensor, targets: Targets) -> tf.Tensor:
    """[n, width] numbers or bools with 0 or False for targets and own positives."""
    nothing = tf.zeros_like(targets.columns, matrix.dtype)
    places, nothing = _listed(matrix, targets, nothing)
    return overwrite(matrix, places, nothing, in_place=False)


def _listed(
    matrix: tf.Tensor, targets: Targets, values: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Places [p] of the targets in a matrix, and their values.

    Under XLA, which knows no lists of unknown length, those that hold no target are
    listed with the row's positive.
    """
    num_rows, num_columns = tf.unstack(tf.shape(matrix))
    places = row_starts(num_rows, num_columns)[:, tf.newaxis] + targets.columns
    places, values = tf.reshape(places, [-1]), tf.reshape(values, [-1])
    if compiled_by_xla():
        return places, values
    listed = tf.where(tf.reshape(targets.mask, [-1]))[:, 0]
    return tf.gather(places, listed), tf.gather(values, listed)


def _gather_each(matrix: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """`matrix[i, columns[i, m]]`, of a matrix that may have no columns: then 0."""
    return tf.gather(tf.pad(matrix, [[0, 0], [0, 1]]), columns, batch_dims=1)


def _are_first(columns: tf.Tensor) -> tf.Tensor:
    """[n, M] bool, which of columns [n, M] no place before them in their row has."""
    order = tf.argsort(columns, axis=1, stable=True)
    ordered = tf.gather(columns, order, batch_dims=1)
    begins = tf.not_equal(ordered[:, 1:], ordered[:, :-1])
    begins = tf.concat([tf.ones_like(columns[:, :1], tf.bool), begins], axis=1)
    return tf.gather(begins, tf.argsort(order, axis=1), batch_dims=1)
