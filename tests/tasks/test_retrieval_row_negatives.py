"""Negatives that rows have of their own, through the task."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from oracles import dropped_pairs, numeric_gradient, row_loss

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import MixedLogQ, StaticFrequency, StreamingFrequency
from tfrs_negatives.losses import SampledSigmoid, SampledSoftmax
from tfrs_negatives.tasks import Retrieval

B, C, M, D = 5, 7, 3, 4
FIRST_ID = -3
RULES = ["accidental", "known", "shared", "mask"]
COMBINATIONS = [
    combination
    for size in range(len(RULES) + 1)
    for combination in itertools.combinations(RULES, size)
]


@pytest.fixture
def batch():
    rng = np.random.default_rng(5)
    return {
        "queries": rng.normal(size=(B, D)),
        "candidates": rng.normal(size=(C, D)),
        "negatives": rng.normal(size=(B, M, D)),
        "users": rng.integers(-1, 2, B),
        # About half of the users and items have negative numbers.
        "ids": rng.integers(0, 6, C) + FIRST_ID,
        "negative_ids": rng.integers(0, 6, (B, M)) + FIRST_ID,
        "known": rng.integers(0, 6, (B, 2)) + FIRST_ID,
        "mask": rng.random((B, M)) < 0.8,
        "q": rng.dirichlet(np.ones(6)),
    }


def typed(values, id_type):
    """Ids of a type; as strings, -1 is the empty one."""
    if id_type == "string":
        values = np.asarray(values)
        return tf.constant(np.where(values == -1, "", values.astype(str)))
    return tf.constant(values, id_type)


def oracle(batch, combination, log_q=None, queries=None, positive="all"):
    """[B] losses: each row's own negatives as columns that others do not have."""
    ids, users = batch["ids"], batch["users"]
    known = batch["known"]
    shared = "shared" in combination
    by_column = dropped_pairs(
        B,
        C,
        ids=ids,
        accidental_hits="accidental" in combination,
        row_keys=[users] if shared else None,
        column_keys=[list(users) + [None] * (C - B)] if shared else None,
        shared=shared,
        known=known if "known" in combination else None,
    )
    queries = batch["queries"] if queries is None else queries
    losses = []
    for i in range(B):
        dropped = np.zeros(M, bool)
        for m, one in enumerate(batch["negative_ids"][i]):
            friends = [ids[j] for j in range(B) if users[j] == users[i]]
            dropped[m] = (
                ("accidental" in combination and one == ids[i])
                or ("known" in combination and one in known[i])
                or (shared and one in friends)
                or ("mask" in combination and not batch["mask"][i, m])
            )
        columns = np.concatenate([batch["candidates"], batch["negatives"][i]])
        all_ids = np.concatenate([ids, batch["negative_ids"][i]])
        row_log_q = None if log_q is None else log_q[all_ids - FIRST_ID]
        row_dropped = {i: np.concatenate([by_column[i], dropped])}
        # `row_loss` reads the pairs of one row only.
        scores = columns @ queries[i]
        dropped_matrix = np.zeros((i + 1, C + M), bool)
        dropped_matrix[i] = row_dropped[i]
        losses.append(row_loss(i, scores, row_log_q, dropped_matrix, positive))
    return np.array(losses)


def arguments(batch, combination, id_type="int64"):
    given = {
        "candidate_ids": typed(batch["ids"], id_type),
        "negative_embeddings": tf.constant(batch["negatives"]),
        "negative_ids": typed(batch["negative_ids"], id_type),
    }
    if "known" in combination:
        given["known_positive_ids"] = typed(batch["known"], id_type)
    if "shared" in combination:
        given["query_keys"] = typed(batch["users"], id_type)
    if "mask" in combination:
        given["negative_mask"] = tf.constant(batch["mask"])
    return given


def counted(batch):
    """The layer that knows q."""
    ids = np.arange(FIRST_ID, FIRST_ID + 6)
    return StaticFrequency((ids, batch["q"] * 1000))


@pytest.mark.parametrize("id_type", ["int32", "int64", "string"])
@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_rules_drop_negatives_like_columns(batch, combination, id_type):
    task = Retrieval(
        remove_accidental_hits="accidental" in combination,
        mask_shared_positives="shared" in combination,
    )
    queries = tf.constant(batch["queries"])
    negatives = tf.constant(batch["negatives"])
    given = arguments(batch, combination, id_type)
    with tf.GradientTape() as tape:
        tape.watch([queries, negatives])
        given["negative_embeddings"] = negatives
        loss = task(queries, batch["candidates"], **given)
    np.testing.assert_allclose(loss, oracle(batch, combination).sum(), rtol=1e-9)
    d_queries, d_negatives = tape.gradient(loss, [queries, negatives])
    numeric = numeric_gradient(
        lambda q: oracle(batch, combination, queries=q).sum(), batch["queries"]
    )
    np.testing.assert_allclose(d_queries, numeric, atol=1e-6)
    if "mask" in combination:
        assert not batch["mask"].all()
        assert not np.any(d_negatives.numpy()[~batch["mask"]])


