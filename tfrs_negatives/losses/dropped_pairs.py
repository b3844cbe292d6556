"""How the pairs that rules drop are taken out of a block of scores.

Where keys collide heavily, a few keys make up nearly all dropped pairs: the items that
a quarter of the batch chose, a request that fills half of it. So there are three ways,
by what a pair costs:

* Columns that all rows of the block drop are -inf in the vector that is added to the
  scores while they are computed. That costs nothing; `row_order` brings rows together
  that share such columns.
* Ranges of many columns are compared, once for each distinct range of the block.
* The other pairs are listed and overwritten one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfrs_negatives._xla import compiled_by_xla
from tfrs_negatives.losses.in_place import overwrite, row_starts, set_each
from tfrs_negatives.losses.row_blocks import AllRows, AnyRows, Order
from tfrs_negatives.losses.rules import Rule

# Above this share of a block's scores, comparing them all costs less than listing the
# pairs.
_MANY_PAIRS = 0.015

# A range is long from this share of the columns on. Ranges of a rule do not overlap, so
# a block has no more than this many distinct long ones.
_LONG_RANGES = 128


class DroppedPairs:
    """The pairs that rules drop in some rows.

    Args:
      rules: Any number of `Rule`s.
      rows: Which rows, n of them, see `row_blocks`.
    """

    def __init__(self, rules: Sequence[Rule], rows: AnyRows) -> None:
        self._rules, self._rows = rules, rows
        #: Scalar bool, whether not all pairs are listed; None: they never are.
        self.are_many = None
        if rules and not compiled_by_xla():
            num_pairs = tf.add_n([rule.num_pairs(rows) for rule in rules])
            self.are_many = _are_many(num_pairs, rules[0], rows)

    def in_all_rows(self) -> tf.Tensor:
        """[C] bool, columns that all rows drop, and that `drop` leaves to others.

        None but where pairs `are_many`.
        """
        shared = [
            mask.rule.columns_in(*mask.shared)
            for mask in self._masks()
            if isinstance(mask, _RangeMask)
        ]
        none = tf.zeros([self._rules[0].num_columns], tf.bool)
        return functools.reduce(tf.logical_or, shared, none)

    def drop(
        self, logits: tf.Tensor, own: Callable[[], tf.Tensor], in_place: bool = False
    ) -> tf.Tensor:
        """Sets the scores of dropped pairs to -inf; no row's own positive is dropped.

        Args:
          logits: [n, C], the rows' scores, -inf already in columns that are
            `in_all_rows`.
          own: Returns the scores [n] of the rows' own positives.
          in_place: Whether `logits` may be changed; not differentiable then.

        Returns:
          [n, C].
        """
        if not self._rules:
            return logits
        minus_inf = tf.constant(float("-inf"), logits.dtype)
        if self.are_many is None:
            matrices = [rule.matrix(self._rows) for rule in self._rules]
            columns = tf.range(tf.shape(logits)[1])
            is_own = tf.equal(self._rows.indices[:, tf.newaxis], columns)
            dropped = functools.reduce(tf.logical_or, matrices) & ~is_own
            return tf.where(dropped, minus_inf, logits)
        starts = row_starts(self._rows.size, self._rules[0].num_columns)

        def overwritten(logits: tf.Tensor, places: list[tf.Tensor]) -> tf.Tensor:
            places = tf.concat(places, axis=0)
            places = tf.boolean_mask(
                places, ~self._rows.are_own(places, self._rules[0].num_columns)
            )
            values = tf.fill(tf.shape(places), minus_inf)
            return overwrite(logits, places, values, in_place)

        def listed() -> tf.Tensor:
            return overwritten(
                logits, [rule.places(self._rows, starts) for rule in self._rules]
            )

        def compared() -> tf.Tensor:
            kept, masks = logits, self._masks()
            for mask in masks:
                kept = tf.cond(
                    mask.compares,
                    lambda mask=mask, kept=kept: tf.where(mask.matrix(), minus_inf, kept),
                    lambda kept=kept: kept,
                )
            kept = overwritten(kept, [mask.places(starts) for mask in masks])
            return set_each(kept, self._rows.indices, own(), in_place)

        # Neither the choice nor the listing reads the scores: TensorFlow does both while
        # it forms them.
        return tf.cond(self.are_many, compared, listed)

    def _masks(self) -> list[_RangeMask | _ListMask]:
        return [
            (_RangeMask if rule.is_of_single_entries else _ListMask)(rule, self._rows)
            for rule in self._rules
        ]


def row_order(rules: Sequence[Rule]) -> Order | None:
    """Brings rows together that drop the same columns, where that pays.

    Args:
      rules: Any number of `Rule`s.

    Returns:
      Rows sorted by their ranges, the longest first, of the rule that drops most pairs,
      if it drops many. None where no rule has single entries, and under XLA, which
      compares all pairs.
    """
    singles = [rule for rule in rules if rule.is_of_single_entries]
    if compiled_by_xla() or not singles:
        return None
    all_rows = AllRows(singles[0].num_rows)
    num_pairs = tf.stack([rule.num_pairs(all_rows) for rule in singles])
    num_columns = tf.cast(singles[0].num_columns, tf.int64)

    def sorted_by(rule: Rule) -> tf.Tensor:
        first, last = (tf.cast(x, tf.int64) for x in rule.ranges_of(all_rows))
        key = (num_columns - (last - first)) * (num_columns + 1) + first
        return tf.argsort(key, stable=True)

    is_changed = _are_many(tf.reduce_max(num_pairs), singles[0], all_rows)
    rows = tf.cond(
        is_changed,
        lambda: tf.switch_case(
            tf.argmax(num_pairs, output_type=tf.int32),
            [functools.partial(sorted_by, rule) for rule in singles],
        ),
        lambda: all_rows.indices,
    )
    return Order(rows, is_changed)


class _RangeMask:
    """A rule of single entries in some rows: a range of sorted columns a row."""

    def __init__(self, rule: Rule, rows: AnyRows) -> None:
        self.rule = rule
        first, last = rule.ranges_of(rows)
        start, end = tf.reduce_max(first), tf.reduce_min(last)
        #: Scalar bool, whether all rows have the same range.
        self.is_shared = (
            (start < end)
            & tf.equal(start, tf.reduce_min(first))
            & tf.equal(end, tf.reduce_max(last))
        )
        #: This range, scalars, empty if they have not.
        self.shared = tf.where(self.is_shared, start, 0), tf.where(self.is_shared, end, 0)
        last = tf.where(self.is_shared, first, last)
        self._first, self._last = first, last
        lengths = last - first
        self._is_long = lengths > rule.num_columns // _LONG_RANGES
        lengths = tf.where(self._is_long, lengths, 0)
        #: Scalar bool, whether long ranges are compared instead of listed.
        self.compares = _are_many(tf.reduce_sum(tf.cast(lengths, tf.int64)), rule, rows)

    def matrix(self) -> tf.Tensor:
        """[n, C] bool, the pairs of long ranges."""
        ranges = tf.stack([self._first, self._last], axis=1)
        ranges = tf.where(self._is_long[:, tf.newaxis], ranges, 0)
        distinct, which = tf.raw_ops.UniqueV2(x=ranges, axis=[0])
        return tf.gather(self.rule.columns_in(distinct[:, 0], distinct[:, 1]), which)

    def places(self, starts: tf.Tensor) -> tf.Tensor:
        """[p] int32 places of the other pairs."""
        last = tf.where(self._is_long & self.compares, self._first, self._last)
        return self.rule.places_in(starts, self._first, last)


class _ListMask:
    """A rule of lists in some rows: compared or listed as a whole."""

    def __init__(self, rule: Rule, rows: AnyRows) -> None:
        self._rule, self._rows = rule, rows
        #: Scalar bool, whether pairs are compared instead of listed.
        self.compares = _are_many(rule.num_pairs(rows), rule, rows)

    def matrix(self) -> tf.Tensor:
        """[n, C] bool, the pairs."""
        return self._rule.matrix(self._rows)

    def places(self, starts: tf.Tensor) -> tf.Tensor:
        """[p] int32 places of the pairs, if they are not compared."""
        return tf.cond(
            self.compares,
            lambda: tf.zeros([0], tf.int32),
            lambda: self._rule.places(self._rows, starts),
        )


def matches(rules: Sequence[Rule], rows: AnyRows) -> tf.Tensor:
    """Which pairs of some rows a rule lists, their own positives included.

    Args:
      rules: At least one `Rule`.
      rows: Which rows, see `row_blocks`.

    Returns:
      [n, C] bool.
    """
    if compiled_by_xla():
        return functools.reduce(tf.logical_or, [rule.matrix(rows) for rule in rules])
    num_columns = rules[0].num_columns
    starts = row_starts(rows.size, num_columns)
    places = tf.concat([rule.places(rows, starts) for rule in rules], axis=0)
    # Ten times as fast as writing them one by one.
    times = tf.math.unsorted_segment_sum(
        tf.ones_like(places), places, rows.size * num_columns
    )
    return tf.reshape(times > 0, tf.stack([rows.size, num_columns]))


def _are_many(num_pairs: tf.Tensor, rule: Rule, rows: AnyRows) -> tf.Tensor:
    """Scalar bool, whether so many pairs of some rows are better compared."""
    num_scores = tf.cast(rule.num_columns, tf.float32) * tf.cast(rows.size, tf.float32)
    return tf.cast(num_pairs, tf.float32) > _MANY_PAIRS * num_scores

