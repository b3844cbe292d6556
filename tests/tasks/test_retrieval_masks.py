"""Every mask rule, and every pair of rules, through the task."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from oracles import dropped_pairs, numeric_gradient, row_loss, row_losses

from tfrs_negatives.tasks import Retrieval

B, C, D = 6, 9, 3
RULES = ["accidental", "user", "request", "columns", "known", "shared", "score_mask"]
COMBINATIONS = [
    *itertools.combinations(RULES, 1),
    *itertools.combinations(RULES, 2),
    tuple(rule for rule in RULES if rule != "columns"),
]


def make_case(combination, id_type, seed=3):
    """Task, call arguments and the oracle's dropped pairs."""
    rng = np.random.default_rng(seed)
    # Keys and ids on both sides of 0: every value is one.
    users = rng.integers(0, 3, B) - 1
    requests = rng.integers(0, 4, B) - 2
    ids = rng.integers(0, 7, C) - 3
    known = rng.integers(-4, 4, (B, 3))
    extra_users = rng.integers(0, 4, C - B) - 1
    score_mask = rng.random((B, C)) < 0.8
    score_mask[np.arange(B), np.arange(B)] = True

    def typed(values):
        if id_type == "string":
            values = np.asarray(values)
            return tf.constant(np.where(values == -1, "", values.astype(str)))
        return tf.constant(values, id_type)

    task = Retrieval(
        remove_accidental_hits="accidental" in combination,
        mask_shared_positives="shared" in combination,
    )
    arguments, row_keys, column_keys = {}, [], []
    if {"accidental", "known", "shared"} & set(combination):
        arguments["candidate_ids"] = typed(ids)
    needs_user = {"user", "columns", "shared"} & set(combination)
    if needs_user:
        row_keys.append(list(users))
        column_keys.append(list(users) + [None] * (C - B))
        arguments["query_keys"] = typed(users)
    if "request" in combination:
        row_keys.append(list(requests))
        column_keys.append(list(requests) + [None] * (C - B))
        arguments["query_keys"] = {"request": typed(requests)}
        if needs_user:
            arguments["query_keys"]["user"] = typed(users)
    if "columns" in combination:
        all_users = np.concatenate([users, extra_users])
        column_keys[0] = list(all_users)
        keys = typed(all_users)
        named = "request" in combination
        arguments["candidate_keys"] = {"user": keys} if named else keys
    if "known" in combination:
        arguments["known_positive_ids"] = typed(known)
    if "score_mask" in combination:
        arguments["score_mask"] = score_mask
    dropped = dropped_pairs(
        B,
        C,
        ids=ids,
        accidental_hits="accidental" in combination,
        row_keys=row_keys,
        column_keys=column_keys,
        shared="shared" in combination,
        known=known if "known" in combination else None,
        score_mask=score_mask if "score_mask" in combination else None,
    )
    return task, arguments, dropped


@pytest.mark.parametrize("id_type", ["int32", "int64", "string"])
@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_rules_equal_the_oracle(combination, id_type):
    task, arguments, dropped = make_case(combination, id_type)
    assert dropped.any() and not dropped.all(axis=1).any()
    rng = np.random.default_rng(5)
    queries = tf.constant(rng.normal(size=(B, D)))
    candidates = tf.constant(rng.normal(size=(C, D)))
    with tf.GradientTape() as tape:
        tape.watch([queries, candidates])
        loss = task(queries, candidates, **arguments)
    d_queries, d_candidates = tape.gradient(loss, [queries, candidates])

    def oracle(q, c):
        return row_losses(q, c, dropped=dropped).sum()

    q, c = queries.numpy(), candidates.numpy()
    np.testing.assert_allclose(loss, oracle(q, c), rtol=1e-10)
    if id_type == "string":
        np.testing.assert_allclose(
            d_queries, numeric_gradient(lambda x: oracle(x, c), q), atol=1e-7
        )
        np.testing.assert_allclose(
            d_candidates, numeric_gradient(lambda x: oracle(q, x), c), atol=1e-7
        )


