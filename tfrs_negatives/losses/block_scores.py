"""The scores of a block of rows: corrected, masked, mined; and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.losses import (
    hard_negatives,
    heads,
    products,
    row_blocks,
    soft_targets,
)
from tfrs_negatives.losses.dropped_pairs import DroppedPairs
from tfrs_negatives.losses.in_place import set_each
from tfrs_negatives.losses.scores_above import drop_above
from tfrs_negatives.losses.scoring import Scoring
from tfrs_negatives.types import ScalarLike


class BlockScores(NamedTuple):
    """The scores of n rows.

    Attributes:
      logits: [n, width], -inf where a pair is dropped.
      positives: [n] int32, the column of each row's positive in them.
      by_head: [n, H, width], the products alone; None without heads.
      mined: None, or where the logits came from, as columns of the `width` scored.
      width: How many columns were scored, scalar int32.
      targets: What shares the rows' weight with their positives, or None.
    """

    logits: tf.Tensor
    positives: tf.Tensor
    by_head: tf.Tensor | None
    mined: tf.Tensor | None
    width: tf.Tensor
    targets: soft_targets.ScoredTargets | None = None


def scores_of(
    scoring: Scoring,
    rows: row_blocks.AnyRows,
    embeddings: Sequence[tf.Tensor],
    corrects_own: bool,
    in_place: bool,
) -> BlockScores:
    """Scores some rows against all columns: corrected and masked.

    Args:
      scoring: That of all rows.
      rows: Which rows, n of them.
      embeddings: The rows' queries, divided by the temperature; all candidates; and the
        rows' own negatives, if there are any.
      corrects_own: Whether log q corrects the row's own positive too.
      in_place: Whether what was just computed may be changed; not differentiable then.
    """
    queries, candidates, *negatives = embeddings
    positives = rows.indices
    dropped = DroppedPairs(scoring.rules, rows)
    guide = scoring.guide
    by_head, plain, logits = _against_columns(
        queries,
        candidates,
        scoring.log_q,
        dropped,
        rows.is_ordered,
        keeps_plain=guide is not None and guide.is_the_towers,
    )
    corrects = scoring.log_q is not None

    def of_towers() -> tf.Tensor:
        """[n], the scores of the rows' own positives, without log q."""
        return heads.best_paired(products.paired(queries, rows.of(candidates)))

    def of_positives() -> tf.Tensor:
        """[n], the same, corrected as they are to be."""
        scores = of_towers()
        return scores - rows.of(scoring.log_q) if corrects and corrects_own else scores

    if corrects and not corrects_own:
        logits = set_each(logits, positives, of_positives(), in_place)
    own_by_head, own, are_false = None, None, None
    if negatives:
        own_by_head = products.own(queries, *negatives)
        own = heads.best(own_by_head)
        if guide is not None and guide.is_the_towers:
            are_false = own > guide.bounds(of_towers())
        if scoring.negative_log_q is not None:
            own -= rows.of(scoring.negative_log_q)
    targets = None
    if scoring.targets is not None:
        targets, logits = read_targets(scoring, rows, logits, own, corrects_own)
    if guide is not None:
        scores, bounds = guide.compared(rows, plain, of_towers())
        # With a negative margin the positive, too, which is put back.
        logits = drop_above(logits, scores, bounds, in_place)
        logits = set_each(logits, positives, of_positives(), in_place)
    if scoring.score_mask is not None:
        logits = _keep(logits, rows.of(scoring.score_mask))
    logits = dropped.drop(logits, of_positives, in_place)
    if negatives:
        if scoring.negative_mask is not None:
            own = _keep(own, rows.of(scoring.negative_mask))
        if are_false is not None:
            own = _lose(own, are_false)
        logits = tf.concat([logits, own], axis=1)
        if by_head is not None:
            by_head = tf.concat([by_head, own_by_head], axis=-1)
    if targets is not None and may_have_changed(scoring, corrects_own):
        logits = soft_targets.write(logits, targets.places, targets.scores, in_place)
    width = tf.shape(logits)[1]
    return BlockScores(logits, positives, by_head, None, width, targets)


def read_targets(
    scoring: Scoring,
    rows: row_blocks.AnyRows,
    logits: tf.Tensor,
    own: tf.Tensor | None,
    corrects_own: bool,
) -> tuple[soft_targets.ScoredTargets, tf.Tensor]:
    """The targets of some rows, corrected as their positives are, before masks.

    Args:
      scoring, rows, corrects_own: As in `scores_of`.
      logits: [n, C], corrected.
      own: [n, M], the same of the rows' own negatives; or None.

    Returns:
      `ScoredTargets`, and logits that are computed only once these were read.
    """
    assert scoring.targets is not None
    places = scoring.targets.of(rows)
    targets = soft_targets.read(places, logits, rows.indices, own)
    # What follows may change them in place.
    with tf.control_dependencies([targets.scores, targets.own]):
        logits = tf.identity(logits)
    if scoring.log_q is not None and not corrects_own:
        own_log_q = scoring.negative_log_q
        own_log_q = None if own_log_q is None else rows.of(own_log_q)
        targets = soft_targets.corrected_back(targets, scoring.log_q, own_log_q)
    return targets, logits


