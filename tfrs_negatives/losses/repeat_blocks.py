"""The softmax over groups of rows and distinct columns, a block of groups at a time.

Row i of group g pays f(L_i, own_i), where L_i is the log of the sum of exp over its
negatives. Let n(g, v) be how many of the columns that are equal to v are negatives of
group g. Then row i's sum is that of its group but for the columns that the row alone
loses, those of its positive:

    exp L_i = sum_{v not in own(i)} n(g, v) exp s(g, v)  +  n'(i) exp s(g, own),

n' being the copies of its positive that other rows brought. So a block takes

* R(g), the sum over columns that are no row's positive of the group (the bulk);
* for each part (the columns that some rows of the group lose), its sum; and for each
  row the sum of all parts but its own (`leave_one_out`).

With a_i = weight x df / dL_i, the derivative in s(g, v) is n exp s sum_i a_i exp(-L_i)
over the rows i whose sum has v. Each exponent below is at most 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfrs_negatives.losses import leave_one_out
from tfrs_negatives.losses.in_place import never_constant, overwrite, row_starts
from tfrs_negatives.losses.repeat_groups import Layout
from tfrs_negatives.losses.row_blocks import RowBlock


def run(
    layout: Layout,
    log_q: tf.Tensor | None,
    corrects_own: bool,
    row_loss: Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]],
    num_blocks: tf.Tensor,
    inputs: Sequence[tf.Tensor],
    weights: tf.Tensor | None,
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...] | None]:
    """The losses and, given weights, the gradients of their weighted sum.

    Args:
      layout: `repeat_groups.Layout` of B rows in G groups and V distinct columns.
      log_q: [V], or None.
      corrects_own: Whether log q corrects the positive too.
      row_loss: Function from `(log_sums, own, num_negatives, own_log_q)`, [n] each
        (the last None without log q), to `(losses, d_log_sums, d_own)`; see
        `row_losses.cross_entropy_of_sums`.
      num_blocks: Scalar int32, at least 1.
      inputs: `(queries, candidates, temperature)`: [G, d], [V, d], a scalar.
      weights: [B] or None.

    Returns:
      [B], and one gradient for each input, or None without weights.
    """
    queries, candidates, temperature = inputs
    num_groups = tf.shape(queries)[0]
    num_columns, width = tf.unstack(tf.shape(candidates))
    size = -(-num_groups // num_blocks)
    divisor = never_constant(temperature)
    if weights is not None:
        weights = tf.gather(weights, layout.order)

    def one_block(
        index: tf.Tensor,
        losses: tf.TensorArray,
        d_queries: tf.TensorArray,
        d_candidates: tf.Tensor,
    ) -> tuple:
        begin = tf.minimum(index * size, num_groups)
        groups = RowBlock(begin, tf.minimum(begin + size, num_groups) - begin)
        scaled = groups.of(queries) / divisor
        block = _Block(layout, groups, scaled, candidates, log_q)
        here, d_log_sums, d_own = block.losses(corrects_own, row_loss)
        losses = losses.write(index, here)
        if weights is not None:
            of_rows = block.of_rows(weights)
            d_scores = block.d_scores(d_log_sums * of_rows, d_own * of_rows)
            d_queries = d_queries.write(index, tf.matmul(d_scores, candidates))
            d_candidates += tf.matmul(scaled, d_scores, transpose_a=True)
        return index + 1, losses, d_queries, d_candidates

    def array(shape: list[int | None]) -> tf.TensorArray:
        return tf.TensorArray(
            queries.dtype, size=num_blocks, infer_shape=False, element_shape=shape
        )

    _, losses, d_queries, d_candidates = tf.while_loop(
        lambda index, *_: index < num_blocks,
        one_block,
        (
            0,
            array([None]),
            array([None, queries.shape[1]]),
            tf.zeros([width, num_columns], candidates.dtype),
        ),
        parallel_iterations=1,
    )
    losses = tf.gather(losses.concat(), tf.math.invert_permutation(layout.order))
    if weights is None:
        return losses, None
    d_queries = d_queries.concat() / temperature
    # The loss depends on queries and temperature through their quotient alone.
    d_temperature = -tf.reduce_sum(queries * d_queries) / temperature
    return losses, (d_queries, tf.transpose(d_candidates), d_temperature)


class _Block:
    """Scores of some groups and what follows from them.

    All numbers of groups, rows, parts and pairs are within the block.
    """

    def __init__(
        self,
        layout: Layout,
        groups: RowBlock,
        queries: tf.Tensor,
        candidates: tf.Tensor,
        log_q: tf.Tensor | None,
    ) -> None:
        self._layout, self._groups, self._log_q = layout, groups, log_q
        begin, end = groups.begin, groups.begin + groups.size

        def within(sorted_groups: tf.Tensor) -> tf.Tensor:
            return tf.searchsorted(sorted_groups, tf.stack([begin, end]))

        self._rows = within(layout.group_of_row)
        self._parts = within(layout.group_of_part)
        self._pairs = within(layout.group_of_pair)
        self._group_of_row = self.of_rows(layout.group_of_row) - begin
        self._group_of_part = _slice(layout.group_of_part, self._parts) - begin
        self._part_of_row = self.of_rows(layout.part_of_row) - self._parts[0]
        self._part_of_pair = _slice(layout.part_of_pair, self._pairs) - self._parts[0]
        self._pair_of_row = self.of_rows(layout.pair_of_row) - self._pairs[0]
        self._num_parts = self._parts[1] - self._parts[0]

        num_columns = tf.shape(candidates)[0]
        starts = row_starts(groups.size, num_columns)
        group_of_pair = _slice(layout.group_of_pair, self._pairs) - begin
        columns = _slice(layout.column_of_pair, self._pairs)
        self._pair_places = tf.gather(starts, group_of_pair) + columns
        self._score(queries, candidates, starts)

    def of_rows(self, values: tf.Tensor) -> tf.Tensor:
        """The block's part of [B] values in the order of groups."""
        return _slice(values, self._rows)

    def losses(
        self,
        corrects_own: bool,
        row_loss: Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]],
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What `row_loss` returns of the rows, [n] each."""
        self._rest = tf.reduce_logsumexp(self._bulk, axis=1)
        sums = leave_one_out.segment_logsumexp(
            self._pair_logits, self._part_of_pair, self._num_parts
        )
        self._split = leave_one_out.split(sums, self._group_of_part, self._groups.size)
        others = leave_one_out.log_sums_of_others(self._split)

        own = tf.gather(self._pair_scores, self._pair_of_row)
        own_log_q = None
        if self._log_q is not None:
            own_log_q = tf.gather(self._log_q, self.of_rows(self._layout.own))
        corrected = own if own_log_q is None else own - own_log_q
        kept = tf.gather(self._kept_of_group, self._group_of_row)
        log_sums = [
            tf.gather(self._rest, self._group_of_row),
            tf.gather(others, self._part_of_row),
        ]
        if self._layout.without_hits:
            of_parts = tf.math.unsorted_segment_sum(
                self._kept_of_pair, self._part_of_pair, self._num_parts
            )
            kept -= tf.gather(of_parts, self._part_of_row)
        else:
            # What others brought of the row's own positive.
            copies = tf.gather(self._kept_of_pair, self._pair_of_row)
            counted = tf.cast(self.of_rows(self._layout.own_is_counted), tf.int32)
            counted = tf.minimum(counted, copies)
            kept -= counted
            copies = tf.cast(copies - counted, own.dtype)
            self._copies = corrected + tf.math.log(copies)
            log_sums.append(self._copies)
        self._log_sums = tf.reduce_logsumexp(tf.stack(log_sums), axis=0)
        return row_loss(
            self._log_sums,
            corrected if corrects_own else own,
            tf.cast(kept, own.dtype),
            own_log_q,
        )

    def d_scores(self, d_log_sums: tf.Tensor, d_own: tf.Tensor) -> tf.Tensor:
        """Derivatives [n, V] in the scores.

        From those [n] in the logs of the rows' sums, and in their positives.
        """
        num_groups = self._groups.size
        rest = leave_one_out.finite(self._rest)

        def shares(log_numerators: tf.Tensor) -> tf.Tensor:
            """Derivatives times exp(numerator - sum of the row)."""
            log_sums = leave_one_out.finite(self._log_sums)
            # Of a row without negatives they are 0.
            return d_log_sums * tf.exp(tf.minimum(log_numerators - log_sums, 0))

        def of_groups(reference: tf.Tensor) -> tf.Tensor:
            return tf.gather(reference, self._group_of_row)

        bulk = tf.math.unsorted_segment_sum(
            shares(of_groups(self._rest)), self._group_of_row, num_groups
        )
        d_scores = tf.exp(self._bulk - rest[:, tf.newaxis]) * bulk[:, tf.newaxis]

        # A pair counts for all rows of its group but those that lose its part. Rows
        # that lose the group's largest part have a scale of their own.
        split = self._split
        loses_top = tf.gather(split.top, self._part_of_row)
        scales = (split.largest, split.runner_up)
        of_rows = [
            tf.where(loses_top, tf.zeros_like(d_own), shares(of_groups(scales[0]))),
            tf.where(loses_top, shares(of_groups(scales[1])), tf.zeros_like(d_own)),
        ]
        group_of_pair = tf.gather(self._group_of_part, self._part_of_pair)
        d_pairs = tf.zeros_like(self._pair_logits)
        for scale, of_row in zip(scales, of_rows, strict=True):
            by_part = tf.math.unsorted_segment_sum(
                of_row, self._part_of_row, self._num_parts
            )
            by_group = tf.math.unsorted_segment_sum(
                by_part, self._group_of_part, num_groups
            )
            others = tf.gather(by_group, self._group_of_part) - by_part
            reference = tf.gather(leave_one_out.finite(scale), group_of_pair)
            share = tf.exp(tf.minimum(self._pair_logits - reference, 0))
            d_pairs += tf.gather(others, self._part_of_pair) * share
        of_own = d_own
        if not self._layout.without_hits:
            of_own += shares(self._copies)
        d_pairs += tf.math.unsorted_segment_sum(
            of_own, self._pair_of_row, tf.size(d_pairs)
        )
        return overwrite(d_scores, self._pair_places, d_pairs, in_place=True)

    def _score(
        self, queries: tf.Tensor, candidates: tf.Tensor, starts: tf.Tensor
    ) -> None:
        """Scores, with counts and without what rules drop.

        Sets the pairs' products [p], their logits (with count and log q), how many
        columns are kept of each pair and group, and the logits of the others, [n, V].
        """
        counts = self._layout.columns.counts
        raw = tf.matmul(queries, candidates, transpose_b=True)
        flat = tf.reshape(raw, [-1])
        self._pair_scores = tf.gather(flat, self._pair_places)
        log_counts = tf.math.log(tf.cast(counts, raw.dtype))
        bias = log_counts if self._log_q is None else log_counts - self._log_q
        with tf.control_dependencies([self._pair_scores]):
            logits = tf.nn.bias_add(raw, bias)

        if self._layout.item_rules:
            listed = self._listed_items()
            removed = tf.fill(tf.shape(listed), tf.constant(float("-inf"), raw.dtype))
            logits = overwrite(logits, listed, removed, in_place=True)
        places, dropped = self._dropped_copies(starts)
        columns = places % tf.size(counts)
        # log(kept / count): -inf where nothing is kept.
        kept = tf.gather(counts, columns) - dropped
        shift = tf.math.log(tf.cast(kept, raw.dtype)) - tf.gather(log_counts, columns)
        values = tf.gather(tf.reshape(logits, [-1]), places) + shift
        kept = tf.where(tf.equal(values, float("-inf")), 0, kept)
        num_pairs = tf.size(self._pair_places)
        self._pair_logits, others = values[:num_pairs], values[num_pairs:]
        self._kept_of_pair = kept[:num_pairs]
        removed = tf.fill([num_pairs], tf.constant(float("-inf"), raw.dtype))
        self._bulk = overwrite(
            logits, places, tf.concat([removed, others], axis=0), in_place=True
        )
        # Of the bulk, all copies count but those that rules drop one by one.
        is_left = tf.cast(tf.not_equal(self._bulk, float("-inf")), tf.int32)
        lost = tf.where(tf.equal(values, float("-inf")), 0, dropped)[num_pairs:]
        by_place = tf.concat([self._kept_of_pair, -lost], axis=0)
        self._kept_of_group = tf.linalg.matvec(
            is_left, counts
        ) + tf.math.unsorted_segment_sum(
            by_place, places // tf.size(counts), self._groups.size
        )

    def _listed_items(self) -> tf.Tensor:
        """[m] int32 places in [n, V] that rules on items drop, some more than once."""
        columns = self._layout.columns
        num_columns = tf.size(columns.of)
        in_rules = row_starts(self._groups.size, num_columns)
        listed = [r.places(self._groups, in_rules) for r in self._layout.item_rules]
        return self._distinct_places(tf.concat(listed, axis=0))

    def _distinct_places(self, listed: tf.Tensor) -> tf.Tensor:
        """Places in [n, V] of those [m] in [n, C]."""
        columns = self._layout.columns
        num_columns = tf.size(columns.of)
        rows = listed // num_columns
        of = tf.gather(columns.of, listed - rows * num_columns)
        return rows * columns.size + of

    def _dropped_copies(self, starts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """How many copies of a column the other rules drop, where they drop any.

        Returns:
          `(places, dropped)`, [m] int32: distinct places in [n, V], those of the
          pairs first, and the number of copies dropped there.
        """
        pairs = self._pair_places
        if not self._layout.copy_rules:
            return pairs, tf.zeros_like(pairs)
        in_rules = row_starts(self._groups.size, tf.size(self._layout.columns.of))
        listed = [r.places(self._groups, in_rules) for r in self._layout.copy_rules]
        # Several rules may list a copy.
        listed = self._distinct_places(tf.unique(tf.concat(listed, axis=0)).y)
        places, which = tf.unique(tf.concat([pairs, listed], axis=0))
        once = tf.concat([tf.zeros_like(pairs), tf.ones_like(listed)], axis=0)
        return places, tf.math.unsorted_segment_sum(once, which, tf.size(places))


def _slice(values: tf.Tensor, bounds: tf.Tensor) -> tf.Tensor:
    return values[bounds[0] : bounds[1]]
