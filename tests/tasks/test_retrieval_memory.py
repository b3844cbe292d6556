"""The queue of earlier candidates as columns of the task."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from oracles import row_losses

from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.layers import (
    CrossBatchMemory,
    MixedLogQ,
    ScaledLogQ,
    StaticFrequency,
    StreamingFrequency,
)
from tfrs_negatives.losses import SampledSigmoid
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval

B, C, D = 4, 6, 3
RULES = ["accidental", "user", "two keys", "columns", "known", "shared", "score_mask"]


def make_batch(seed, id_type="int64"):
    rng = np.random.default_rng(seed)

    def typed(values):
        if id_type == "string":
            return tf.constant(np.asarray(values).astype(str))
        return tf.constant(values, id_type)

    score_mask = rng.random((B, C)) < 0.8
    score_mask[np.arange(B), np.arange(B)] = True
    return {
        "queries": tf.constant(rng.normal(size=(B, D)), tf.float32),
        "candidates": tf.constant(rng.normal(size=(C, D)), tf.float32),
        "ids": typed(rng.integers(0, 8, C)),
        "users": typed(rng.integers(0, 3, B)),
        "requests": typed(rng.integers(0, 3, B)),
        "column_users": typed(rng.integers(0, 3, C)),
        "known": typed(rng.integers(0, 8, (B, 2))),
        "log_q": tf.constant(np.log(rng.uniform(0.05, 0.5, C)), tf.float32),
        "score_mask": tf.constant(score_mask),
    }


def arguments(batch, combination):
    given = {"candidate_ids": batch["ids"], "candidate_log_q": batch["log_q"]}
    if {"user", "columns", "shared", "two keys"} & set(combination):
        given["query_keys"] = {"user": batch["users"]}
    if "two keys" in combination:
        given["query_keys"]["a request"] = batch["requests"]
    if "columns" in combination:
        given["candidate_keys"] = {"user": batch["column_users"]}
    if "known" in combination:
        given["known_positive_ids"] = batch["known"]
    if "score_mask" in combination:
        given["score_mask"] = batch["score_mask"]
    return given


def with_explicit_columns(batch, earlier, combination):
    """Arguments without a memory: what it would add is appended by hand."""
    given = arguments(batch, combination)

    def longer(values, others):
        return tf.concat([values, others], axis=0)

    given["candidate_ids"] = longer(batch["ids"], earlier["ids"][:B])
    given["candidate_log_q"] = longer(batch["log_q"], earlier["log_q"][:B])
    if "query_keys" in given:
        # Columns between the batch's own and the queue's have a key of no row.
        none = tf.fill([C - B], "none" if batch["users"].dtype == tf.string else 99)
        none = tf.cast(none, batch["users"].dtype)
        keys = {}
        for name, value in (("user", "users"), ("a request", "requests")):
            if name in given["query_keys"]:
                own = longer(batch[value], none)
                of_earlier = earlier[value]
                if name == "user" and "columns" in combination:
                    own, of_earlier = batch["column_users"], earlier["column_users"][:B]
                keys[name] = longer(own, of_earlier)
        given["candidate_keys"] = keys
    if "score_mask" in combination:
        true = tf.ones([B, B], tf.bool)
        given["score_mask"] = tf.concat([batch["score_mask"], true], axis=1)
    candidates = longer(batch["candidates"], earlier["candidates"][:B])
    return {
        "query_embeddings": batch["queries"],
        "candidate_embeddings": candidates,
    } | (given)


def value_and_gradients(task, queries, candidates, **given):
    with tf.GradientTape() as tape:
        tape.watch([queries, candidates])
        loss = task(queries, candidates, **given)
    return [loss, *tape.gradient(loss, [queries, candidates])]


@pytest.mark.parametrize(
    "combination, id_type",
    grid(
        [
            (),
            *itertools.combinations(RULES, 1),
            *itertools.combinations(RULES, 2),
            tuple(RULES),
        ],
        ["int64", "string"],
    ),
)
def test_queue_columns_are_columns(combination, id_type):
    """Masked, corrected and scored as if the caller had appended them."""
    earlier, batch = make_batch(0, id_type), make_batch(1, id_type)
    num_keys = len(arguments(batch, combination).get("query_keys", {}))
    options = {
        "remove_accidental_hits": "accidental" in combination,
        "mask_shared_positives": "shared" in combination,
    }
    memory = CrossBatchMemory(2 * B, D, num_keys=num_keys)
    task = Retrieval(memory=memory, **options)
    for one in (earlier, batch):
        found = value_and_gradients(
            task,
            one["queries"],
            one["candidates"],
            **arguments(one, combination),
            training=True,
        )
    given = with_explicit_columns(batch, earlier, combination)
    queries = given.pop("query_embeddings")
    candidates = given.pop("candidate_embeddings")
    expected = value_and_gradients(Retrieval(**options), queries, candidates, **given)
    expected[2] = expected[2][:C]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_masked_queue_columns_are_deleted():
    """With the same user throughout nothing of the queue is left."""
    batch = make_batch(1)
    keys = tf.constant([1, 2, 3, 4])
    earlier = tf.constant([1, 1, 1, 1])
    memory = CrossBatchMemory(2 * B, D, num_keys=1)
    task, plain = Retrieval(memory=memory), Retrieval()
    task(batch["queries"], batch["candidates"], query_keys=earlier, training=True)
    found = [
        task(
            batch["queries"][i : i + 1],
            batch["candidates"][i:],
            query_keys=keys[i : i + 1],
            training=False,
        )
        for i in range(2)
    ]
    deleted = plain(batch["queries"][:1], batch["candidates"])
    np.testing.assert_allclose(found[0], deleted, rtol=1e-6)
    kept = plain(
        batch["queries"][1:2],
        tf.concat([batch["candidates"][1:], batch["candidates"][:B]], axis=0),
    )
    np.testing.assert_allclose(found[1], kept, rtol=1e-6)


def test_a_queue_of_exactly_the_batch_is_the_plain_loss():
    task, plain = Retrieval(memory=CrossBatchMemory(B, D)), Retrieval()
    for seed in range(3):
        batch = make_batch(seed)
        embeddings = batch["queries"], batch["candidates"]
        found = value_and_gradients(task, *embeddings, training=True)
        expected = value_and_gradients(plain, *embeddings)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        lambda: SampledSigmoid(),
        lambda: keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum"),
    ],
)
def test_other_losses(loss):
    earlier, batch = make_batch(0), make_batch(1)
    task = Retrieval(loss(), memory=CrossBatchMemory(2 * B, D))
    for one in (earlier, batch):
        found = task(one["queries"], one["candidates"], training=True)
    columns = tf.concat([batch["candidates"], earlier["candidates"][:B]], axis=0)
    expected = Retrieval(loss())(batch["queries"], columns)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes(dtype):
    earlier, batch = make_batch(0), make_batch(1)
    task = Retrieval(memory=CrossBatchMemory(2 * B, D))
    for one in (earlier, batch):
        found = task(
            tf.cast(one["queries"], dtype), tf.cast(one["candidates"], dtype),
            training=True,
        )  # fmt: skip
    columns = tf.concat([batch["candidates"], earlier["candidates"][:B]], axis=0)
    expected = Retrieval()(tf.cast(batch["queries"], dtype), tf.cast(columns, dtype))
    assert found.dtype == ("float64" if dtype == "float64" else "float32")
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_evaluation_reads_and_does_not_write():
    memory = CrossBatchMemory(2 * B, D)
    task = Retrieval(memory=memory)
    batch = make_batch(0)
    task(batch["queries"], batch["candidates"], training=True)
    before = [v.numpy() for v in memory.variables]
    first = task(batch["queries"], batch["candidates"], training=False)
    second = task(batch["queries"], batch["candidates"], training=False)
    np.testing.assert_array_equal(first, second)
    for variable, value in zip(memory.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def is_untouched(layer):
    """Whether all state is 0, as it starts, but for the share of a queue."""
    state = [v for v in layer.variables if "share" not in v.name]
    return not any(np.any(v.numpy()) for v in state)


@pytest.mark.parametrize(
    "given, message",
    [
        ({}, "memory.*training=True.*None"),
        ({"training": True, "query_keys": [1, 2, 3, 4]}, "num_keys=1"),
        ({"training": True, "candidate_ids": [1, 2]}, "candidate_ids"),
        ({"training": True, "labels": [1.0] * B}, "no labels"),
    ],
)
def test_bad_input_changes_nothing(given, message):
    memory, frequency = CrossBatchMemory(2 * B, D), StreamingFrequency(8, dense=True)
    task = Retrieval(memory=memory, sampling_correction=frequency)
    batch = make_batch(0)
    given = {"candidate_ids": batch["ids"], **given}
    with pytest.raises(ValueError, match=message):
        task(batch["queries"], batch["candidates"], **given)
    small = Retrieval(memory=CrossBatchMemory(B - 1, D), sampling_correction=frequency)
    with pytest.raises(ValueError, match="must be at least a batch"):
        small(
            batch["queries"],
            batch["candidates"],
            candidate_ids=batch["ids"],
            training=True,
        )
    assert is_untouched(memory) and is_untouched(frequency)


def test_a_batch_too_large_for_the_memory_changes_nothing_in_a_graph():
    memory, frequency = CrossBatchMemory(B - 1, D), StreamingFrequency(8, dense=True)
    task = Retrieval(memory=memory, sampling_correction=frequency)
    rows = tf.TensorSpec([None, D], tf.float32)

    @tf.function(input_signature=[rows, rows, tf.TensorSpec([None], tf.int64)])
    def step(queries, candidates, ids):
        return task(queries, candidates, candidate_ids=ids, training=True)

    batch = make_batch(0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least a batch"):
        step(batch["queries"], batch["candidates"], tf.cast(batch["ids"], tf.int64))
    assert is_untouched(memory) and is_untouched(frequency)


@pytest.mark.parametrize(
    "options, given, message",
    [
        ({}, {"candidate_log_q": [-1.0] * (C - 1) + [-np.inf]}, "must be finite"),
        ({}, {"candidate_log_q": [-1.0] * (C - 1)}, "size 6 along axis 0"),
        ({}, {"candidate_log_q": [-1.0] * (C + 1)}, "size 6 along axis 0"),
        ({"positive": "refined"}, {}, "expected `candidate_log_q`"),
        ({"temperature": tf.Variable(-1.0)}, {}, "must stay positive"),
        (
            {"positive": "outside", "negative_weight": tf.Variable(0.0)},
            {},
            "negative_weight.*must stay positive and finite",
        ),
    ],
)
@pytest.mark.parametrize("traced", [False, True])
def test_what_the_loss_refuses_is_not_remembered(options, given, message, traced):
    memory = CrossBatchMemory(2 * B, D)
    task = Retrieval(memory=memory, **options)
    batch = make_batch(0)

    def step():
        return task(batch["queries"], batch["candidates"], training=True, **given)

    if traced:
        step = tf.function(step)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=message):
        step()
    assert is_untouched(memory)


class TwoTowers(Model):
    def __init__(self):
        super().__init__()
        self.users = keras.layers.Embedding(20, D)
        self.items = keras.layers.Embedding(20, D)
        self.task = Retrieval(
            remove_accidental_hits=True,
            sampling_correction=StreamingFrequency(20, dense=True),
            memory=CrossBatchMemory(
                24, D, num_keys=1, warm_up_steps=2, report_staleness=True
            ),
        )
        self.traces = 0

    def compute_loss(self, features, training=False):
        self.traces += 1
        return self.task(
            self.users(features["user"]),
            self.items(features["item"]),
            candidate_ids=features["item"],
            query_keys=features["user"],
            training=training,
        )


@pytest.mark.parametrize("strength", [None, 0.5])
def test_the_queue_keeps_log_q_of_the_batch_not_of_the_mixture(strength):
    """Samplers did not draw them: over entries exp(s) / q adds up to all items' sum."""
    counts = np.array([50, 20, 10, 4, 1, 1])
    log_share = np.log(counts / counts.sum())
    correction = MixedLogQ([StaticFrequency(counts), -np.log(len(counts))])
    if strength:
        correction = ScaledLogQ(correction, strength)
    memory = CrossBatchMemory(9, D)
    task = Retrieval(memory=memory, sampling_correction=correction)
    embeddings = tf.random.stateless_normal([9, D], [0, 0])
    ids = tf.constant([0, 1, 2, 3, 4, 5, 2, 2, 5])  # Then three uniform ones.
    task(embeddings[:6], embeddings, candidate_ids=ids, training=True)
    kept = memory.read(0)
    expected = (strength or 1) * log_share
    np.testing.assert_allclose(
        kept.log_q.numpy(), expected[kept.ids.numpy()], rtol=1e-6
    )