def test_ragged_known_positives(batch):
    task = Retrieval()
    given = arguments(batch, ["known"])
    batch["known"] = rows = [k[: i % 3] for i, k in enumerate(batch["known"])]
    given["known_positive_ids"] = tf.ragged.constant(rows, dtype="int64")
    loss = task(batch["queries"], batch["candidates"], **given)
    np.testing.assert_allclose(loss, oracle(batch, ["known"]).sum(), rtol=1e-9)


@pytest.mark.parametrize("positive", ["all", "negatives", "refined", "outside"])
def test_log_q_of_negatives_is_looked_up(batch, positive):
    correction = counted(batch)
    task = Retrieval(sampling_correction=correction, positive=positive)
    loss = task(
        batch["queries"], batch["candidates"], **arguments(batch, []), training=True
    )
    log_q = np.log(batch["q"])
    expected = oracle(batch, [], log_q=log_q, positive=positive)
    np.testing.assert_allclose(loss, expected.sum(), rtol=1e-6)


def test_given_log_q_comes_first(batch):
    given = arguments(batch, [])
    negative_log_q = np.full((B, M), -2.0)
    expected = SampledSoftmax()(
        batch["queries"],
        batch["candidates"],
        negative_embeddings=batch["negatives"],
        candidate_log_q=np.log(batch["q"])[batch["ids"] - FIRST_ID],
        negative_log_q=negative_log_q,
    )
    corrected = Retrieval(sampling_correction=counted(batch))
    found = corrected(
        batch["queries"],
        batch["candidates"],
        **given,
        negative_log_q=negative_log_q,
        training=True,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    found = Retrieval()(
        batch["queries"],
        batch["candidates"],
        **given,
        candidate_log_q=np.log(batch["q"])[batch["ids"] - FIRST_ID],
        negative_log_q=negative_log_q,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_negatives_neither_teach_nor_weigh_the_mixture(batch):
    """The estimator learns from B ids; B and C - B stay the sizes of the mixture."""
    with_negatives, without = (
        MixedLogQ([StreamingFrequency(6, dense=True), np.log(1 / 6)]) for _ in range(2)
    )
    batch["ids"] -= FIRST_ID
    batch["negative_ids"] -= FIRST_ID
    given = arguments(batch, [])
    Retrieval(sampling_correction=with_negatives)(
        batch["queries"], batch["candidates"], **given, training=True
    )
    log_q = without(tf.constant(batch["ids"]), num_positives=B, training=True)
    for one, other in zip(with_negatives.variables, without.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    looked_up = with_negatives(
        tf.constant(np.concatenate([batch["ids"], np.arange(6)])),
        num_positives=B,
        num_columns=C,
    )
    np.testing.assert_allclose(looked_up[:C], log_q, rtol=1e-6)
    np.testing.assert_allclose(
        looked_up[C:].numpy()[batch["ids"]], log_q.numpy(), rtol=1e-6
    )


def test_a_keras_loss_sees_them_too(batch):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    task = Retrieval(loss=loss, remove_accidental_hits=True)
    found = task(
        batch["queries"], batch["candidates"], **arguments(batch, ["accidental"])
    )
    np.testing.assert_allclose(found, oracle(batch, ["accidental"]).sum(), rtol=1e-6)


def test_graph_with_unknown_sizes_equals_eager(batch):
    task = Retrieval(remove_accidental_hits=True)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, D], tf.float64),
            tf.TensorSpec([None, D], tf.float64),
            tf.TensorSpec([None, None, D], tf.float64),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([None, None], tf.int64),
        ]
    )
    def step(queries, candidates, negatives, ids, negative_ids):
        return task(
            queries,
            candidates,
            candidate_ids=ids,
            negative_embeddings=negatives,
            negative_ids=negative_ids,
        )

    found = step(
        *(batch[name] for name in ("queries", "candidates", "negatives", "ids")),
        batch["negative_ids"],
    )
    np.testing.assert_allclose(found, oracle(batch, ["accidental"]).sum(), rtol=1e-9)
    with pytest.raises(tf.errors.InvalidArgumentError, match="negative_ids"):
        step(
            *(batch[name] for name in ("queries", "candidates", "negatives", "ids")),
            batch["negative_ids"][:-1],
        )


def test_a_sampled_loss_of_its_own_options(batch):
    """`loss=SampledSigmoid(...)` with labels, against the loss by itself."""
    loss = SampledSigmoid(0.5, negative_weight=2.0, reduction="sum_over_batch_size")
    labels = np.array([1.0, 0.0, 1.0, 0.0, 1.0])
    found = Retrieval(loss)(
        batch["queries"],
        batch["candidates"],
        negative_embeddings=batch["negatives"],
        labels=labels,
    )
    expected = loss(
        batch["queries"],
        batch["candidates"],
        negative_embeddings=batch["negatives"],
        labels=labels,
    )
    np.testing.assert_allclose(found, expected)
    softmax = Retrieval(SampledSoftmax(0.5))(batch["queries"], batch["candidates"])
    plain = Retrieval(temperature=0.5)(batch["queries"], batch["candidates"])
    np.testing.assert_allclose(softmax, plain)


