"""Rows that are trained against their own stratum; its pairs with other options are
among the random ones of `test_task_options`.
"""

import numpy as np
import pytest
import tensorflow as tf
from replica_training import check

from tfrs_negatives.layers import CrossBatchMemory, MixedLogQ, StaticFrequency
from tfrs_negatives.samplers import Stratified
from tfrs_negatives.tasks import Retrieval

B, C, D = 40, 70, 3


def case(seed=0):
    rng = np.random.default_rng(seed)
    embeddings = [tf.constant(rng.normal(size=(n, D))) for n in (B, C)]
    rows = rng.integers(0, 5, B)
    return *embeddings, rows, np.concatenate([rows, rng.integers(0, 6, C - B)])


@pytest.mark.parametrize("row_block", [None, 7])
def test_other_strata_are_as_if_masked(row_block):
    """Mask = delete, in blocks, with strings: the pairs of a score mask."""
    queries, candidates, rows, columns = case()
    task = Retrieval(row_block=row_block)
    allowed = rows[:, np.newaxis] == columns
    expected = task(queries, candidates, score_mask=allowed)
    names = np.array(["de", "fr", "it", "es", "", "pt"])
    for of_rows, of_columns in ((rows, columns), (names[rows], names[columns])):
        found = task(
            queries, candidates, query_strata=of_rows, candidate_strata=of_columns
        )
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_extra_negatives_without_a_stratum_are_of_all_rows():
    queries, candidates, rows, columns = case()
    allowed = rows[:, np.newaxis] == columns
    allowed[:, B:] = True
    expected = Retrieval()(queries, candidates, score_mask=allowed)
    found = Retrieval()(queries, candidates, query_strata=rows)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def strata_of(rows):
    """An item's stratum is the remainder by 3; of 4 extra negatives two have one."""
    strata = rows["item"] % 3
    return {
        "query_strata": strata,
        "candidate_strata": tf.concat([strata, [1, 2]], axis=0),
        "candidate_stratum_mask": tf.concat(
            [tf.ones_like(strata, tf.bool), [True, False]], axis=0
        ),
    }


def test_replicas_compute_what_one_does(two_replicas):
    def call(rows):
        given = strata_of(rows)
        if tf.distribute.get_replica_context().num_replicas_in_sync == 1:
            # Each of two replicas brings two.
            for name, extra in (
                ("candidate_strata", [1, 2]),
                ("candidate_stratum_mask", [True, False]),
            ):
                given[name] = tf.concat([given[name], extra], axis=0)
        return given

    check(
        two_replicas,
        2,
        make_task=lambda: Retrieval(global_negatives=True),
        call=call,
        extras=True,
    )


def test_log_q_of_strata_counts_the_replicas_that_have_them(two_replicas):
    """Of one draw of those of all replicas, each of which draws for its own strata."""
    strata = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    with two_replicas.scope():
        layer = Stratified(np.arange(8), strata, "item").log_q
    ids = [tf.constant([0, 1, 3]), tf.constant([1, 4, 2])], tf.range(8)
    ids[0][1] = tf.constant([5, 3, 3])  # The strata 0 and 1, and 2 and 1.

    def step(positives):
        return layer(tf.concat([positives, ids[1]], axis=0), num_positives=3)[3:]

    batch = two_replicas.experimental_distribute_values_from_function(
        lambda context: ids[0][context.replica_id_in_sync_group]
    )
    outputs = tf.function(lambda b: two_replicas.run(step, args=(b,)))(batch)
    shares = np.array([1, 2, 1]) / 4
    expected = shares[strata] / np.bincount(strata)[strata]
    for found in two_replicas.experimental_local_results(outputs):
        np.testing.assert_allclose(np.exp(found), expected, rtol=1e-5)


def test_distinct_embeddings_are_gathered():
    queries, candidates, rows, columns = case()
    task = Retrieval()
    given = {"query_strata": rows, "candidate_strata": columns}
    expected = task(queries, candidates, **given)
    places = np.arange(B)[::-1].copy()
    found = task(tf.gather(queries, places), candidates, query_rows=places, **given)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"candidate_strata": np.zeros(C, int)}, "expected `query_strata`"),
        (
            {
                "query_strata": np.zeros(B, int),
                "candidate_stratum_mask": np.ones(C, bool),
            },
            "expected `candidate_strata`",
        ),
        ({"query_strata": np.zeros(B - 1, int)}, "`query_strata` must have size 40"),
        (
            {"query_strata": np.zeros(B, int), "candidate_strata": np.zeros(B, int)},
            "`candidate_strata` must have size 70",
        ),
        (
            {"query_strata": ["a"] * B, "candidate_strata": np.zeros(C, int)},
            "can never be equal",
        ),
        ({"query_strata": np.zeros(B)}, "`query_strata` must be integers or strings"),
        ({"query_strata": np.zeros([B, 1], int)}, "must have rank 1"),
    ],
)
def test_bad_strata(given, message):
    queries, candidates, *_ = case()
    with pytest.raises(ValueError, match=message):
        Retrieval()(queries, candidates, **given)


def test_a_memory_has_no_strata():
    queries, candidates, rows, _ = case()
    correction = MixedLogQ([StaticFrequency(np.ones(C)), -1.0])
    memory = CrossBatchMemory(90, D)
    task = Retrieval(memory=memory, sampling_correction=correction)
    ids = np.arange(C)
    with pytest.raises(ValueError, match="expected `memory=None`"):
        task(queries, candidates, candidate_ids=ids, query_strata=rows, training=True)
    assert memory.read(0).ids.shape[0] == 0
