"""The targets that rows have beside their own positives, and where they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, check_comparable, pairs
from tfrs_negatives._sorted_keys import SortedKeys
from tfrs_negatives.losses import rules, soft_targets
from tfrs_negatives.losses.inputs import check_rows_own
from tfrs_negatives.tasks.keys import need
from tfrs_negatives.tasks.options import Options
from tfrs_negatives.types import ListsLike, TensorLike

if TYPE_CHECKING:
    from tfrs_negatives.tasks.batch import Batch
    from tfrs_negatives.tasks.columns import Columns
    from tfrs_negatives.tasks.log_q import LogQ

_HINT = "Pass one list for each row: [B, M], or a ragged [B, None]."


class RowTargets(NamedTuple):
    """M places for targets of each row, of which some may hold none.

    Attributes:
      ids: [B, M] integers or strings, or None beside embeddings.
      item_ids: [B, M] int64, the same with strings as hashes.
      weights: [B, M], 0 where a place holds no target.
      embeddings: [B, M, d], or None where targets are columns that all rows share.
      log_q: [B, M], of what has embeddings, as the caller gave it; or None.
      share: Scalar, what a row's targets get together.
      is_ragged: Whether only the ids themselves tell what M is.
    """

    ids: tf.Tensor | None
    item_ids: tf.Tensor | None
    weights: tf.Tensor
    embeddings: tf.Tensor | None
    log_q: tf.Tensor | None
    share: tf.Tensor
    is_ragged: bool

    def tensors(self) -> list[tf.Tensor]:
        """What is computed only if every check holds."""
        parts = (self.ids, self.weights, self.embeddings, self.log_q, self.share)
        return [part for part in parts if part is not None]

    def rule(self, columns: Columns) -> rules.Rule:
        """The rule that drops columns that hold a target's item."""
        num_rows, num_targets = tf.unstack(tf.shape(self.weights))
        starts = tf.range(num_rows) * num_targets
        return rules.Rule(
            tf.reshape(self.item_ids, [-1]),
            columns.by_item,
            row_starts=starts,
            row_ends=starts + num_targets,
            longest=num_targets,
            mask=tf.reshape(self.weights > 0, [-1]),
        )

    def hold(self, ids: tf.Tensor) -> tf.Tensor:
        """Whether each of `ids` [B, m] int64 is a target of its row."""
        rows = tf.range(tf.shape(ids)[0], dtype=tf.int64)[:, tf.newaxis]
        listed = tf.reshape(pairs(rows, self.item_ids), [-1])
        wanted = tf.reshape(pairs(rows, ids), [-1])
        keys = SortedKeys(listed, tf.reshape(self.weights > 0, [-1]))
        first, last = keys.ranges(wanted)
        return tf.reshape(first < last, tf.shape(ids))


class FoundTargets(NamedTuple):
    """The targets of rows, by their columns.

    Attributes:
      places: `soft_targets.Targets`.
      are_shared: Whether they are columns that all rows have.
      copies: The rule that drops other columns of their items, where accidental hits
        are dropped; or None. It lists the columns that are targets too.
    """

    places: soft_targets.Targets
    are_shared: bool
    copies: rules.Rule | None


