"""How the pairs that rules drop are taken out of a block of scores.

Where keys collide heavily, a few keys make up nearly all dropped pairs: the items that
a quarter of the batch chose, a request that fills half of it. So there are three ways,
by what a pair costs:

* Columns that all rows of the block drop are -inf in the vector that is added to the
  scores while they are computed. That costs nothing; `row_order` brings rows together
  that share such columns.
* Ranges of many columns are compared, once for each distinct range of the block.
* The other pairs are listed and overwritten one by one.

Nothing of this is for XLA, which has `compared_rules`.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfrs_negatives._xla import compiled_by_xla
from tfrs_negatives.losses import compared_rules
from tfrs_negatives.losses.in_place import overwrite, row_starts, set_each
from tfrs_negatives.losses.row_blocks import AllRows, AnyRows, Order, equal_ends
from tfrs_negatives.losses.rules import OtherKeys, Rule, enumerate_ranges

# Above this share of a block's scores, comparing them all costs less than listing the
# pairs.
_MANY_PAIRS = 0.015

# Of lists: the same, and as much more as it costs to lay a list out over all columns,
# where each row has a list of its own. (A pair costs about 85 ns, a score 2 ns, a place
# of a list 15 ns.)
_MANY_LISTED, _OWN_LISTS = 0.02, 0.15

# A range is long from this share of the columns on. Ranges of a rule do not overlap, so
# a block has no more than this many distinct long ones.
_LONG_RANGES = 128

# From this share of the columns on, a range's rows are blocks of their own. Where keys
# collide, a key has about the same share of rows: of 4,096, more than 64.
_OWN_BLOCKS = 64


class DroppedPairs:
    """The pairs that rules drop in some rows.

    Args:
      rules: Any number of `Rule`s.
      rows: Which rows, n of them, see `row_blocks`.
    """

    def __init__(self, rules: Sequence[Rule], rows: AnyRows) -> None:
        self._rules, self._rows = rules, rows

    def in_all_rows(self) -> tf.Tensor:
        """[C] bool, columns that all rows drop, and that `drop` leaves to others.

        There are none but where rows are ordered.
        """
        none = tf.zeros([self._rules[0].num_columns], tf.bool)
        shared = [mask.in_all_rows(none) for mask in self._masks()]
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
        rules = self._rules
        if not rules:
            return logits
        minus_inf = tf.constant(float("-inf"), logits.dtype)
        starts = row_starts(self._rows.size, rules[0].num_columns)

        def written(logits: tf.Tensor, lists: list[tf.Tensor]) -> tf.Tensor:
            places = tf.concat(lists, axis=0)
            is_own = self._rows.are_own(places, rules[0].num_columns)
            places = tf.boolean_mask(places, ~is_own)
            values = tf.fill(tf.shape(places), minus_inf)
            return overwrite(logits, places, values, in_place)

        def listed() -> tf.Tensor:
            return written(logits, [rule.places(self._rows, starts) for rule in rules])

        def compared() -> tf.Tensor:
            kept, masks = logits, self._masks()
            for mask in masks:
                kept = mask.where_compared(minus_inf, kept)
            kept = written(kept, [mask.places(starts) for mask in masks])
            # What all rows drop, and what is compared, may hold it.
            return set_each(kept, self._rows.indices, own(), in_place)

        # Neither the choice nor the listing reads the scores: TensorFlow does both
        # while it forms them.
        num_pairs = tf.add_n([rule.num_pairs(self._rows) for rule in rules])
        many = _are_many(num_pairs, rules[0], self._rows)
        if self._rows.is_ordered is not None:
            many |= self._rows.is_ordered
        return tf.cond(many, compared, listed)

    def _masks(self) -> list[_Mask]:
        return [_mask_of(rule, self._rows) for rule in self._rules]


def row_order(rules: Sequence[Rule], num_blocks: int | tf.Tensor) -> Order | None:
    """Brings rows together that drop the same columns, where that pays.

    Args:
      rules: Any number of `Rule`s.
      num_blocks: How many blocks the rows are cut into. One has no use for an order.

    Returns:
      Rows sorted by their ranges, the longest first, of the rule that drops most pairs,
      if it drops many; else as they are. None where no rule has single entries or is of
      other keys, or one block is all.
    """
    singles = [
        rule
        for rule in rules
        if rule.is_of_single_entries or isinstance(rule, OtherKeys)
    ]
    if not singles or (isinstance(num_blocks, int) and num_blocks == 1):
        return None
    all_rows = AllRows(singles[0].num_rows)
    num_pairs = tf.stack([rule.num_pairs(all_rows) for rule in singles])

    # A single block need not wait until the keys are sorted.
    is_changed = tf.cond(
        tf.convert_to_tensor(num_blocks > 1),
        lambda: _are_many(tf.reduce_max(num_pairs), singles[0], all_rows),
        lambda: tf.constant(False),
    )
    rows, ends = tf.cond(
        is_changed,
        lambda: tf.switch_case(
            tf.argmax(num_pairs, output_type=tf.int32),
            [functools.partial(_sorted_by, rule, num_blocks) for rule in singles],
        ),
        lambda: (all_rows.indices, equal_ends(all_rows.size, num_blocks)),
    )
    return Order(rows, is_changed, ends)


def _sorted_by(rule: Rule, num_blocks: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows in the order of what a rule drops of them, and the ends of their blocks."""
    if isinstance(rule, OtherKeys):
        return _sorted_by_list(rule, num_blocks)
    return _sorted_by_range(rule, num_blocks)


