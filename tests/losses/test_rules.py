import numpy as np
import pytest
import tensorflow as tf
from oracles import dropped_pairs

from tfrs_negatives.losses import rules
from tfrs_negatives.losses.row_blocks import RowBlock

B, C = 9, 14


def listed(rule, begin=0, end=B):
    """The rule's pairs as a matrix; the own positive is not exempt here."""
    block = RowBlock(begin, end - begin)
    starts = tf.range(end - begin) * C
    places = rule.places(block, starts).numpy()
    assert int(rule.num_pairs(block)) == len(places)
    matrix = np.zeros((end - begin, C), bool)
    matrix.ravel()[places] = True
    np.testing.assert_array_equal(rule.matrix(block), matrix)
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
    by_id = rules.SortedColumns(ids_, C)
    by_user = rules.SortedColumns(row_keys, C)
    none = {"num_rows": B, "num_columns": C}
    cases = [
        (
            rules.same_key(ids_[:B], by_id),
            dropped_pairs(**none, ids=ids, accidental_hits=True),
        ),
        (
            rules.same_key(row_keys, by_user),
            dropped_pairs(**none, row_keys=[list(keys)], column_keys=[column_keys]),
        ),
        (
            rules.known_positives(flat, starts, ends, 3, by_id),
            dropped_pairs(**none, ids=ids, known=known),
        ),
        (
            rules.shared_positives(row_keys, row_keys, ids_[:B], by_id),
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
        blocks = [listed(rule, 0, 4), listed(rule, 4, 7), listed(rule, 7, B)]
        np.testing.assert_array_equal(np.concatenate(blocks), listed(rule))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_columns_of_other_keys(seed, masked):
    """Rows' keys that no column has, columns without one, columns behind the keys."""
    rng = np.random.default_rng(seed)
    row_keys, keys = rng.integers(-2, 4, B), rng.integers(-2, 3, C - 2)
    mask = rng.random(C - 2) < 0.6 if masked else np.ones(C - 2, bool)
    columns = rules.SortedColumns(
        tf.constant(keys), C, tf.constant(mask) if masked else None
    )
    expected = np.zeros((B, C), bool)
    expected[:, : C - 2] = mask & (row_keys[:, None] != keys)
    rule = rules.other_keys(tf.constant(row_keys), columns)
    np.testing.assert_array_equal(listed(rule), expected)
    np.testing.assert_array_equal(listed(rule, 4, 7), expected[4:7])


def test_columns_are_sorted_and_those_without_a_key_come_last():
    columns = rules.SortedColumns(tf.constant([5, 3, 5], tf.int64), 5)
    np.testing.assert_array_equal(columns.order, [1, 0, 2, 3, 4])
    first, last = columns.ranges(tf.constant([5, 4, 3], tf.int64))
    np.testing.assert_array_equal(first, [1, 1, 0])
    np.testing.assert_array_equal(last, [3, 1, 1])


def test_no_matches_lists_no_pairs():
    columns = rules.SortedColumns(tf.constant([3, 4, 5], tf.int64), 3)
    rule = rules.same_key(tf.constant([1, 2], tf.int64), columns)
    starts = tf.constant([0, 3])
    assert rule.places(RowBlock(0, 2), starts).shape == (0,)


# Keys at the ends of int64, where a value in place of a mask would be a key.
EXTREMES = [-(2**63), -1, 0, 2**63 - 1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shared", [False, True])
def test_rows_and_columns_without_a_key_match_nothing(seed, shared):
    rng = np.random.default_rng(seed)
    keys = rng.choice(EXTREMES, C)
    ids = rng.integers(-2, 3, C)
    mask = rng.random(C) < 0.6
    named = [key if there else None for key, there in zip(keys, mask, strict=True)]
    # Each row without a key has one that no other has.
    rows = [100 + i if key is None else key for i, key in enumerate(named[:B])]
    by_id = rules.SortedColumns(tf.constant(ids, tf.int64), C)
    row_keys, row_mask = tf.constant(keys[:B], tf.int64), tf.constant(mask[:B])
    if shared:
        rule = rules.shared_positives(
            row_keys,
            row_keys,
            tf.constant(ids[:B], tf.int64),
            by_id,
            row_mask,
            row_mask,
        )
        columns = [None] * C
    else:
        by_key = rules.SortedColumns(tf.constant(keys, tf.int64), C, tf.constant(mask))
        rule = rules.same_key(row_keys, by_key, row_mask)
        columns = named
    expected = dropped_pairs(
        B, C, ids=ids, row_keys=[rows], column_keys=[columns], shared=shared
    )
    if shared:
        # A row without a key shares its positives with no row, not even itself.
        expected[~mask[:B]] = False
    own = np.eye(B, C, dtype=bool)
    np.testing.assert_array_equal(listed(rule) & ~own, expected)


def test_cost_follows_the_pairs():
    """A block lists its collisions, not its rows x columns."""
    keys = tf.range(1000, dtype=tf.int64)
    rule = rules.same_key(keys, rules.SortedColumns(keys, 1000))
    places = rule.places(RowBlock(0, 1000), 1000 * tf.range(1000))
    assert places.shape == (1000,)