def checked(
    options: Options,
    ids: ListsLike | None,
    weights: ListsLike | None,
    embeddings: TensorLike | None,
    log_q: TensorLike | None,
    queries: tf.Tensor,
    candidate_ids: tf.Tensor | None,
    dtype: tf.DType,
) -> RowTargets | None:
    """Checks what a call was given of targets.

    Args:
      options: The task's.
      ids, weights, embeddings, log_q: `target_*` of `tasks.Retrieval`.
      queries: [B, ..., d], checked.
      candidate_ids: [C], checked, or None.
      dtype: What the loss computes in.

    Returns:
      None without ids and embeddings.

    Raises:
      ValueError, tf.errors.InvalidArgumentError: As `tasks.Retrieval.call`.
    """
    if ids is None and embeddings is None:
        others = {"target_weights": weights, "target_log_q": log_q}
        given = [name for name, value in others.items() if value is not None]
        if given:
            raise ValueError(
                f"{given} tell about targets: expected `target_ids` (or "
                "`target_embeddings`) too, received None. Pass the ids of each row's "
                "targets, [B, M]."
            )
        return None
    if options.keras_loss is not None:
        raise ValueError(
            "Targets are for `losses.SampledSoftmax`, a Keras `loss` is given one-hot "
            "labels: expected no `target_ids` and no `target_embeddings`. Leave them "
            "out, or leave `loss` out."
        )
    share = options.sampled.checked_target_share(dtype)
    if embeddings is None:
        need(candidate_ids, "target_ids", "candidate_ids", "[C]")
        if log_q is not None:
            raise ValueError(
                "`target_log_q` is that of `target_embeddings`: expected these too, "
                "received None. What is among the columns has the columns' log q."
            )
    elif ids is None and options.remove_accidental_hits:
        raise ValueError(
            "`remove_accidental_hits=True` compares ids: expected `target_ids` of "
            "shape [B, M] beside `target_embeddings`, received None. Pass them, or "
            "leave the rule out."
        )
    num_rows = _checks.size(queries)
    is_ragged = isinstance(ids, tf.RaggedTensor)
    has_targets = None
    if embeddings is not None:
        embeddings, log_q = check_rows_own("target", embeddings, log_q, queries)
        embeddings = soft_targets.check_some("target_embeddings", embeddings)
        num_targets = _checks.size(embeddings, 1)
        ids = None if ids is None else _dense_ids(ids, num_rows, num_targets)
    elif is_ragged:
        ids, weights, has_targets = _padded(ids, weights, num_rows, dtype)
        num_targets = _checks.size(ids, 1)
    else:
        ids = _dense_ids(ids, num_rows)
        num_targets = _checks.size(ids, 1)
    if weights is None:
        weights = tf.ones(tf.stack([num_rows, num_targets]), dtype)
    weights = soft_targets.check_weights(weights, num_rows, num_targets, has_targets)
    item_ids = None
    if ids is not None:
        if candidate_ids is not None:
            check_comparable("target_ids", ids, "candidate_ids", candidate_ids)
        item_ids = as_int64("target_ids", ids)
    return RowTargets(
        ids, item_ids, tf.cast(weights, dtype), embeddings, log_q, share, is_ragged
    )


def check_corrected(
    targets: RowTargets, options: Options, is_corrected: bool
) -> RowTargets:
    """Checks that targets with embeddings have log q where positives are corrected."""
    if targets.log_q is not None and not is_corrected:
        raise ValueError(
            "log q corrects all or none: received `target_log_q` without log q of the "
            "columns. Pass `candidate_log_q`, or give the task a `sampling_correction`."
        )
    looked_up = options.sampling_correction is not None and targets.ids is not None
    if _lacks_log_q(targets, options) and is_corrected and not looked_up:
        raise ValueError(
            "log q corrects the columns and the rows' positives, and so must something "
            "the targets: expected `target_log_q` of shape [B, M], or `target_ids` "
            "beside a `sampling_correction`, received neither. With "
            '`positive="negatives"` none is needed.'
        )
    return targets


def ids_without_log_q(targets: RowTargets | None, options: Options) -> tf.Tensor | None:
    """[B, M] ids whose log q a correction is asked for, or None."""
    if targets is None or not _lacks_log_q(targets, options):
        return None
    return targets.ids


def _lacks_log_q(targets: RowTargets, options: Options) -> bool:
    return (
        targets.embeddings is not None
        and targets.log_q is None
        and options.sampled.positive == "all"
    )


def targets_of(batch: Batch, columns: Columns, options: Options) -> FoundTargets | None:
    """Finds the targets among the columns, or behind these where they are given.

    A target stands where its item does first; where it is the row's own positive, in
    that one's column.

    Raises:
      tf.errors.InvalidArgumentError: A target is none of the columns.
    """
    targets = batch.targets
    if targets is None:
        return None
    num_rows, num_targets = tf.unstack(tf.shape(targets.weights))
    weights, copies = targets.weights, None
    if options.remove_accidental_hits:
        copies = targets.rule(columns)
    if targets.embeddings is not None:
        begin = columns.size
        if batch.negatives is not None:
            begin += _checks.size(batch.negatives.embeddings, 1)
        behind = begin + tf.range(num_targets)
        places = tf.broadcast_to(behind, tf.stack([num_rows, num_targets]))
        places = soft_targets.targets_of(places, weights, targets.share)
        return FoundTargets(places, False, copies)
    own = tf.range(num_rows)[:, tf.newaxis]
    ids = targets.item_ids
    found = targets.rule(columns) if copies is None else copies
    first, last = found.ranges
    is_column = tf.reshape(first < last, tf.shape(ids))
    if options.absent_targets == "error":
        weights = _all_columns(weights, targets.ids, is_column)
    weights = tf.where(is_column, weights, tf.zeros_like(weights))
    # Of no column, where a replica has no rows and nothing else does.
    order = tf.pad(columns.by_item.order, [[0, 1]])
    places = tf.reshape(tf.gather(order, first), tf.shape(ids))
    is_own = tf.equal(ids, batch.of_rows(batch.item_ids)[:, tf.newaxis])
    places = tf.where(is_own, own, places)
    places = soft_targets.targets_of(places, weights, targets.share)
    return FoundTargets(places, True, copies)