def _sorted_by_range(
    rule: Rule, num_blocks: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Of a rule of single entries.

    A long range has blocks of its own, and the shorter ones share others.
    """
    num_rows, num_columns = rule.num_rows, rule.num_columns
    first, last = rule.ranges_of(AllRows(num_rows))
    shorter_by, begin = (
        tf.cast(x, tf.int64) for x in (num_columns - (last - first), first)
    )
    key = shorter_by * tf.cast(num_columns + 1, tf.int64) + begin
    rows = tf.argsort(key, stable=True)
    first = tf.gather(first, rows)
    is_long = tf.gather(last, rows) - first > num_columns // _OWN_BLOCKS
    # Where another range begins, or the short ones do.
    begins = tf.not_equal(first[1:], first[:-1]) & is_long[1:]
    begins = begins | (is_long[:-1] & ~is_long[1:])
    return rows, _ends_of_blocks(begins, num_rows, num_blocks)


def _sorted_by_list(
    rule: OtherKeys, num_blocks: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Of a rule of other keys.

    Rows that share a list have blocks of their own if they fill half a one, and the
    others, which come last, share theirs.
    """
    num_rows = rule.num_rows
    lists = rule.lists_of(AllRows(num_rows))
    num_lists = tf.reduce_max(tf.concat([[-1], lists], axis=0)) + 1
    counts = tf.math.unsorted_segment_sum(tf.ones_like(lists), lists, num_lists)
    is_few = tf.gather(2 * counts < -(-num_rows // num_blocks), lists)
    rows = tf.argsort(tf.where(is_few, lists + num_lists, lists), stable=True)
    is_few, lists = tf.gather(is_few, rows), tf.gather(lists, rows)
    begins = tf.not_equal(lists[1:], lists[:-1]) & ~is_few[:-1]
    return rows, _ends_of_blocks(begins, num_rows, num_blocks)


def _ends_of_blocks(
    begins: tf.Tensor, num_rows: tf.Tensor, num_blocks: int | tf.Tensor
) -> tf.Tensor:
    """The ends of blocks, none of which reaches beyond where something else begins.

    Args:
      begins: [B - 1] bool, of the second row and on, whether something else begins.
      num_rows: B, scalar int32.
      num_blocks: About how many to make.
    """
    begins = tf.concat([[True], begins], axis=0)
    starts = tf.cast(tf.where(begins)[:, 0], tf.int32)
    lengths = tf.concat([starts[1:], [num_rows]], axis=0) - starts
    # In parts of about the usual size: a small rest would cost as much as a whole one.
    size = -(-num_rows // num_blocks)
    parts = tf.maximum((lengths + size // 2) // size, 1)
    of_range, part = enumerate_ranges(tf.zeros_like(parts), parts)
    lengths, parts = tf.gather(lengths, of_range), tf.gather(parts, of_range)
    # The first ones are a row larger where they do not come out even.
    ends = (lengths // parts) * (part + 1) + tf.minimum(part + 1, lengths % parts)
    return tf.gather(starts, of_range) + ends


def _mask_of(rule: Rule, rows: AnyRows) -> _Mask:
    if isinstance(rule, OtherKeys):
        return _OtherKeysMask(rule, rows)
    return (_RangeMask if rule.is_of_single_entries else _ListMask)(rule, rows)


class _Mask(abc.ABC):
    """A rule in some rows: which of its pairs are compared, and which are listed.

    Attributes:
      compares: Scalar bool, whether any are compared.
    """

    compares: tf.Tensor

    def in_all_rows(self, none: tf.Tensor) -> tf.Tensor:
        """[C] bool, columns that all rows drop, left to others; `none` for none."""
        return none

    @abc.abstractmethod
    def matrix(self) -> tf.Tensor:
        """[n, C] bool, the pairs that are compared, if any are."""

    @abc.abstractmethod
    def places(self, starts: tf.Tensor) -> tf.Tensor:
        """[p] int32, the places of the others; `starts` as in `Rule.places`."""

    def where_compared(self, value: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """[n, C], `value` in the place of the pairs that are compared."""
        return tf.cond(
            self.compares,
            lambda: tf.where(self.matrix(), value, logits),
            lambda: logits,
        )


class _RangeMask(_Mask):
    """Of a rule of single entries: a range of sorted columns a row."""

    def __init__(self, rule: Rule, rows: AnyRows) -> None:
        self._rule = rule
        first, last = rule.ranges_of(rows)
        start, end = tf.reduce_max(first), tf.reduce_min(last)
        is_shared = tf.constant(False)
        if rows.is_ordered is not None:
            is_shared = (
                rows.is_ordered
                & (start < end)
                & tf.equal(start, tf.reduce_min(first))
                & tf.equal(end, tf.reduce_max(last))
            )
        self._shared = start, tf.where(is_shared, end, start)
        # What all rows share is dropped by others.
        last = tf.where(is_shared, first, last)
        self._first, self._last = first, last
        lengths = last - first
        self._is_long = lengths > rule.num_columns // _LONG_RANGES
        in_long = tf.reduce_sum(tf.where(self._is_long, lengths, 0))
        self.compares = _are_many(in_long, rule, rows)

    def in_all_rows(self, none: tf.Tensor) -> tf.Tensor:
        """[C] bool, the columns of the range that all rows share, if they do."""
        return self._rule.columns_in(*self._shared)

    def matrix(self) -> tf.Tensor:
        ranges = tf.stack([self._first, self._last], axis=1)
        ranges = tf.where(self._is_long[:, tf.newaxis], ranges, 0)
        distinct, which = tf.raw_ops.UniqueV2(x=ranges, axis=[0])
        return tf.gather(self._rule.columns_in(distinct[:, 0], distinct[:, 1]), which)

    def places(self, starts: tf.Tensor) -> tf.Tensor:
        last = tf.where(self._is_long & self.compares, self._first, self._last)
        return self._rule.places_in(starts, self._first, last)


class _ListMask(_Mask):
    """Of a rule of lists: all of it is compared, or nothing."""

    def __init__(self, rule: Rule, rows: AnyRows) -> None:
        self._rule, self._rows = rule, rows
        lists = tf.cast(rule.num_lists(rows), tf.float32)
        own = lists / tf.maximum(tf.cast(rows.size, tf.float32), 1)
        share = _MANY_LISTED + _OWN_LISTS * own
        self.compares = _are_many(rule.num_pairs(rows), rule, rows, share)

    def matrix(self) -> tf.Tensor:
        return self._rule.matrix(self._rows)

    def places(self, starts: tf.Tensor) -> tf.Tensor:
        return tf.cond(
            self.compares,
            lambda: tf.zeros([0], tf.int32),
            lambda: self._rule.places(self._rows, starts),
        )


class _OtherKeysMask(_ListMask):
    """Of a rule of other keys: nothing is left of it where all rows share a list."""

    def __init__(self, rule: OtherKeys, rows: AnyRows) -> None:
        super().__init__(rule, rows)
        self._of_list, self._is_shared = rule.columns_of_list, tf.constant(False)
        lists = rule.lists_of(rows)
        self._list = tf.reduce_min(lists)
        if rows.is_ordered is not None:
            is_one = tf.equal(self._list, tf.reduce_max(lists))
            self._is_shared = rows.is_ordered & is_one
            self.compares &= ~self._is_shared

    def in_all_rows(self, none: tf.Tensor) -> tf.Tensor:
        """[C] bool, the columns of the list that all rows share, if they do."""
        return tf.cond(self._is_shared, lambda: self._of_list(self._list), lambda: none)

    def places(self, starts: tf.Tensor) -> tf.Tensor:
        return tf.cond(
            self._is_shared,
            lambda: tf.zeros([0], tf.int32),
            lambda: super(_OtherKeysMask, self).places(starts),
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
        return compared_rules.matches(rules, rows)
    num_columns = rules[0].num_columns
    starts = row_starts(rows.size, num_columns)
    places = tf.concat([rule.places(rows, starts) for rule in rules], axis=0)
    # Ten times as fast as writing them one by one.
    times = tf.math.unsorted_segment_sum(
        tf.ones_like(places), places, rows.size * num_columns
    )
    return tf.reshape(times > 0, tf.stack([rows.size, num_columns]))


def _are_many(
    num_pairs: tf.Tensor,
    rule: Rule,
    rows: AnyRows,
    share: tf.Tensor | None = None,
) -> tf.Tensor:
    """Scalar bool, whether so many pairs of some rows are better compared."""
    share = _MANY_PAIRS if share is None else share
    num_scores = tf.cast(rule.num_columns, tf.float32) * tf.cast(rows.size, tf.float32)
    return tf.cast(num_pairs, tf.float32) > share * num_scores
