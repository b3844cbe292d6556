"""Rules as comparisons of keys, for code that XLA compiles.

XLA knows no lists whose length depends on values, so all pairs of a block are
compared. A rule with one key a row costs no memory and no pass of its own: the
comparison of two vectors is part of whatever loop reads the scores. Nothing is sorted
for it. A rule with lists of keys has no such form; see `Rule.matrix`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tensorflow as tf

from tfrs_negatives.losses.row_blocks import AnyRows
from tfrs_negatives.losses.rules import Rule


def matches(rules: Sequence[Rule], rows: AnyRows) -> tf.Tensor:
    """Which pairs of some rows a rule lists, their own positives included.

    Args:
      rules: At least one `Rule`.
      rows: Which rows, n of them; see `row_blocks`.

    Returns:
      [n, C] bool.
    """
    return functools.reduce(tf.logical_or, [_matrix(rule, rows) for rule in rules])


def are_own(rows: AnyRows, num_columns: tf.Tensor) -> tf.Tensor:
    """[n, C] bool, which pairs are the rows' own positives."""
    return tf.equal(rows.indices[:, tf.newaxis], tf.range(num_columns))


def _matrix(rule: Rule, rows: AnyRows) -> tf.Tensor:
    if not rule.is_of_single_entries:
        return rule.matrix(rows)
    equal = tf.equal(rows.of(rule.entries)[:, tf.newaxis], rule.columns.keys)
    if rule.columns.mask is not None:
        equal &= rule.columns.mask
    if rule.mask is not None:
        equal &= rows.of(rule.mask)[:, tf.newaxis]
    return equal