def rows_own(
    batch: Batch, log_q: LogQ, mask: tf.Tensor | None
) -> tuple[tf.Tensor | None, tf.Tensor | None, tf.Tensor | None]:
    """The columns that each row has alone: its negatives, then what targets brought.

    Args:
      batch, log_q: Of the call.
      mask: [B, M] bool, which of the negatives count; None: all.

    Returns:
      Embeddings, log q and a mask, or None each.
    """
    negatives = None if batch.negatives is None else batch.negatives.embeddings
    targets = batch.targets
    if targets is None or targets.embeddings is None:
        return negatives, log_q.negatives, mask
    brought, own_log_q = targets.embeddings, log_q.targets
    is_target = targets.weights > 0
    if own_log_q is None and log_q.candidates is not None:
        own_log_q = tf.zeros_like(targets.weights)  # They are not corrected.
    if negatives is None:
        return brought, own_log_q, is_target
    if negatives.dtype != brought.dtype:
        dtype = batch.temperature.dtype
        negatives, brought = tf.cast(negatives, dtype), tf.cast(brought, dtype)
    if mask is None:
        mask = tf.ones(tf.shape(negatives)[:2], tf.bool)
    if own_log_q is not None:
        kind = own_log_q.dtype
        parts = [tf.cast(log_q.negatives, kind), own_log_q]
        own_log_q = tf.concat(parts, axis=1)
    return (
        tf.concat([negatives, brought], axis=1),
        own_log_q,
        tf.concat([mask, is_target], axis=1),
    )


def _dense_ids(
    ids: ListsLike, num_rows: tf.Tensor, num_targets: tf.Tensor | None = None
) -> tf.Tensor:
    """[B, M] ids, checked, of as many targets as there are embeddings if given."""
    ids = _checks.dense("target_ids", ids)
    _checks.check_rank("target_ids", ids, (2,), _HINT)
    ids = _checks.check_size("target_ids", ids, 0, num_rows, _HINT)
    if num_targets is None:
        return soft_targets.check_some("target_ids", ids)
    hint = "Pass one id for each of `target_embeddings`, [B, M]."
    return _checks.check_size("target_ids", ids, 1, num_targets, hint)


def _padded(
    ids: tf.RaggedTensor,
    weights: ListsLike | None,
    num_rows: tf.Tensor,
    dtype: tf.DType,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Ragged lists as [B, M] ids and weights, and which rows have any, [B] bool."""
    _checks.check_rank("target_ids", ids, (2,), _HINT)
    starts = _checks.check_size("target_ids", ids.row_starts(), 0, num_rows, _HINT)
    lengths = ids.row_lengths()
    if weights is None:
        weights = tf.ones_like(ids.values, dtype)
    else:
        if not isinstance(weights, tf.RaggedTensor):
            raise ValueError(
                "`target_ids` are ragged, and so must `target_weights` be: expected "
                f"lists of the same lengths, received {type(weights).__name__}."
            )
        hint = "Pass one weight for each id."
        _checks.check_rank("target_weights", weights, (2,), hint)
        others = weights.row_lengths()
        others = _checks.check_size("target_weights", others, 0, num_rows, hint)
        message = f"`target_weights` must be as long as `target_ids` row by row. {hint}"
        same = tf.debugging.assert_equal(others, lengths, message=message)
        weights = _checks.guard(weights.values, same)
    with tf.control_dependencies([starts]):
        weights = ids.with_values(weights).to_tensor()
        return ids.to_tensor(), weights, lengths > 0


def _all_columns(weights: tf.Tensor, ids: tf.Tensor, is_column: tf.Tensor) -> tf.Tensor:
    """Weights, computed only if all that is a target is among the columns."""
    absent = tf.where(~is_column & (weights > 0))
    message = (
        "`target_ids` must be among the columns (`candidate_ids`, and with them other "
        "replicas' under `global_negatives` and the memory's). Bring the others as "
        "extra candidates, pass `target_embeddings`, give them a weight of 0, or make "
        'the task with `absent_targets="drop"`. These are not; their rows, and ids:'
    )
    is_right = tf.equal(tf.shape(absent)[0], 0)
    data = [message, absent[:, 0], tf.gather_nd(ids, absent)]
    return _checks.guard(weights, tf.debugging.Assert(is_right, data))