def test_fit_checkpoint_and_one_trace(tmp_path):
    """Partial batches, several epochs: the train step is traced once."""
    rng = np.random.default_rng(0)
    rows = {name: rng.integers(0, 20, 60) for name in ("user", "item")}
    data = tf.data.Dataset.from_tensor_slices(rows).batch(8)
    models = [TwoTowers(), TwoTowers()]
    for model in models:
        model.compile(keras.optimizers.SGD(0.1))
    keras.utils.set_random_seed(1)
    history = models[0].fit(data, epochs=2, verbose=0).history
    traces = models[0].traces
    models[0].fit(data, epochs=1, verbose=0)
    assert models[0].traces == traces
    assert np.all(np.isfinite(history["loss"]))
    assert any("staleness" in name for name in history)

    path = tf.train.Checkpoint(model=models[0]).save(tmp_path / "model")
    models[1].compute_loss(next(iter(data)), training=True)  # Makes all variables.
    tf.train.Checkpoint(model=models[1]).restore(path).assert_existing_objects_matched()
    state = [v.numpy() for v in models[1].task._memory.variables]
    for one, other in zip(models[0].task._memory.variables, state, strict=True):
        np.testing.assert_array_equal(one, other)
    assert max(np.abs(value).max() for value in state) > 0


@pytest.mark.parametrize(
    "first_id, rule, in_graph",
    grid([-1, 0, 5], ["accidental", "known", "repeats"], [False, True], rounds=2),
)
def test_entries_without_ids_are_no_item(first_id, rule, in_graph):
    """Rules on ids keep them, also where ids are what an empty place holds."""
    memory = CrossBatchMemory(20, D)
    rng = np.random.default_rng(0)
    old, candidates = rng.normal(size=(2, 4, D)).astype("float32")
    memory.write(tf.constant(old))
    ids = tf.constant([0, 1, 2, 3]) + first_id
    given = {"candidate_ids": ids}
    if rule == "known":
        given["known_positive_ids"] = tf.reshape(ids, [4, 1])
    if rule == "repeats":
        given |= {"query_rows": tf.range(4), "candidate_rows": tf.range(4)}
    task = Retrieval(remove_accidental_hits=rule != "known", memory=memory)

    def loss(queries, given):
        return task(queries, candidates, training=False, **given)

    if in_graph:
        loss = tf.function(loss)
    queries = rng.normal(size=(4, D)).astype("float32")
    found = loss(tf.constant(queries), given)
    expected = row_losses(queries, np.concatenate([candidates, old])).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_one_step_that_overflows_does_not_spoil_the_next():
    """The loss of the batch after it is what it would be without that step."""
    losses = []
    rng = np.random.default_rng(0)
    batches = rng.normal(size=(3, 4, D)).astype("float32")
    for poisoned in (False, True):
        memory = CrossBatchMemory(20, D)
        task = Retrieval(memory=memory)
        task(batches[0], batches[0], training=True)
        if poisoned:
            overflowed = batches[1] * np.inf
            assert not np.isfinite(task(overflowed, overflowed, training=True))
        losses.append(float(task(batches[2], batches[2], training=True)))
        assert memory.num_not_finite.numpy() == (4 if poisoned else 0)
    assert losses[0] == losses[1]


@pytest.mark.skipif(IS_KERAS_3, reason="Keras 3 takes Python's booleans alone")
def test_training_may_be_a_tensor():
    """One graph trains and evaluates: the value decides what is kept."""
    memory = CrossBatchMemory(2 * B, D)
    task, batch = Retrieval(memory=memory), make_batch(0, "int64")

    @tf.function
    def step(training):
        return task(batch["queries"], batch["candidates"], training=training)

    for training, kept in ((False, 0), (True, B), (False, B)):
        step(tf.constant(training))
        assert len(memory.read(0).ids) == kept
