import itertools

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from oracles import dropped_pairs, numeric_gradient

from tfrs_negatives.losses import SampledSigmoid, rules

B, C, M, D = 5, 8, 2, 3


@pytest.fixture
def batch():
    rng = np.random.default_rng(11)
    return {
        "queries": rng.normal(size=(B, D)),
        "candidates": rng.normal(size=(C, D)),
        "negatives": rng.normal(size=(B, M, D)),
        "negative_mask": np.array([[1, 0], [1, 1], [0, 0], [0, 1], [1, 1]], bool),
        "log_q": np.log(rng.uniform(0.01, 0.6, C)),
        "negative_log_q": np.log(rng.uniform(0.01, 0.6, (B, M))),
        "labels": np.array([1.0, 0.0, 1.0, 0.3, 0.0]),
        "weights": rng.uniform(0.2, 2.0, B),
        "ids": np.array([3, 4, 5, 3, 6, 4, 7, 3]),
    }


def oracle(
    batch, *, temperature=1.0, log_q=False, positive="all", hard=None, weight=None,
    labels=None, masked=False, negatives=False, queries=None,
):  # fmt: skip
    """[B] losses, one pair after the other."""
    queries = batch["queries"] if queries is None else queries
    dropped = dropped_pairs(B, C, ids=batch["ids"], accidental_hits=masked)
    losses = []
    for i, query in enumerate(queries):
        others = [
            query @ batch["candidates"][k] / temperature
            - (batch["log_q"][k] if log_q else 0)
            for k in range(C)
            if k != i and not dropped[i, k]
        ]
        if negatives:
            others += [
                query @ batch["negatives"][i, m] / temperature
                - (batch["negative_log_q"][i, m] if log_q else 0)
                for m in range(M)
                if batch["negative_mask"][i, m]
            ]
        if hard:
            others = sorted(others)[-hard:]
        n = len(others)
        w = n if weight is None else weight
        own = query @ batch["candidates"][i] / temperature
        if log_q:
            others = [s - np.log(w) for s in others]
            if positive == "all":
                own -= batch["log_q"][i] + np.log(w)
        label = 1.0 if labels is None else labels[i]
        cost = np.log1p(np.exp(own)) - label * own
        losses.append(cost + w / n * np.sum(np.log1p(np.exp(others))))
    return np.array(losses)


def arguments(batch, *, log_q=False, labels=False, masked=False, negatives=False):
    given = {}
    if log_q:
        given["candidate_log_q"] = tf.constant(batch["log_q"])
    if labels:
        given["labels"] = tf.constant(batch["labels"])
    if masked:
        ids = tf.constant(batch["ids"], tf.int64)
        given["rules"] = [rules.same_key(ids[:B], rules.SortedColumns(ids, C))]
    if negatives:
        given["negative_embeddings"] = tf.constant(batch["negatives"])
        given["negative_mask"] = tf.constant(batch["negative_mask"])
        if log_q:
            given["negative_log_q"] = tf.constant(batch["negative_log_q"])
    return given


@pytest.mark.parametrize(
    "options, positive, weight, row_block",
    grid(
        itertools.product([False, True], repeat=4),
        ["all", "negatives"],
        [None, 2.5],
        [None, 2],
        rounds=4,
    ),
)
def test_value_and_gradient_equal_the_oracle(
    batch, options, positive, weight, row_block
):
    log_q, labels, masked, negatives = options
    loss = SampledSigmoid(0.7, positive, negative_weight=weight, row_block=row_block)
    given = arguments(
        batch, log_q=log_q, labels=labels, masked=masked, negatives=negatives
    )
    options = {
        "temperature": 0.7,
        "positive": positive,
        "weight": weight,
        "log_q": log_q,
        "masked": masked,
        "negatives": negatives,
        "labels": batch["labels"] if labels else None,
    }
    queries = tf.constant(batch["queries"])
    with tf.GradientTape() as tape:
        tape.watch(queries)
        value = loss(
            queries, batch["candidates"], sample_weight=batch["weights"], **given
        )
    expected = batch["weights"] @ oracle(batch, **options)
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    numeric = numeric_gradient(
        lambda q: batch["weights"] @ oracle(batch, queries=q, **options),
        batch["queries"],
    )
    np.testing.assert_allclose(tape.gradient(value, queries), numeric, atol=1e-7)


@pytest.mark.parametrize("log_q", [False, True])
def test_hard_negatives(batch, log_q):
    loss = SampledSigmoid(num_hard_negatives=3, reduction="none")
    found = loss(batch["queries"], batch["candidates"], **arguments(batch, log_q=log_q))
    np.testing.assert_allclose(found, oracle(batch, log_q=log_q, hard=3), rtol=1e-9)


