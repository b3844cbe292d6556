"""The scores of a block of rows, as one expression for XLA to fuse.

As `block_scores.scores_of`, without what XLA cannot fuse or what makes a GPU wait for
its host: no place is written to, nothing depends on values.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfrs_negatives.losses import (
    block_scores,
    compared_rules,
    heads,
    products,
    row_blocks,
    soft_targets,
)
from tfrs_negatives.losses.block_scores import BlockScores
from tfrs_negatives.losses.in_place import get_each
from tfrs_negatives.losses.scoring import Scoring


def scores_of(
    scoring: Scoring,
    rows: row_blocks.AnyRows,
    embeddings: Sequence[tf.Tensor],
    corrects_own: bool,
    temperature: tf.Tensor | None = None,
) -> BlockScores:
    """Scores some rows against all columns: corrected and masked.

    Args:
      scoring: That of all rows.
      rows: Which rows, n of them.
      embeddings: The rows' queries; all candidates; and the rows' own negatives, if
        there are any. In the dtype that they are multiplied in.
      corrects_own: Whether log q corrects the row's own positive too.
      temperature: Scalar that products are divided by; None: the queries were.
    """
    queries, candidates, *negatives = embeddings
    by_head = products.shared(queries, candidates)
    if temperature is not None:
        by_head /= temperature
    logits = heads.best(by_head)
    width = tf.shape(logits)[1]
    is_own = compared_rules.are_own(rows, width)
    guide, of_towers, are_false = scoring.guide, None, None
    if guide is not None:
        # As the towers score them, before they are corrected.
        of_towers = get_each(logits, rows.indices)
        scores, bounds = guide.compared(rows, logits, of_towers)
        are_false = scores > bounds
    if scoring.log_q is not None:
        corrected = logits - scoring.log_q
        logits = corrected if corrects_own else tf.where(is_own, logits, corrected)
    own_by_head, own, own_are_false = None, None, None
    if negatives:
        own_by_head = products.own(queries, *negatives)
        if temperature is not None:
            own_by_head /= temperature
        own = heads.best(own_by_head)
        if guide is not None and guide.is_the_towers:
            own_are_false = own > guide.bounds(of_towers)
        if scoring.negative_log_q is not None:
            own -= rows.of(scoring.negative_log_q)
    targets = None
    if scoring.targets is not None:
        targets, logits = block_scores.read_targets(
            scoring, rows, logits, own, corrects_own
        )
    if are_false is not None:
        logits = _lose(logits, are_false & ~is_own)
    if scoring.score_mask is not None:
        logits = _keep(logits, rows.of(scoring.score_mask))
    if scoring.rules:
        dropped = compared_rules.matches(scoring.rules, rows)
        logits = _keep(logits, is_own | ~dropped)
    if negatives:
        if scoring.negative_mask is not None:
            own = _keep(own, rows.of(scoring.negative_mask))
        if own_are_false is not None:
            own = _lose(own, own_are_false)
        logits = tf.concat([logits, own], axis=1)
        by_head = tf.concat([by_head, own_by_head], axis=-1)
    if targets is not None and block_scores.may_have_changed(scoring, corrects_own):
        logits = soft_targets.write(logits, targets.places, targets.scores, True)
    if queries.shape.rank != 3:
        by_head = None
    width = tf.shape(logits)[1]
    return BlockScores(logits, rows.indices, by_head, None, width, targets)


def _lose(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    # See `block_scores`.
    return tf.where(mask, tf.constant(float("-inf"), logits.dtype), logits)


def _keep(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    return tf.where(mask, logits, tf.constant(float("-inf"), logits.dtype))
