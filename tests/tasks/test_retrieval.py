import numpy as np
import pytest
import tensorflow as tf
from oracles import dropped_pairs, row_losses

from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.layers import StaticFrequency, StreamingFrequency
from tfrs_negatives.losses import SampledSigmoid
from tfrs_negatives.tasks import Retrieval

B, C, D = 4, 6, 3


@pytest.fixture
def towers():
    rng = np.random.default_rng(0)
    return rng.normal(size=(B, D)), rng.normal(size=(C, D))


class RecordingMetric:
    """A corpus metric that keeps what it was given."""

    def update_state(self, queries, candidates, true_candidate_ids, sample_weight):
        self.queries, self.candidates = queries, candidates
        self.ids, self.weight = true_candidate_ids, sample_weight


def test_rare_items_are_not_clipped(towers):
    """TFRS gives every q below 1e-6 the same correction."""
    q = np.array([0.5, 1e-9, 1e-7, 0.1, 1e-12, 1.0])
    expected = row_losses(*towers, log_q=np.log(q)).sum()
    loss = Retrieval()(*towers, candidate_sampling_probability=q)
    np.testing.assert_allclose(loss, expected, rtol=1e-10)
    np.testing.assert_allclose(
        Retrieval()(*towers, candidate_log_q=np.log(q)), expected, rtol=1e-10
    )


@pytest.mark.parametrize("positive", ["all", "negatives", "refined", "outside"])
def test_positive_treatments(towers, positive):
    log_q = np.log([0.5, 0.1, 0.2, 0.1, 0.05, 0.3])
    expected = row_losses(*towers, log_q=log_q, positive=positive).sum()
    loss = Retrieval(positive=positive)(*towers, candidate_log_q=log_q)
    np.testing.assert_allclose(loss, expected, rtol=1e-10)


def test_sampling_correction_gives_log_q(towers):
    counts = {"a": 3, "b": 1, "c": 4}
    ids = ["a", "b", "c", "a", "b", "b"]
    log_q = np.log([counts[i] / 8 for i in ids])
    task = Retrieval(sampling_correction=StaticFrequency(counts))
    loss = task(*towers, candidate_ids=tf.constant(ids), training=True)
    np.testing.assert_allclose(loss, row_losses(*towers, log_q=log_q).sum(), rtol=1e-6)


def test_sampling_correction_learns_from_positives_in_training_alone(towers):
    frequency = StreamingFrequency(num_buckets=1000)
    task = Retrieval(sampling_correction=frequency)
    ids = tf.constant([1, 1, 2, 2, 8, 9])
    before = [v.numpy() for v in frequency.variables]
    task(*towers, candidate_ids=ids, training=False)
    for variable, value in zip(frequency.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    task(*towers, candidate_ids=ids, training=True)
    np.testing.assert_allclose(
        tf.exp(frequency(tf.constant([1, 2, 8, 9]))),
        # Half of the 4 examples each; 8 and 9 were samples, never seen.
        [0.5, 0.5, 0.2, 0.2],
        rtol=1e-6,
    )


def test_corpus_metrics_see_positives_and_their_ids(towers):
    metric = RecordingMetric()
    task = Retrieval(metrics=metric)
    ids = tf.constant(["a", "b", "c", "d", "e", "f"])
    weights = np.ones(B)
    task(*towers, sample_weight=weights, candidate_ids=ids)
    np.testing.assert_array_equal(metric.candidates, towers[1][:B])
    np.testing.assert_array_equal(metric.ids, ids[:B])
    assert metric.weight is not None

    Retrieval(metrics=metric, eval_by_scores=True)(*towers, candidate_ids=ids)
    assert metric.ids is None
    task(*towers, eval_candidate_ids=tf.constant([1, 2, 3, 4]))
    np.testing.assert_array_equal(metric.ids, [1, 2, 3, 4])


def test_corpus_metrics_wait_to_be_asked(towers):
    metric = RecordingMetric()
    task = Retrieval(metrics=[metric])
    task(*towers, compute_metrics=False)
    heads = np.stack([towers[0], towers[0]], axis=1)
    task(heads, towers[1])
    assert not hasattr(metric, "queries")


def test_factorized_metrics_setter_takes_one_or_many():
    task, metric = Retrieval(), RecordingMetric()
    assert list(task.factorized_metrics) == []
    task.factorized_metrics = metric
    assert list(task.factorized_metrics) == [metric]
    task.factorized_metrics = (metric, metric)
    assert list(task.factorized_metrics) == [metric, metric]
    task.factorized_metrics = None
    assert list(task.factorized_metrics) == []


def softened_loss(i, logits, own, smoothing):
    """Label-smoothed cross-entropy over the kept columns of one row."""
    log_p = logits - np.logaddexp.reduce(logits)
    labels = np.full(len(logits), smoothing / len(logits))
    labels[own] += 1 - smoothing
    return -labels @ log_p


@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "none"])
def test_custom_loss_sees_deleted_columns(towers, reduction):
    """Label smoothing over masked scores, 1e34 in TFRS (recommenders #489)."""
    keys = np.array([0, 1, 0, 1])
    weights = np.array([1.0, 2.0, 0.5, 0.0])
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.2, reduction=reduction
    )
    queries, candidates = (tf.constant(t, tf.float32) for t in towers)
    with tf.GradientTape() as tape:
        tape.watch(candidates)
        value = Retrieval(loss=loss)(
            queries, candidates, query_keys=keys, sample_weight=weights
        )
    scores = queries.numpy().astype(np.float64) @ candidates.numpy().T
    dropped = dropped_pairs(
        B, C, row_keys=[list(keys)], column_keys=[list(keys) + [None, None]]
    )
    expected = []
    for i in range(B):
        kept = [k for k in range(C) if not dropped[i, k]]
        expected.append(softened_loss(i, scores[i, kept], kept.index(i), 0.2))
    expected = weights * expected
    if reduction == "sum":
        expected = expected.sum()
    elif reduction == "sum_over_batch_size":
        expected = expected.sum() / B
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.all(np.isfinite(tape.gradient(value, candidates)))