def may_have_changed(scoring: Scoring, corrects_own: bool) -> bool:
    """Whether logits may lack a target, or hold it as corrected by a log q."""
    return scoring.is_masked or (scoring.log_q is not None and not corrects_own)


def keep_hardest(
    scored: BlockScores, num_hard_negatives: ScalarLike, in_place: bool
) -> BlockScores:
    """Keeps each row's hardest negatives; all, for a number that is not positive."""
    k = tf.convert_to_tensor(num_hard_negatives)
    k = tf.where(k > 0, k, scored.width)
    logits, targets = scored.logits, scored.targets
    if targets is not None:
        # They are kept, and are no negatives.
        logits = soft_targets.hide(logits, targets, in_place)
    logits, mined = hard_negatives.hardest(logits, scored.positives, k, in_place)
    if targets is not None:
        targets, logits, mined = soft_targets.among_the_hardest(targets, logits, mined)
    positives = tf.zeros_like(scored.positives)
    return scored._replace(
        logits=logits, positives=positives, mined=mined, targets=targets
    )


def gradients(
    scored: BlockScores,
    d_logits: tf.Tensor,
    factors: tf.Tensor | None,
    weighted_queries: tf.Tensor,
    others: Sequence[tf.Tensor],
) -> tuple[tf.Tensor, ...]:
    """Gradients of the rows' losses; see `row_blocks`.

    Args:
      scored: The rows' scores.
      d_logits: [n, kept], the derivative of a row's loss in its logits, before
        `factors`.
      factors: [n], what a row's derivative is multiplied by; None: 1.
      weighted_queries: The rows' queries, times their weights.
      others: The candidates and the rows' own negatives, as in `scores_of`.
    """
    d_scores = d_logits
    if scored.mined is not None:
        d_scores = hard_negatives.spread(d_logits, scored.mined, scored.width)
    if scored.by_head is not None:
        d_scores = heads.to_heads(d_scores, scored.by_head)
    if factors is not None:
        weighted_queries = row_blocks.scale_rows(weighted_queries, factors)
    d_queries, *d_others = products.gradients(d_scores, weighted_queries, *others)
    if factors is not None:
        d_queries = row_blocks.scale_rows(d_queries, factors)
    return d_queries, *d_others


def _against_columns(
    queries: tf.Tensor,
    candidates: tf.Tensor,
    log_q: tf.Tensor | None,
    dropped: DroppedPairs,
    is_ordered: tf.Tensor | None,
    keeps_plain: bool,
) -> tuple[tf.Tensor | None, tf.Tensor | None, tf.Tensor]:
    """The products with the candidates by head, the scores, and these less log q.

    Columns that all rows drop are -inf in the last. Without heads there are no products
    by head: None; and no scores but where they are kept.
    """
    has_heads = queries.shape.rank == 3
    by_head = products.shared(queries, candidates) if has_heads else None
    kept: tf.Tensor | None = None

    def plain() -> tf.Tensor:
        if kept is not None:
            return kept
        return (
            heads.best(by_head) if has_heads else products.shared(queries, candidates)
        )

    if keeps_plain:
        kept = plain()

    def plus(added: tf.Tensor) -> tf.Tensor:
        # TensorFlow adds it while it multiplies the matrices.
        return plain() + added if has_heads else tf.nn.bias_add(plain(), added)

    def without_shared(added: tf.Tensor) -> tf.Tensor:
        """-inf for columns that all rows drop."""
        minus_inf = tf.constant(float("-inf"), added.dtype)
        return tf.where(dropped.in_all_rows(), minus_inf, added)

    if log_q is None:
        if is_ordered is None:
            return by_head, kept, plain()
        none = tf.zeros(tf.shape(candidates)[:1], candidates.dtype)
        logits = tf.cond(is_ordered, lambda: plus(without_shared(none)), plain)
        return by_head, kept, logits

    def corrected() -> tf.Tensor:
        added = -log_q
        if is_ordered is not None:
            added = tf.cond(is_ordered, lambda: without_shared(-log_q), lambda: -log_q)
        return plus(added)

    # But it aborts where there is nothing to multiply.
    num_scores = _checks.size(queries) * _checks.size(candidates)
    if tf.get_static_value(num_scores):
        return by_head, kept, corrected()
    return by_head, kept, tf.cond(num_scores > 0, corrected, plain)


def _lose(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    # Not those that are not above a bound, which TensorFlow makes those at most it: a
    # NaN is to show.
    return tf.where(mask, tf.constant(float("-inf"), logits.dtype), logits)


def _keep(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    return tf.where(mask, logits, tf.constant(float("-inf"), logits.dtype))
