"""Two embedding tables and a task, trained on one replica and on several."""

import numpy as np
import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives._keras import keras
from tfrs_negatives.layers import (
    CrossBatchMemory,
    MixedLogQ,
    ScaledLogQ,
    StreamingFrequency,
)
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
    "shared": lambda rows: {"query_keys": rows["user"]},
    "keys with a mask": lambda rows: {
        "query_keys": {"user": rows["user"], "request": rows["request"] - 2},
        "query_key_mask": {"user": tf.not_equal(rows["user"] % 3, 0)},
        "negative_ids": rows["hard"],
        "negative_mask": rows["hard"] >= 0,
    },
    "known": lambda rows: {"known_positive_ids": rows["known"]},
    "weights": lambda rows: {"sample_weight": rows["weight"]},
    "hard": lambda rows: {"negative_ids": rows["hard"]},
}

# Those of them whose task masks shared positives.
SHARING = "shared", "keys with a mask"


def all_rules(rows):
    return {
        "query_keys": {"user": rows["user"], "request": rows["request"]},
        "query_key_mask": {"request": tf.not_equal(rows["request"], 1)},
        "known_positive_ids": rows["known"],
        "sample_weight": rows["weight"],
        "negative_ids": rows["hard"],
        "negative_mask": rows["hard"] >= 0,
    }


def everything(**options):
    """A task with all that has state or looks at other replicas."""
    sources = [StreamingFrequency(64, num_hashes=2), -np.log(ITEMS)]
    return Retrieval(
        temperature=0.5,
        remove_accidental_hits=True,
        mask_shared_positives=True,
        sampling_correction=ScaledLogQ(
            MixedLogQ(sources),
            keras.optimizers.schedules.PolynomialDecay(0.2, 4.0, 1.0),
        ),
        memory=CrossBatchMemory(30, D, num_keys=2, warm_up_steps=1),
        reduction="mean_with_sample_weight",
        global_negatives=True,
        **options,
    )
