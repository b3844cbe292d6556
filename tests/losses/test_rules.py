import numpy as np
import pytest
import tensorflow as tf
from oracles import dropped_pairs

from tfrs_negatives.losses import rules
from tfrs_negatives.losses.row_blocks import Rows

B, C = 9, 14


def listed(rule, begin=0, end=B):
    """The rule's pairs as a matrix; the own positive is not exempt here."""
    block = Rows(begin, end - begin)
    rows, columns = rule.pairs(block)
    assert int(rule.num_pairs(block)) == len(rows)
    matrix = np.zeros((B, C), bool)
    matrix[rows.numpy() + begin, columns.numpy()] = True
    np.testing.assert_array_equal(rule.matrix(block, C), matrix[begin:end])
    return matrix


def random_case(seed):
    rng = np.random.default_rng(seed)
    keys = rng.integers(-2, 3, B)
    ids = rng.integers(-3, 4, C)
    known = [rng.integers(-3, 9, rng.integers(0, 4)) for _ in range(B)]
    return keys, ids, known


@pytest.mark.parametrize("seed", range(5))
def test_pairs_equal_the_oracle(seed):
    keys, ids, known = random_case(seed)
    row_keys, ids_ = tf.constant(keys, tf.int64), tf.constant(ids, tf.int64)
    flat = tf.constant(np.concatenate(known), tf.int64)
    lengths = [len(k) for k in known]
    ends = tf.cumsum(lengths)
    starts = tf.cumsum(lengths, exclusive=True)
    column_keys = list(keys) + [None] * (C - B)
    none = {"num_rows": B, "num_columns": C}
    cases = [
        (
            rules.accidental_hits(ids_[:B], ids_),
            dropped_pairs(**none, ids=ids, accidental_hits=True),
        ),
        (
            rules.same_key(row_keys, row_keys),
            dropped_pairs(**none, row_keys=[list(keys)], column_keys=[column_keys]),
        ),
        (
            rules.known_positives(
                flat, starts, ends, 3, tf.zeros_like(flat, tf.bool), ids_
            ),
            dropped_pairs(**none, ids=ids, known=known),
        ),
        (
            rules.shared_positives(row_keys, ids_[:B], ids_),
            dropped_pairs(
                **none,
                ids=ids,
                row_keys=[list(keys)],
                column_keys=[[None] * C],
                shared=True,
            ),
        ),
    ]
    own = np.eye(B, C, dtype=bool)
    for rule, expected in cases:
        np.testing.assert_array_equal(listed(rule) & ~own, expected)
        blocks = listed(rule, 0, 4) | listed(rule, 4, 7) | listed(rule, 7, B)
        np.testing.assert_array_equal(blocks, listed(rule))


def test_no_matches_lists_no_pairs():
    rule = rules.same_key(
        tf.constant([1, 2], tf.int64), tf.constant([3, 4, 5], tf.int64)
    )
    rows, columns = rule.pairs(Rows(0, 2))
    assert rows.shape == columns.shape == (0,)


def test_padding_matches_nothing():
    known = tf.constant([1, -1, 2, -1], tf.int64)
    rule = rules.known_positives(
        known,
        tf.constant([0, 2]),
        tf.constant([2, 4]),
        2,
        known < 0,
        tf.constant([-1, 1, 2], tf.int64),
    )
    rows, columns = rule.pairs(Rows(0, 2))
    np.testing.assert_array_equal(rows, [0, 1])
    np.testing.assert_array_equal(columns, [1, 2])


def test_cost_follows_the_pairs():
    """A block lists its collisions, not its rows x columns."""
    keys = tf.range(1000, dtype=tf.int64)
    rows, _ = rules.same_key(keys, keys).pairs(Rows(0, 1000))
    assert rows.shape == (1000,)