def test_batch_metrics_see_deleted_columns():
    """Rank among the columns that the loss sees."""
    queries = tf.constant([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    candidates = tf.constant([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    metric = keras.metrics.CategoricalAccuracy()
    task = Retrieval(batch_metrics=[metric])
    task(queries, candidates)
    np.testing.assert_allclose(metric.result(), 2 / 3)
    metric.reset_state()
    # Row 0 loses to column 2, which belongs to the same user.
    task(queries, candidates, query_keys=tf.constant(["u", "v", "u"]))
    np.testing.assert_allclose(metric.result(), 1.0)
    metric.reset_state()
    weight = tf.constant([1.0, 1.0, 0.0])
    task(queries, candidates, query_keys=tf.constant([1, 2, 3]), sample_weight=weight)
    np.testing.assert_allclose(metric.result(), 0.5)


def test_batch_metrics_with_masks_inside_a_graph():
    metric = keras.metrics.CategoricalAccuracy()
    task = Retrieval(batch_metrics=[metric])

    @tf.function
    def step(queries, candidates, keys):
        return task(queries, candidates, query_keys=keys)

    queries = tf.constant([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    candidates = tf.constant([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    step(queries, candidates, tf.constant([4, 5, 4]))
    np.testing.assert_allclose(metric.result(), 1.0)


def test_label_smoothing_and_mining_agree_with_the_default_loss(towers):
    plain = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    options = {"num_hard_negatives": 2, "temperature": 0.5}
    arguments = {"query_keys": np.array([0, 1, 0, 1])}
    queries, candidates = (t.astype(np.float32) for t in towers)
    np.testing.assert_allclose(
        Retrieval(loss=plain, **options)(queries, candidates, **arguments),
        Retrieval(**options)(queries, candidates, **arguments),
        rtol=1e-5,
    )


def test_trainable_temperature_is_a_weight_of_the_task(towers):
    if IS_KERAS_3:
        temperature = keras.Variable(0.5)
    else:
        temperature = tf.Variable(0.5)
    task = Retrieval(temperature=temperature)
    queries, candidates = (t.astype(np.float32) for t in towers)
    with tf.GradientTape() as tape:
        loss = task(queries, candidates)
    (weight,) = task.trainable_variables
    gradient = tape.gradient(loss, weight.value if IS_KERAS_3 else weight)
    step = 1e-4
    above, below = (
        row_losses(*towers, temperature=0.5 + d).sum() for d in (step, -step)
    )
    np.testing.assert_allclose(gradient, (above - below) / (2 * step), rtol=1e-3)


def test_negative_weight_is_state_without_a_gradient(towers, tmp_path):
    def make(rho):
        variable = tf.Variable(rho, dtype=tf.float64, trainable=False)
        return Retrieval(positive="outside", negative_weight=variable), variable

    (task, weight), (restored, _) = make(1.2), make(1.0)
    assert not task.trainable_variables
    expected = row_losses(*towers, positive="outside", negative_weight=1.2).sum()
    with tf.GradientTape() as tape:
        tape.watch(weight)
        loss = task(*towers)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    assert tape.gradient(loss, weight) is None
    path = tf.train.Checkpoint(task=task).save(str(tmp_path / "task"))
    tf.train.Checkpoint(task=restored).restore(path).assert_consumed()
    rebuilt = Retrieval.from_config(task.get_config())
    assert repr(rebuilt) == "Retrieval(positive='outside', negative_weight=1.2)"
    for other in (restored, rebuilt):
        np.testing.assert_array_equal(other(*towers), loss)


def test_rebuilt_from_its_config(towers):
    task = Retrieval(
        loss_metrics=[keras.metrics.Mean(name="batch_loss")],
        batch_metrics=keras.metrics.CategoricalAccuracy(name="accuracy"),
        temperature=0.4,
        num_hard_negatives=3,
        remove_accidental_hits=True,
        name="task",
        sampling_correction=StaticFrequency([3, 1, 2]),
        positive="negatives",
        reduction="sum_over_batch_size",
        row_block=2,
    )
    rebuilt = Retrieval.from_config(task.get_config())
    assert rebuilt.get_config() == task.get_config()
    arguments = {"candidate_ids": np.array([0, 1, 2, 2, 1, 0]), "training": False}
    np.testing.assert_array_equal(
        rebuilt(*towers, **arguments), task(*towers, **arguments)
    )
    custom = Retrieval(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    rebuilt = Retrieval.from_config(custom.get_config())
    np.testing.assert_array_equal(
        rebuilt(*(t.astype(np.float32) for t in towers)),
        custom(*(t.astype(np.float32) for t in towers)),
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": 0}, "temperature.*positive"),
        ({"temperature": float("nan")}, "temperature.*positive"),
        ({"temperature": "0.1"}, "temperature.*number or a scalar.*received '0.1'"),
        ({"temperature": [0.1]}, "temperature.*number or a scalar"),
        ({"temperature": tf.constant([0.1])}, "temperature.*number or a scalar"),
        ({"num_hard_negatives": "5"}, "num_hard_negatives.*received '5'"),
        ({"num_hard_negatives": tf.Variable(5.0)}, "num_hard_negatives.*int32"),
        ({"row_block": "8"}, "row_block.*received '8'"),
        ({"positive": "some"}, "positive.*received 'some'"),
        ({"reduction": "mean"}, "reduction.*received 'mean'"),
        ({"row_block": -1}, "row_block.*at least 1"),
        ({"loss": "mse", "reduction": "sum"}, "own reduction"),
        ({"loss": "mse", "row_block": 3}, "belong to the default loss"),
        ({"loss": "mse", "positive": "refined"}, "belong to the default loss"),
        ({"loss": "mse", "positive": "outside"}, "belong to the default loss"),
        ({"loss": "mse", "negative_weight": 2.0}, "belong to the default loss"),
        ({"negative_weight": 1.2}, 'negative_weight.*expected.*outside.*"all"'),
        ({"positive": "outside", "negative_weight": 0}, "positive and finite.*0"),
        (
            {"loss": SampledSigmoid(), "negative_weight": 2.0},
            "has its own options.*negative_weight",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Retrieval(**options)


IDS = np.arange(C)


@pytest.mark.parametrize(
    "options, arguments, message",
    [
        ({"remove_accidental_hits": True}, {}, "expected `candidate_ids`"),
        ({}, {"known_positive_ids": np.zeros((B, 2), int)}, "expected `candidate_ids`"),
        ({"mask_shared_positives": True}, {}, "expected `candidate_ids`"),
        (
            {"mask_shared_positives": True},
            {"candidate_ids": IDS},
            "expected `query_keys`",
        ),
        ({}, {"candidate_keys": IDS}, "expected `query_keys`"),
        (
            {},
            {
                "candidate_ids": IDS,
                "known_positive_ids": tf.sparse.from_dense(np.ones((B, 2), int)),
            },
            "known_positive_ids.*cannot be sparse.*from_sparse",
        ),
        ({}, {"candidate_ids": tf.ragged.constant([[1], [2]])}, "must be dense"),
        ({}, {"query_keys": IDS[:B], "query_key_mask": IDS[:B]}, "mask.*bool.*int64"),
        ({}, {"query_keys": IDS[:B], "query_key_mask": [True]}, "mask.*size 4"),
        (
            {},
            {"query_keys": IDS[:B], "query_key_mask": {"user": [True] * B}},
            "query_key_mask.*names",
        ),
        ({}, {"query_key_mask": [True] * B}, "query_key_mask.*names"),
        ({}, {"candidate_key_mask": [True] * C}, "candidate_key_mask.*names"),
        ({}, {"sample_weight": tf.sparse.from_dense(np.ones(B))}, "cannot be sparse"),
        ({}, {"candidate_ids": IDS[:B]}, "candidate_ids.*size 6.*received"),
        ({}, {"candidate_ids": IDS[:, np.newaxis]}, "candidate_ids.*rank 1"),
        ({}, {"query_keys": IDS}, "query_keys.*size 4"),
        ({}, {"query_keys": {"user": IDS}}, r"query_keys\['user'\].*size 4"),
        ({}, {"query_keys": np.zeros(B)}, "query_keys.*integers or strings.*float64"),
        (
            {},
            {"query_keys": IDS[:B], "candidate_keys": IDS.astype(str)},
            "can never be equal",
        ),
        (
            {},
            {"query_keys": {"user": IDS[:B]}, "candidate_keys": {"item": IDS}},
            r"candidate_keys.*\['item'\].*\['user'\]",
        ),
        (
            {},
            {"candidate_ids": IDS, "known_positive_ids": np.zeros((B, 2), str)},
            "can never be equal",
        ),
        (
            {},
            {"candidate_ids": IDS, "known_positive_ids": np.zeros((B + 1, 2), int)},
            "known_positive_ids.*size 4",
        ),
        (
            {"sampling_correction": StaticFrequency([1])},
            {"training": True},
            "expected `candidate_ids`",
        ),
        (
            {"sampling_correction": StaticFrequency([1])},
            {"candidate_ids": IDS},
            "expected.*training",
        ),
        (
            {"sampling_correction": StaticFrequency([1])},
            {"candidate_log_q": np.zeros(C)},
            "one source.*candidate_log_q.*sampling_correction",
        ),
    ],
)
def test_bad_calls(towers, options, arguments, message):
    with pytest.raises(ValueError, match=message):
        Retrieval(**options)(*towers, **arguments)


@pytest.mark.parametrize("q", [0.0, -0.1, 1.5, np.nan])
def test_probabilities_outside_the_unit_interval(towers, q):
    probability = np.array([0.5, 0.5, q, 0.5, 0.5, 0.5])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"in \(0, 1\]"):
        Retrieval()(*towers, candidate_sampling_probability=probability)


def test_probabilities_passed_as_their_logarithms(towers):
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be at most 0"):
        Retrieval()(*towers, candidate_log_q=np.full(C, 0.3))


def test_a_bad_call_leaves_the_state_alone(towers):
    frequency = StreamingFrequency(num_buckets=100)
    task = Retrieval(sampling_correction=frequency)
    with pytest.raises(ValueError, match="query_keys"):
        task(*towers, candidate_ids=IDS, query_keys=IDS, training=True)
    with pytest.raises(ValueError, match="along axis 1"):
        task(
            towers[0],
            towers[1][:, :2],
            candidate_ids=IDS,
            training=True,
        )
    assert all(not np.any(v.numpy()) for v in frequency.variables)


def test_strings_under_xla():
    queries = tf.ones([2, 3])
    users = tf.constant(["ann", "bob"])

    @tf.function(jit_compile=True)
    def step():
        return Retrieval()(queries, queries, query_keys=users)

    with pytest.raises(
        ValueError, match="query_keys.*strings.*input pipeline"
    ) as caught:
        step()
    assert_ends_with_the_reason(caught.value)


def assert_ends_with_the_reason(error):
    """Keras would list all arguments of the call behind it."""
    assert "rguments received" not in str(error)
    assert "sample_weight" not in str(error)


@pytest.mark.parametrize("in_graph", [False, True])
def test_an_error_ends_with_its_reason(towers, in_graph):
    def step():
        return Retrieval()(*towers, query_keys=IDS)

    with pytest.raises(ValueError, match="query_keys.*size 4") as caught:
        (tf.function(step) if in_graph else step)()
    assert_ends_with_the_reason(caught.value)
