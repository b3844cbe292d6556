"""Distinct embeddings with maps: the loss of the repeated ones, for less work."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from oracles import dropped_pairs, numeric_gradient, row_losses

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory, StreamingFrequency
from tfrs_negatives.losses import SampledSigmoid
from tfrs_negatives.tasks import Retrieval

B, C, U, V, D = 14, 19, 5, 6, 3
RULES = ["accidental", "user", "request", "columns", "known", "shared"]
COMBINATIONS = [
    (),
    *itertools.combinations(RULES, 1),
    *itertools.combinations(RULES, 2),
    tuple(rule for rule in RULES if rule != "columns"),
]
CORRECTIONS = [
    ("all", False),
    ("all", True),
    ("negatives", True),
    ("refined", True),
    ("outside", False),
    ("outside", True),
]


def make_case(combination, id_type="int64", seed=0, per_item=1):
    """Embeddings, maps, arguments of a call, and the oracle's dropped pairs.

    With `per_item` 2, two of the distinct candidates are the same item.
    """
    rng = np.random.default_rng(seed)
    case = {
        "queries": rng.normal(size=(U, D)).astype("float32"),
        "candidates": rng.normal(size=(V, D)).astype("float32"),
        "query_rows": rng.integers(0, U, B),
        "candidate_rows": rng.integers(0, V, C),
        "log_q": np.log(rng.uniform(0.02, 0.4, V)).astype("float32"),
        "weights": rng.uniform(0.5, 2, B).astype("float32"),
    }
    users = case["query_rows"] // 2
    requests = case["query_rows"] % 4
    column_users = np.concatenate([users, rng.integers(0, 4, C - B)])
    column_users[::5] = 3
    ids = case["candidate_rows"] // per_item
    # Two lists for the rows of one query.
    known = rng.integers(-1, V, (2 * U, 3))[
        case["query_rows"] + U * rng.integers(0, 2, B)
    ]

    def typed(values):
        if id_type == "string":
            return tf.constant(np.where(values < 0, "", values.astype(str)))
        return tf.constant(values, id_type)

    given, row_keys, column_keys = {"candidate_ids": typed(ids)}, [], []
    if {"user", "columns", "shared"} & set(combination):
        row_keys.append(list(users))
        column_keys.append(list(users) + [None] * (C - B))
        given["query_keys"] = {"user": typed(users)}
    if "request" in combination:
        row_keys.append(list(requests))
        column_keys.append(list(requests) + [None] * (C - B))
        given.setdefault("query_keys", {})["request"] = typed(requests)
    if "columns" in combination:
        column_keys[0] = list(column_users)
        given["candidate_keys"] = {"user": typed(column_users)}
    if "known" in combination:
        given["known_positive_ids"] = typed(known)
    dropped = dropped_pairs(
        B,
        C,
        ids=ids,
        accidental_hits="accidental" in combination,
        row_keys=row_keys,
        column_keys=column_keys,
        shared="shared" in combination,
        known=[k[k >= 0] for k in known] if "known" in combination else None,
    )
    return case, given, dropped


def test_rows_without_a_key_share_it_with_none():
    case, given, _ = make_case(("user",))
    users = case["query_rows"] // 2 - 1
    has_user = case["query_rows"] != 1
    given["query_keys"] = {"user": tf.constant(users)}
    given["query_key_mask"] = {"user": tf.constant(has_user)}
    own = np.where(has_user, users, 100 + np.arange(B)).tolist()
    dropped = dropped_pairs(B, C, row_keys=[own], column_keys=[own + [None] * (C - B)])
    assert (~has_user).sum() > 1
    expected = case["weights"] @ row_losses(
        case["queries"][case["query_rows"]],
        case["candidates"][case["candidate_rows"]],
        dropped=dropped,
    )
    loss = run(Retrieval(), case, given, True, log_q=False)[0]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def run(task, case, given, repeated, log_q=True, weights=True):
    """The loss, and its gradients in the distinct embeddings and the weights."""
    leaves = [tf.constant(case[k]) for k in ("queries", "candidates", "weights")]
    given = dict(given)
    if log_q:
        given["candidate_log_q"] = tf.gather(case["log_q"], case["candidate_rows"])
    with tf.GradientTape() as tape:
        tape.watch(leaves)
        queries, candidates, sample_weight = leaves
        if weights:
            given["sample_weight"] = sample_weight
        if repeated:
            given["query_rows"] = case["query_rows"]
            given["candidate_rows"] = case["candidate_rows"]
        else:
            queries = tf.gather(queries, case["query_rows"])
            candidates = tf.gather(candidates, case["candidate_rows"])
        loss = task(queries, candidates, **given)
    gradients = tape.gradient(loss, leaves[: 3 if weights else 2])
    return [np.asarray(tf.convert_to_tensor(x)) for x in (loss, *gradients)]


def assert_close(actual, expected, tolerance=1e-5):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("combination, correction", grid(COMBINATIONS, CORRECTIONS))
def test_is_the_loss_of_repeated_embeddings(combination, correction):
    positive, log_q = correction
    case, given, dropped = make_case(combination)
    task = Retrieval(
        remove_accidental_hits="accidental" in combination,
        mask_shared_positives="shared" in combination,
        positive=positive,
        temperature=0.5,
    )
    loss, *gradients = run(task, case, given, True, log_q)
    assert_close([loss, *gradients], run(task, case, given, False, log_q))

    def oracle(queries, candidates):
        return case["weights"] @ row_losses(
            queries[case["query_rows"]],
            candidates[case["candidate_rows"]],
            temperature=0.5,
            log_q=case["log_q"][case["candidate_rows"]] if log_q else None,
            dropped=dropped,
            positive=positive,
        )

    np.testing.assert_allclose(
        loss, oracle(case["queries"], case["candidates"]), rtol=1e-5
    )
    if positive != "refined":  # Its factor has no gradient: compared above.
        numeric = numeric_gradient(
            lambda c: oracle(case["queries"], c), case["candidates"]
        )
        np.testing.assert_allclose(gradients[1], numeric, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "reduction, per_item, id_type",
    grid(
        ["sum", "sum_over_batch_size", "mean_with_sample_weight", "none"],
        [1, 2],
        ["int32", "string"],
        rounds=2,
    ),
)
def test_ids_and_reductions(reduction, per_item, id_type):
    case, given, _ = make_case(
        ("accidental", "user", "known"), id_type, 1, per_item=per_item
    )
    task = Retrieval(
        remove_accidental_hits=True, reduction=reduction, row_block=2, temperature=0.3
    )
    assert_close(run(task, case, given, True), run(task, case, given, False))


@pytest.mark.parametrize("scale", [30, 1000])
@pytest.mark.parametrize("positive, log_q", CORRECTIONS)
@pytest.mark.parametrize("hits", [True, False])
def test_scores_far_apart(positive, log_q, hits, scale):
    """No sum of others is had by subtraction: nothing cancels or overflows."""
    case, given, _ = make_case(("user",) if hits else ())
    case["queries"] *= scale
    case["log_q"] *= 5
    task = Retrieval(remove_accidental_hits=hits, positive=positive)
    actual, expected = (run(task, case, given, r, log_q) for r in (True, False))
    for a, e in zip(actual, expected, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5 * np.abs(e).max())


def test_rows_that_keep_no_negative_cost_nothing():
    case, given, _ = make_case(("user",))
    given["query_keys"] = tf.zeros([B], tf.int64)
    given["candidate_keys"] = tf.zeros([C], tf.int64)
    loss, *gradients = run(Retrieval(), case, given, True)
    assert loss == 0
    assert all((g == 0).all() for g in gradients)


@pytest.mark.parametrize("given_map", ["query_rows", "candidate_rows"])
def test_one_map_alone(given_map):
    case, given, _ = make_case(("accidental", "user"))
    task = Retrieval(remove_accidental_hits=True)
    queries = tf.gather(case["queries"], case["query_rows"])
    candidates = tf.gather(case["candidates"], case["candidate_rows"])
    expected = task(queries, candidates, **given)
    if given_map == "query_rows":
        queries = case["queries"]
    else:
        candidates = case["candidates"]
    actual = task(queries, candidates, **given, **{given_map: case[given_map]})
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


class Everything:
    """A task with every kind of state, in a traced step."""

    def __init__(self, repeated):
        self.tables = [
            tf.Variable(make_case(())[0][k]) for k in ("queries", "candidates")
        ]
        self.repeated = repeated
        self.task = Retrieval(
            remove_accidental_hits=True,
            sampling_correction=StreamingFrequency(2**10, num_hashes=1),
            memory=CrossBatchMemory(3 * B, D, num_keys=1),
            loss_metrics=[keras.metrics.Mean("loss")],
        )
        self.step = tf.function(self._step, reduce_retracing=True)

    def _step(self, case, given):
        with tf.GradientTape() as tape:
            queries, candidates = (tf.convert_to_tensor(t) for t in self.tables)
            maps = {k: case[k] for k in ("query_rows", "candidate_rows")}
            if self.repeated:
                given = given | maps
            else:
                queries = tf.gather(queries, maps["query_rows"])
                candidates = tf.gather(candidates, maps["candidate_rows"])
            loss = self.task(
                queries,
                candidates,
                sample_weight=case["weights"],
                training=True,
                **given,
            )
        for table, gradient in zip(
            self.tables, tape.gradient(loss, self.tables), strict=True
        ):
            table.assign_sub(0.05 * tf.convert_to_tensor(gradient))
        return loss


@pytest.mark.slow(reason="traces two models with all their state")
def test_training_with_state_in_one_trace():
    """Estimator, queue and metrics: as without maps, over batches of any repeats."""
    plain, repeated = Everything(False), Everything(True)
    for seed in range(4):
        losses = []
        for each in (plain, repeated):
            case, given, _ = make_case(("user", "known"), seed=seed)
            case = {k: tf.constant(v) for k, v in case.items()}
            given["query_keys"] = given["query_keys"]["user"]
            losses.append(each.step(case, given))
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    for one, other in zip(
        plain.tables + list(plain.task.variables),
        repeated.tables + list(repeated.task.variables),
        strict=True,
    ):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-5)
    assert repeated.step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    "options, call",
    [
        ({"num_hard_negatives": 3}, {}),
        ({"loss": SampledSigmoid()}, {}),
        ({"loss": keras.losses.CategoricalCrossentropy(from_logits=True)}, {}),
        ({"batch_metrics": [keras.metrics.TopKCategoricalAccuracy(2)]}, {}),
        ({}, {"score_mask": np.eye(B, C, dtype=bool) | (np.arange(C) % 3 > 0)}),
        ({}, {"negative_embeddings": np.ones([B, 2, D], "float32")}),
    ],
)
def test_what_needs_each_row_is_given_it(options, call):
    case, given, _ = make_case(("user",))
    log_q = "negative_embeddings" not in call
    results = []
    for repeated in (True, False):
        task = Retrieval(**options)
        results.append(run(task, case, given | call, repeated, log_q, weights=False))
        results[-1] += [m.result().numpy() for m in task._batch_metrics]
    assert_close(*results)


def test_under_xla():
    case, given, _ = make_case(("accidental", "user"))
    task = Retrieval(remove_accidental_hits=True)

    @tf.function(jit_compile=True)
    def compiled():
        return task(
            case["queries"],
            case["candidates"],
            query_rows=case["query_rows"],
            candidate_rows=case["candidate_rows"],
            **given,
        )

    expected = run(task, case, given, True, log_q=False, weights=False)[0]
    np.testing.assert_allclose(compiled(), expected, rtol=1e-5)


def test_corpus_metrics_see_every_row():
    class Recorder:
        def update_state(self, queries, candidates, **kwargs):
            self.seen = queries, candidates, kwargs["true_candidate_ids"]

    case, given, _ = make_case(())
    recorder = Recorder()
    run(Retrieval(metrics=recorder), case, given, True)
    queries, candidates, ids = recorder.seen
    np.testing.assert_array_equal(queries, case["queries"][case["query_rows"]])
    own = case["candidate_rows"][:B]
    np.testing.assert_array_equal(candidates, case["candidates"][own])
    np.testing.assert_array_equal(ids, own)


@pytest.mark.parametrize("dtype, tolerance", [("float16", 1e-5), ("float64", 1e-12)])
def test_dtypes(dtype, tolerance):
    case, given, _ = make_case(("accidental", "user"))
    for name in ("queries", "candidates"):
        case[name] = case[name].astype(dtype)
    task = Retrieval(remove_accidental_hits=True)
    actual, expected = (run(task, case, given, r) for r in (True, False))
    assert actual[0].dtype == ("float64" if dtype == "float64" else "float32")
    # Gradients in half precision are rounded after they are added up.
    assert_close(actual[:1], expected[:1], tolerance)


@pytest.mark.parametrize(
    "maps, error, message",
    [
        ({"query_rows": np.full(B, U)}, tf.errors.InvalidArgumentError, "query_rows"),
        ({"candidate_rows": np.full(C, -1)}, tf.errors.InvalidArgumentError, "from 0"),
        ({"query_rows": np.zeros(B)}, ValueError, "integers"),
        ({"query_rows": np.zeros([B, 1], int)}, ValueError, "rank 1"),
        ({"candidate_rows": np.zeros(B - 1, int)}, ValueError, "at least as many"),
    ],
)
def test_bad_maps(maps, error, message):
    case, _, _ = make_case(())
    given = {k: case[k] for k in ("query_rows", "candidate_rows")}
    with pytest.raises(error, match=message):
        Retrieval()(case["queries"], case["candidates"], **given | maps)
