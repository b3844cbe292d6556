"""N replicas compute what one does with all rows (contract 4)."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives._keras import keras
from tfrs_negatives.layers import (
    CrossBatchMemory,
    MixedLogQ,
    ScaledLogQ,
    StaticFrequency,
    StreamingFrequency,
)
from tfrs_negatives.losses import SampledSigmoid
from tfrs_negatives.tasks import Retrieval

USERS, ITEMS, D, M = 12, 15, 3, 2
STEPS = 5
# Rows of each step, and how they are split among replicas.
FULL = {1: [12], 2: [6, 6], 4: [3, 3, 3, 3]}
UNEVEN = {1: [7], 2: [5, 2], 4: [4, 2, 1, 0]}


def make_steps(seed=0):
    """Batches of rows and extras, the last one uneven."""
    rng = np.random.default_rng(seed)
    steps = []
    for step in range(STEPS):
        split = UNEVEN if step == STEPS - 1 else FULL
        n = split[1][0]
        rows = {
            "user": rng.integers(0, USERS, n),
            "item": rng.integers(0, ITEMS, n),
            "request": rng.integers(0, 5, n),
            "weight": rng.uniform(0.5, 2.0, n).astype("float32"),
            "label": rng.integers(0, 2, n).astype("float32"),
            "known": rng.integers(-1, ITEMS, (n, 3)),
            "hard": rng.integers(-1, ITEMS, (n, M)),
        }
        steps.append((split, rows, rng.integers(0, ITEMS, 4)))
    return steps


class Step:
    """Two embedding tables and a task, trained by plain gradient descent.

    `trained` is a list of further variables, which `make_task` may fill.
    """

    def __init__(self, make_task, extras=False, call=None, repeats=False, trained=()):
        rng = np.random.default_rng(7)
        self.tables = [
            trainable(rng.normal(size=[n, D]).astype("float32")) for n in (USERS, ITEMS)
        ]
        self.task = make_task()
        self.trained = [*self.tables, *trained]
        self._extras, self._call = extras, call or (lambda rows: {})
        self._repeats = repeats

    def __call__(self, rows, extra):
        """One step; returns loss and gradients of the whole batch."""
        items = tf.concat([rows["item"], extra], 0) if self._extras else rows["item"]
        given = {"candidate_ids": items, **self._call(rows)}
        users, catalogue = self.tables
        with tf.GradientTape() as tape:
            if "negative_ids" in given:
                hard = tf.maximum(given["negative_ids"], 0)
                given["negative_embeddings"] = tf.gather(catalogue, hard)
            ids = [rows["user"], items]
            if self._repeats:
                ids, maps = zip(*map(tf.unique, ids), strict=True)
                given |= {"query_rows": maps[0], "candidate_rows": maps[1]}
            loss = self.task(
                tf.gather(users, ids[0]),
                tf.gather(catalogue, ids[1]),
                training=True,
                **given,
            )
            # With reduction "none" the caller adds up.
            loss = tf.reduce_sum(loss)
        gradients = tape.gradient(loss, self.trained)
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        if distribute.num_replicas() > 1:
            reduce = tf.distribute.get_replica_context().all_reduce
            loss, *gradients = reduce(tf.distribute.ReduceOp.SUM, [loss, *gradients])
        for variable, gradient in zip(self.trained, gradients, strict=True):
            variable.assign_sub(0.1 * gradient)
        return loss, *gradients

    def state(self):
        """What was learned, and all state, as arrays."""
        return [np.asarray(v.numpy()) for v in [*self.trained, *self.task.variables]]


def trainable(value):
    """A variable to which each replica writes the same."""
    first = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(value, aggregation=first)


def train_alone(**options):
    """The same without a strategy, and without a graph."""
    step = Step(**options)
    return run_alone(step, make_steps()), step.state()


def run_alone(step, batches):
    """Loss and gradients of each batch."""
    history = []
    for _, rows, extra in batches:
        rows = {name: tf.constant(values) for name, values in rows.items()}
        outputs = step(rows, tf.constant(extra))
        history.append([output.numpy() for output in outputs])
    return history


def train(strategy, num_replicas, **options):
    """Losses and gradients of all steps, then all state."""
    with strategy.scope():
        step = Step(**options)
    history = run(strategy, num_replicas, step, make_steps())
    for variable in [*step.trained, *step.task.variables]:
        same_everywhere(strategy, variable)
    return history, step.state()


def run(strategy, num_replicas, step, batches):
    """Loss and gradients of each batch, which is split among replicas."""
    traced = tf.function(lambda *batch: strategy.run(step, args=batch))
    history = []
    for split, rows, extra in batches:
        ends = np.cumsum(split[num_replicas])
        extras = np.split(extra, num_replicas)

        def part(context, rows=rows, ends=ends, extras=extras):
            place = context.replica_id_in_sync_group
            here = slice(ends[place - 1] if place else 0, ends[place])
            return {k: tf.constant(v[here]) for k, v in rows.items()}, tf.constant(
                extras[place]
            )

        batch = strategy.experimental_distribute_values_from_function(part)
        outputs = traced(*batch)
        local = [strategy.experimental_local_results(o)[0] for o in outputs]
        history.append([output.numpy() for output in local])
    return history


def same_everywhere(strategy, variable):
    # A variable of Keras 3 holds one of TensorFlow.
    variable = getattr(variable, "_value", variable)
    first, *others = strategy.experimental_local_results(variable)
    for other in others:
        np.testing.assert_array_equal(first, other)


def check(strategy, num_replicas, **options):
    expected, expected_state = train_alone(**options)
    found, state = train(strategy, num_replicas, **options)
    compare(found + [state], expected + [expected_state])


def compare(found, expected):
    for step, (one, other) in enumerate(zip(found, expected, strict=True)):
        for value, target in zip(one, other, strict=True):
            np.testing.assert_allclose(
                value, target, rtol=1e-5, atol=1e-5, err_msg=f"step {step}"
            )


RULES = {
    "user": lambda rows: {"query_keys": rows["user"]},
    "two keys": lambda rows: {
        "query_keys": {"user": rows["user"], "request": rows["request"]}
    },
    "shared": lambda rows: {
        "query_keys": rows["user"],
        "mask_shared_positives": True,
    },
    "keys with a mask": lambda rows: {
        "query_keys": {"user": rows["user"], "request": rows["request"] - 2},
        "query_key_mask": {"user": tf.not_equal(rows["user"] % 3, 0)},
        "mask_shared_positives": True,
        "negative_ids": rows["hard"],
        "negative_mask": rows["hard"] >= 0,
    },
    "known": lambda rows: {"known_positive_ids": rows["known"]},
    "weights": lambda rows: {"sample_weight": rows["weight"]},
    "hard": lambda rows: {"negative_ids": rows["hard"]},
}


def all_rules(rows):
    return {
        "query_keys": {"user": rows["user"], "request": rows["request"]},
        "mask_shared_positives": True,
        "query_key_mask": {"request": tf.not_equal(rows["request"], 1)},
        "known_positive_ids": rows["known"],
        "sample_weight": rows["weight"],
        "negative_ids": rows["hard"],
        "negative_mask": rows["hard"] >= 0,
    }


@pytest.mark.parametrize("rule", RULES)
def test_rules(two_replicas, rule):
    check(
        two_replicas,
        2,
        make_task=lambda: Retrieval(remove_accidental_hits=True, global_negatives=True),
        call=RULES[rule],
        extras=rule != "weights",
    )


def everything(**options):
    """A task with all that has state or looks at other replicas."""
    sources = [StreamingFrequency(64, num_hashes=2), -np.log(ITEMS)]
    return Retrieval(
        temperature=0.5,
        remove_accidental_hits=True,
        sampling_correction=ScaledLogQ(
            MixedLogQ(sources),
            keras.optimizers.schedules.PolynomialDecay(0.2, 4.0, 1.0),
        ),
        memory=CrossBatchMemory(30, D, num_keys=2, warm_up_steps=1),
        reduction="mean_with_sample_weight",
        global_negatives=True,
        **options,
    )


def test_everything_on_two(two_replicas):
    check(two_replicas, 2, make_task=everything, call=all_rules, extras=True)


@pytest.mark.slow
def test_everything_on_four(four_replicas):
    check(four_replicas, 4, make_task=everything, call=all_rules, extras=True)


def all_rules_on_columns(rows):
    given = all_rules(rows)
    # A row's own negatives are scored row by row.
    del given["negative_ids"], given["negative_mask"]
    return given


@pytest.mark.slow
def test_distinct_embeddings(two_replicas):
    """Each replica gives what is distinct among its rows."""
    options = {"make_task": everything, "call": all_rules_on_columns, "extras": True}
    expected = train_alone(**options)
    found = train(two_replicas, 2, repeats=True, **options)
    compare(found[0] + [found[1]], expected[0] + [expected[1]])


CORRECTIONS = {
    "count": (lambda: StreamingFrequency(64, num_hashes=2), "refined"),
    "hit": (lambda: StreamingFrequency(ITEMS, mode="hit", dense=True), "all"),
    "published start": (lambda: StreamingFrequency(64, initial_gap=99.0), "negatives"),
}


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_log_q(two_replicas, correction):
    make, positive = CORRECTIONS[correction]
    check(
        two_replicas,
        2,
        make_task=lambda: Retrieval(
            positive=positive, sampling_correction=make(), global_negatives=True
        ),
    )


def test_sizes_of_a_mixture_are_of_one_replica(two_replicas):
    def make(size):
        return lambda: Retrieval(
            sampling_correction=MixedLogQ(
                [StreamingFrequency(ITEMS, dense=True), -np.log(ITEMS)], [size]
            ),
            global_negatives=True,
        )

    expected = train_alone(make_task=make(4), extras=True)
    found = train(two_replicas, 2, make_task=make(2), extras=True)
    compare(found[0] + [found[1]], expected[0] + [expected[1]])


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "none"])
def test_reductions(two_replicas, reduction):
    check(
        two_replicas,
        2,
        make_task=lambda: Retrieval(reduction=reduction, global_negatives=True),
        call=RULES["weights"],
    )


LOSSES = {
    "hardest": lambda: {"num_hard_negatives": 3},
    "sigmoid": lambda: {"loss": SampledSigmoid(0.7, negative_weight=3.0)},
    "Keras": lambda: {
        "loss": keras.losses.CategoricalCrossentropy(
            from_logits=True, reduction="sum_over_batch_size"
        )
    },
}


@pytest.mark.parametrize("loss", LOSSES)
def test_other_losses(two_replicas, loss):
    check(
        two_replicas,
        2,
        make_task=lambda: Retrieval(
            **LOSSES[loss](), remove_accidental_hits=True, global_negatives=True
        ),
        call=RULES["user"],
    )


def test_local_negatives_differ(two_replicas):
    """What global negatives are for: without them two replicas are not one.

    The estimator and the queue are of the global batch all the same.
    """

    def make():
        return Retrieval(
            sampling_correction=StreamingFrequency(ITEMS, dense=True),
            memory=CrossBatchMemory(30, D, num_keys=1, warm_up_steps=9),
        )

    expected, expected_state = train_alone(make_task=make, call=RULES["user"])
    found, state = train(two_replicas, 2, make_task=make, call=RULES["user"])
    assert found[0][0] < 0.9 * expected[0][0]
    followed = [
        np.allclose(one, other)
        for one, other in zip(state[2:], expected_state[2:], strict=True)
    ]
    # All but the queue's embeddings, which follow the loss.
    assert len(followed) - sum(followed) == 1


@pytest.mark.parametrize("layer", ["frequency", "memory", "schedule"])
def test_state_made_outside_of_the_scope_is_refused(two_replicas, layer):
    """Each replica would count its own writes to the same variables."""
    options = {
        "frequency": {"sampling_correction": StreamingFrequency(9)},
        "memory": {"memory": CrossBatchMemory(9, D)},
        "schedule": {
            "sampling_correction": ScaledLogQ(
                StaticFrequency([1, 2]),
                keras.optimizers.schedules.PolynomialDecay(0.2, 4.0, 1.0),
            )
        },
    }[layer]
    task = Retrieval(**options)

    def step():
        return task(
            tf.ones([2, D]), tf.ones([2, D]), candidate_ids=[0, 1], training=True
        )

    with pytest.raises(ValueError, match="outside of the strategy's scope"):
        two_replicas.run(step)


def test_bfloat16_is_near(two_replicas):
    """Three digits of embeddings, and the loss within a percent."""
    found, expected = (
        train(
            two_replicas,
            2,
            make_task=lambda dtype=dtype: Retrieval(
                global_negatives=True, gather_dtype=dtype
            ),
        )[0]
        for dtype in ("bfloat16", None)
    )
    assert found[0][0] != expected[0][0]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-2)


def test_score_mask_is_of_one_replica(two_replicas):
    task = Retrieval(global_negatives=True)

    def step():
        return task(tf.ones([2, D]), tf.ones([2, D]), score_mask=tf.ones([2, 2], bool))

    with pytest.raises(ValueError, match="score_mask.*this replica's"):
        two_replicas.run(step)
    step()  # Alone it is the only one.


def test_one_replica_is_the_plain_task():
    embeddings = np.random.default_rng(0).normal(size=(2, 4, D))
    np.testing.assert_array_equal(
        Retrieval(global_negatives=True)(*embeddings), Retrieval()(*embeddings)
    )


def test_rebuilt_from_its_config():
    task = Retrieval(global_negatives=True, gather_dtype="bfloat16")
    config = Retrieval.from_config(task.get_config()).get_config()
    assert config["global_negatives"] and config["gather_dtype"] == "bfloat16"
    with pytest.raises(ValueError, match="gather_dtype"):
        Retrieval(gather_dtype="int8")


@pytest.mark.parametrize(
    "extra",
    [
        (),
        pytest.param(("log_q",), marks=pytest.mark.slow),
        pytest.param(("log_q", "hard"), marks=pytest.mark.slow),
    ],
)
def test_a_replica_without_rows_or_columns(two_replicas, extra):
    """With negatives of its own batch alone, it adds nothing and breaks nothing."""
    rng = np.random.default_rng(0)

    shapes = {"q": [D], "c": [D], "log_q": [], "hard": [M, D], "hard_log_q": [M]}
    rows = {
        name: rng.normal(size=[5, *shape]).astype("float32")
        for name, shape in shapes.items()
    }

    def loss(part):
        given = {}
        if "log_q" in extra:
            given["candidate_log_q"] = -tf.abs(part["log_q"])
        if "hard" in extra:
            given["negative_embeddings"] = part["hard"]
            given["negative_log_q"] = part["hard_log_q"]
        return Retrieval(temperature=0.5)(part["q"], part["c"], **given)

    # Two batches: two rows each, then one row and none.
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(4)
    run = tf.function(lambda part: two_replicas.run(loss, args=[part]))
    found = [
        [float(x) for x in two_replicas.experimental_local_results(run(batch))]
        for batch in two_replicas.experimental_distribute_dataset(batches)
    ]
    parts = [slice(0, 2), slice(2, 4), slice(4, 5)]
    expected = [float(loss({k: v[part] for k, v in rows.items()})) for part in parts]
    np.testing.assert_allclose(sum(found, []), [*expected, 0], rtol=1e-5)