def test_a_task_with_a_sampled_loss_is_rebuilt_from_its_config(batch):
    task = Retrieval(SampledSigmoid(0.5, negative_weight=2.0))
    rebuilt = Retrieval.from_config(task.get_config())
    np.testing.assert_allclose(
        rebuilt(batch["queries"], batch["candidates"]),
        task(batch["queries"], batch["candidates"]),
    )


@pytest.mark.parametrize(
    "task, given, message",
    [
        ({}, {"negative_ids": np.zeros((B, M), int)}, "negative_ids.*negative_emb"),
        ({}, {"negative_embeddings": np.zeros((B, M, D + 1))}, "size 4 along axis 2"),
        ({}, {"negative_embeddings": np.zeros((B + 1, M, D))}, "size 5 along axis 0"),
        ({}, {"negative_embeddings": np.zeros((B, D))}, "rank 3"),
        (
            {},
            {
                "negative_embeddings": np.zeros((B, M, D)),
                "negative_ids": np.zeros((B, M - 1), int),
            },
            "negative_ids.*size 3 along axis 1",
        ),
        (
            {"remove_accidental_hits": True},
            {"negative_embeddings": np.zeros((B, M, D))},
            "compares ids.*negative_ids",
        ),
        (
            {},
            {
                "negative_embeddings": np.zeros((B, M, D)),
                "negative_ids": np.full((B, M), "a"),
            },
            "strings",
        ),
        (
            {},
            {
                "negative_embeddings": np.zeros((B, M, D)),
                "negative_log_q": np.zeros((B, M)),
            },
            "all or none",
        ),
        (
            {},
            {
                "negative_embeddings": np.zeros((B, M, D)),
                "candidate_log_q": np.zeros(C),
            },
            "expected `negative_log_q`",
        ),
        ({}, {"labels": np.ones(B)}, "SampledSoftmax.*no labels"),
        (
            {"loss": keras.losses.CategoricalCrossentropy(reduction="sum")},
            {"labels": np.ones(B)},
            "labels.*SampledSigmoid",
        ),
    ],
)
def test_bad_input_changes_nothing(batch, task, given, message):
    correction = StreamingFrequency(100)
    if "candidate_log_q" not in given and "negative_log_q" not in given:
        task = {**task, "sampling_correction": correction}
    task = Retrieval(**task)
    with pytest.raises(ValueError, match=message):
        task(
            batch["queries"],
            batch["candidates"],
            candidate_ids=batch["ids"],
            training=True,
            **given,
        )
    assert not any(np.any(v.numpy()) for v in correction.variables)


def test_a_correction_needs_ids_of_negatives(batch):
    correction = StreamingFrequency(100)
    with pytest.raises(ValueError, match="sampling_correction.*negative_ids"):
        Retrieval(sampling_correction=correction)(
            batch["queries"],
            batch["candidates"],
            candidate_ids=batch["ids"],
            negative_embeddings=batch["negatives"],
            training=True,
        )
    assert not any(np.any(v.numpy()) for v in correction.variables)


def test_wide_ids_of_negatives_are_not_cut(batch):
    """Beside int32 candidates, an int64 id does not wrap to one of them."""
    correction = StaticFrequency((np.array([6, 2**32 + 6]), [1.0, 99.0]))
    given = {
        "candidate_ids": tf.fill([C], 6),
        "negative_embeddings": batch["negatives"],
        "training": False,
    }
    wide = tf.fill([B, M], tf.constant(2**32 + 6, tf.int64))
    found = Retrieval(sampling_correction=correction)(
        batch["queries"], batch["candidates"], negative_ids=wide, **given
    )
    expected = Retrieval()(
        batch["queries"],
        batch["candidates"],
        candidate_log_q=np.full(C, np.log(0.01), "float32"),
        negative_log_q=np.full((B, M), np.log(0.99), "float32"),
        **given,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_options_come_once():
    with pytest.raises(ValueError, match="has its own options.*temperature"):
        Retrieval(SampledSigmoid(), temperature=0.5)


@pytest.mark.parametrize("heads", [False, True])
def test_a_correction_that_answers_in_another_shape(batch, heads):
    """As a column, log q would be subtracted along the wrong axis."""

    def correction(ids, **sizes):
        return tf.zeros([tf.size(ids), 1])

    queries = batch["queries"]
    queries = queries[:, np.newaxis] if heads else queries
    both = arguments(batch, [])
    for given in (both, {"candidate_ids": both["candidate_ids"]}):
        with pytest.raises(ValueError, match="`candidate_log_q` must have rank 1"):
            Retrieval(sampling_correction=correction)(
                queries, batch["candidates"], **given, training=True
            )
