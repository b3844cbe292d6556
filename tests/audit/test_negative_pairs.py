"""Counts of pairs against loops over all of them, and against the task's masks."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives import tasks
from tfrs_negatives.audit.negative_pairs import LEVELS, count_pairs
from tfrs_negatives.audit.positive_pairs import PositivePairs


def known_of(table):
    return PositivePairs(table.user, table.item, table.num_users, table.num_items)


def masks(table, rows, likes):
    """Dict from level to [b][b] of what is dropped, by loops."""
    found = {level: np.zeros((len(rows), len(rows)), bool) for level in LEVELS}
    for place, i in enumerate(rows):
        for column, k in enumerate(rows):
            hit = table.item[i] == table.item[k]
            key = table.user[i] == table.user[k] or table.request[i] == table.request[k]
            known = (table.user[i], table.item[k]) in likes
            found["accidental_hits"][place, column] = hit
            found["keys"][place, column] = hit or key
            found["known_positives"][place, column] = hit or key or known
    return found


@pytest.mark.parametrize("shared_requests", [False, True])
@pytest.mark.parametrize("size", [1, 2, 37, 120])
def test_counts_equal_loops(make_table, size, shared_requests):
    table = make_table(seed=size, shared_requests=shared_requests)
    rows = np.random.default_rng(size).permutation(len(table))[:size]
    likes = set(zip(table.user.tolist(), table.item.tolist(), strict=True))
    found = count_pairs(
        table.user[rows], table.item[rows], table.request[rows], known_of(table)
    )
    assert tuple(found) == LEVELS
    others = ~np.eye(size, dtype=bool)
    positive = np.array([[(table.user[i], table.item[k]) in likes for k in rows]
                         for i in rows])  # fmt: skip
    for level, dropped in masks(table, rows, likes).items():
        left = others & ~dropped
        np.testing.assert_array_equal(found[level][0], (others & dropped).sum(axis=1))
        np.testing.assert_array_equal(found[level][1], (positive & left).sum(axis=1))
    if size == 120:
        rates = [found[level][1].sum() for level in LEVELS]
        assert rates[0] > rates[1] > rates[2] > rates[3] == 0


@pytest.mark.parametrize("shared_requests", [False, True])
def test_masks_are_those_of_the_task(make_table, shared_requests):
    table = make_table(num_rows=24, shared_requests=shared_requests)
    rows = np.arange(24)
    rng = np.random.default_rng(0)
    queries, candidates = (
        tf.constant(rng.normal(size=(24, 4)), tf.float32) for _ in range(2)
    )
    histories = np.full((24, 24), -1)
    for row in rows:
        own = np.unique(table.item[table.user == table.user[row]])
        histories[row, : len(own)] = own
    keys = {"user": tf.constant(table.user), "request": tf.constant(table.request)}
    options = {
        "none": (False, {}),
        "accidental_hits": (True, {}),
        "keys": (True, {"query_keys": keys}),
        "known_positives": (
            True,
            {"query_keys": keys, "known_positive_ids": tf.constant(histories)},
        ),
    }
    found = count_pairs(table.user, table.item, table.request, known_of(table))
    for level, (hits, given) in options.items():
        task = tasks.Retrieval(remove_accidental_hits=hits)
        dropped = []
        for row in rows:
            # A row's gradient is 0 exactly at the columns that it does not see.
            with tf.GradientTape() as tape:
                tape.watch(candidates)
                loss = task(
                    queries,
                    candidates,
                    sample_weight=tf.one_hot(row, 24),
                    candidate_ids=tf.constant(table.item),
                    compute_metrics=False,
                    **given,
                )
            gradient = tf.convert_to_tensor(tape.gradient(loss, candidates)).numpy()
            # A row without negatives has no gradient at its positive either.
            unseen = (gradient == 0).all(axis=1)
            dropped.append(unseen[np.arange(24) != row].sum())
        np.testing.assert_array_equal(found[level][0], dropped)