def test_masked_is_deleted(batch):
    """Gradient exactly 0, and the loss of what is left."""
    loss = SampledSigmoid(reduction="none")
    mask = np.ones((B, C), bool)
    mask[:, 6] = False
    candidates = tf.constant(batch["candidates"])
    log_q = batch["log_q"]
    with tf.GradientTape() as tape:
        tape.watch(candidates)
        masked = loss(
            batch["queries"], candidates, candidate_log_q=log_q, score_mask=mask
        )
    assert not np.any(tape.gradient(masked, candidates)[6])
    without = np.delete(np.arange(C), 6)
    deleted = loss(
        batch["queries"],
        batch["candidates"][without],
        candidate_log_q=log_q[without],
    )
    np.testing.assert_allclose(masked, deleted, rtol=1e-12)


@pytest.mark.parametrize("labels", [False, True])
def test_a_row_without_negatives_pays_for_its_own_pair(batch, labels):
    queries = tf.constant(batch["queries"][:1], tf.float32)
    candidates = tf.constant(batch["candidates"][:1], tf.float32)
    for log_q in (None, [-2.0]):
        with tf.GradientTape() as tape:
            tape.watch(queries)
            value = SampledSigmoid()(
                queries,
                candidates,
                candidate_log_q=log_q,
                labels=[0.0] if labels else None,
            )
        own = batch["queries"][0] @ batch["candidates"][0]
        own += 2.0 if log_q else 0.0
        cost = np.log1p(np.exp(own)) - (0.0 if labels else own)
        np.testing.assert_allclose(value, cost, rtol=1e-6)
        assert np.all(np.isfinite(tape.gradient(value, queries)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_extreme_scores_stay_finite(dtype):
    queries = tf.cast([[100.0], [-100.0]], dtype)
    candidates = tf.cast([[100.0], [100.0]], dtype)
    with tf.GradientTape() as tape:
        tape.watch(queries)
        value = SampledSigmoid()(queries, candidates)
    np.testing.assert_allclose(value, 1e4 + 1e4, rtol=1e-2)
    gradient = tape.gradient(value, queries)
    np.testing.assert_allclose(tf.cast(gradient, "float32"), [[100], [-100]], rtol=1e-2)


def test_eager_equals_graph_equals_xla(batch):
    given = arguments(batch, log_q=True, masked=True, negatives=True, labels=True)
    loss = SampledSigmoid(0.3, negative_weight=3.0)

    def value(queries, candidates):
        return loss(queries, candidates, **given)

    embeddings = tf.constant(batch["queries"]), tf.constant(batch["candidates"])
    expected = value(*embeddings)
    for xla in (False, True):
        compiled = tf.function(value, jit_compile=xla)
        np.testing.assert_allclose(compiled(*embeddings), expected, rtol=1e-9)


@pytest.mark.parametrize("log_q, stationary", [(True, True), (False, False)])
def test_nce_is_stationary_at_log_p(log_q, stationary):
    """The expected loss over positives by p and noise by q, as a sum over both.

    Its gradient vanishes where scores are log p, whatever q is, and only with
    log q.
    """
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(6), 2)
    scores = tf.constant(np.log(p))
    loss = SampledSigmoid(negative_weight=30.0)
    one = tf.ones([1, 1], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        total = 0.0
        for i, k in itertools.product(range(6), repeat=2):
            pair = tf.gather(scores, [i, k])[:, tf.newaxis]
            given = np.log(q)[[i, k]] if log_q else None
            total += p[i] * q[k] * loss(one, pair, candidate_log_q=given)
    gradient = np.abs(tf.convert_to_tensor(tape.gradient(total, scores))).max()
    assert (gradient < 1e-12) == stationary
    assert stationary or gradient > 1e-2


def test_a_curriculum_changes_the_negative_weight(batch):
    weight = tf.Variable(2.5, trainable=False)
    changing = SampledSigmoid(negative_weight=weight)
    args = batch["queries"], batch["candidates"]
    for value in (2.5, 0.5):
        weight.assign(value)
        expected = SampledSigmoid(negative_weight=value)(*args)
        np.testing.assert_allclose(changing(*args), expected, rtol=1e-12)
    weight.assign(0.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="negative_weight"):
        changing(*args)


def test_rebuilt_from_its_config():
    loss = SampledSigmoid(0.5, "negatives", 3, "none", 7, 2.0)
    assert SampledSigmoid.from_config(loss.get_config()).get_config() == (
        loss.get_config()
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"negative_weight": 0.0}, "negative_weight.*positive"),
        ({"negative_weight": float("inf")}, "negative_weight.*finite"),
        ({"negative_weight": "3"}, "negative_weight.*number.*'3'"),
        ({"positive": "outside"}, "positive.*'outside'"),
        ({"positive": "refined"}, "positive.*'refined'"),
        ({"temperature": -1.0}, "temperature.*positive"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SampledSigmoid(**options)


def test_bad_labels(batch):
    embeddings = batch["queries"], batch["candidates"]
    with pytest.raises(ValueError, match="labels.*size 5"):
        SampledSigmoid()(*embeddings, labels=[1.0, 0.0])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"labels.*\[0, 1\]"):
        SampledSigmoid()(*embeddings, labels=[1.0, 0.0, 2.0, 0.0, 0.0])