@pytest.mark.parametrize("id_type", ["int32", "int64", "string"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("none", [-1, 1, 7])
def test_rows_without_a_key_share_it_with_none(id_type, shared, none):
    """Whatever stands where there is no key, and of the rows' own negatives too."""
    has_user = np.array([True, False, True, False, False, True])
    has_column_user = np.array([*has_user, False, True, True])
    users = np.where(has_user, [1, 0, 1, 0, 0, -1], none)
    column_users = np.where(has_column_user, [*users, 0, 1, -1], none)
    ids = np.array([0, 1, 2, 1, 3, 0, 3, 4, 1])
    negative_ids = np.stack([ids[:B][::-1], np.arange(B) - 1], axis=1)

    def typed(values, name=id_type):
        if name == "string":
            values = np.where(values == -1, "", values.astype(str))
        return tf.constant(values, name)

    def as_others(keys, mask):
        """Each one without a key has one of its own."""
        return np.where(mask, keys, 100 + np.arange(len(keys)))

    task = Retrieval(remove_accidental_hits=True, mask_shared_positives=shared)
    rng = np.random.default_rng(5)
    queries, candidates = rng.normal(size=(B, D)), rng.normal(size=(C, D))
    negatives = rng.normal(size=(B, 2, D))
    loss = task(
        tf.constant(queries),
        tf.constant(candidates),
        candidate_ids=typed(ids),
        query_keys=typed(users),
        query_key_mask=has_user,
        candidate_keys=typed(column_users),
        candidate_key_mask=has_column_user,
        negative_embeddings=negatives,
        negative_ids=typed(negative_ids),
    )
    rows = as_others(users, has_user)
    columns = np.where(has_column_user, column_users, None)
    dropped = dropped_pairs(
        B,
        C,
        ids=ids,
        accidental_hits=True,
        row_keys=[rows],
        column_keys=[columns],
        shared=shared,
    )
    expected = 0.0
    for i in range(B):
        friends = [ids[j] for j in range(B) if shared and rows[j] == rows[i]]
        own_dropped = [one in (ids[i], *friends) for one in negative_ids[i]]
        everything = np.concatenate([candidates, negatives[i]])
        all_dropped = np.zeros((i + 1, C + 2), bool)
        all_dropped[i] = [*dropped[i], *own_dropped]
        expected += row_loss(i, everything @ queries[i], None, all_dropped, "all")
    np.testing.assert_allclose(loss, expected, rtol=1e-10)


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_nothing_depends_on_how_ids_are_numbered(combination):
    """Ids moved by +1 and by -1000, or as strings, give the same loss to the digit."""
    losses = []
    for shift in (0, 1, -1000, "string"):
        task, arguments, _ = make_case(combination, "int64")

        def renamed(value, shift=shift):
            if not tf.is_tensor(value) or value.dtype != tf.int64:
                return value
            return tf.strings.as_string(value) if shift == "string" else value + shift

        arguments = tf.nest.map_structure(renamed, arguments)
        rng = np.random.default_rng(5)
        queries = tf.constant(rng.normal(size=(B, D)))
        candidates = tf.constant(rng.normal(size=(C, D)))
        losses.append(float(task(queries, candidates, **arguments)))
    assert losses == [losses[0]] * 4


@pytest.mark.parametrize("combination", [("known", "user"), ("shared", "request")])
def test_rules_in_a_graph_of_unknown_sizes(combination):
    task, arguments, dropped = make_case(combination, "string")
    relaxed = tf.nest.map_structure(
        lambda x: tf.TensorSpec([None] * x.shape.rank, x.dtype),
        arguments,
    )

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None]),
            tf.TensorSpec([None, None]),
            relaxed,
        ]
    )
    def loss(queries, candidates, arguments):
        return task(queries, candidates, **arguments)

    rng = np.random.default_rng(5)
    queries = rng.normal(size=(B, D)).astype(np.float32)
    candidates = rng.normal(size=(C, D)).astype(np.float32)
    np.testing.assert_allclose(
        loss(queries, candidates, arguments),
        row_losses(queries, candidates, dropped=dropped).sum(),
        rtol=1e-5,
    )


def test_ragged_known_positives_equal_padded_ones():
    rows = [[3, 5], [], [1, 2, 4]]
    ragged = tf.ragged.constant(rows, tf.int64)
    padded = ragged.to_tensor(-1)
    rng = np.random.default_rng(0)
    queries, candidates = rng.normal(size=(3, D)), rng.normal(size=(5, D))
    losses = [
        Retrieval()(
            queries,
            candidates,
            candidate_ids=tf.constant([1, 3, 5, 2, 4]),
            known_positive_ids=known,
        )
        for known in (ragged, padded)
    ]
    dropped = dropped_pairs(3, 5, ids=[1, 3, 5, 2, 4], known=rows)
    expected = row_losses(queries, candidates, dropped=dropped).sum()
    np.testing.assert_allclose(losses, [expected, expected], rtol=1e-10)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("combination", [("user",), ("known", "accidental")])
def test_rules_under_mixed_precision(policy, combination):
    from tfrs_negatives._keras import keras

    keras.mixed_precision.set_global_policy(policy)
    try:
        task, arguments, dropped = make_case(combination, "int64")
        tower = keras.layers.Dense(D)
        rng = np.random.default_rng(1)
        inputs = tf.constant(rng.normal(size=(C, D)), tf.float32)
        tower(inputs)
        with tf.GradientTape() as tape:
            candidates = tower(inputs)
            queries = tower(inputs[::-1][:B])
            loss = task(queries, candidates, **arguments)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert candidates.dtype == policy.removeprefix("mixed_")
    assert loss.dtype == tf.float32
    expected = row_losses(
        tf.cast(queries, tf.float64), tf.cast(candidates, tf.float64), dropped=dropped
    ).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    gradients = tape.gradient(loss, tower.trainable_variables)
    assert all(np.all(np.isfinite(g)) for g in gradients)
    assert np.any(gradients[0])
