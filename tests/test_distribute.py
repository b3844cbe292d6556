"""What replicas tell each other, against one replica with all rows."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives._keras import IS_KERAS_3

ROWS = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")


def on_replicas(strategy, sizes, step, values=ROWS):
    """Runs `step` on each replica's part of the values; lists of its outputs."""
    ends = np.cumsum(sizes)

    def part(context):
        place = context.replica_id_in_sync_group
        return tf.constant(values[ends[place] - sizes[place] : ends[place]])

    parts = strategy.experimental_distribute_values_from_function(part)
    outputs = tf.function(lambda v: strategy.run(step, args=(v,)))(parts)
    results = [strategy.experimental_local_results(o) for o in tf.nest.flatten(outputs)]
    return [[np.asarray(r) for r in result] for result in results]


@pytest.mark.parametrize("sizes", [[4, 3], [7, 0], [0, 7]])
def test_gather_and_its_gradient(two_replicas, sizes):
    """The loss of replica r weighs r + 1; the gradient is of both losses."""

    def step(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            everyone = distribute.gather(values)
            weight = tf.cast(distribute.place() + 1, tf.float32)
            loss = weight * tf.reduce_sum(everyone**2)
        return everyone, tape.gradient(loss, values)

    everyones, gradients = on_replicas(two_replicas, sizes, step)
    for everyone in everyones:
        np.testing.assert_array_equal(everyone, ROWS)
    np.testing.assert_allclose(np.concatenate(gradients), 3 * 2 * ROWS, rtol=1e-6)


@pytest.mark.parametrize("width", [3, 4])
def test_bfloat16_travels_in_pairs(two_replicas, width):
    values = np.random.default_rng(1).normal(size=(7, 2, width)).astype("float32")

    def step(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            everyone = distribute.gather(values, compress=True)
            loss = tf.reduce_sum(everyone * tf.range(1.0, width + 1))
        return everyone, tape.gradient(loss, values)

    everyones, gradients = on_replicas(two_replicas, [5, 2], step, values)
    rounded = tf.cast(tf.cast(values, tf.bfloat16), tf.float32)
    for everyone in everyones:
        np.testing.assert_array_equal(everyone, rounded)
    expected = np.broadcast_to(2 * np.arange(1, width + 1), values.shape)
    np.testing.assert_array_equal(np.concatenate(gradients), expected)


@pytest.mark.parametrize(
    "dtype", ["int32", "int64", "bool", "float16", "bfloat16", "float64"]
)
def test_dtypes(two_replicas, dtype):
    values = np.array([0, 1, 1, 0, 1])

    def step(values):
        return tf.cast(distribute.gather(tf.cast(values, dtype)), tf.int32)

    for everyone in on_replicas(two_replicas, [2, 3], step, values)[0]:
        np.testing.assert_array_equal(everyone, values)


def test_strings_are_refused(two_replicas):
    with pytest.raises(ValueError, match="Replicas send numbers.*string"):
        two_replicas.run(lambda: distribute.gather(tf.constant(["a"])))


def test_keras_3_is_told_of_collectives():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    if not IS_KERAS_3:
        pytest.skip("Keras 2 trains with the default collectives")
    with pytest.raises(ValueError, match="ReductionToOneDevice"):
        strategy.run(lambda: distribute.gather(tf.zeros([2])))


@pytest.mark.slow(reason="starts servers in a process; a fast test has the error")
def test_workers_of_parameter_servers_have_no_negatives_in_common(keras_2):
    """In a process of its own, since it starts servers."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import parameter_server, tensorflow as tf
from tfrs_negatives.tasks import Retrieval
strategy = tf.distribute.ParameterServerStrategy(parameter_server.local_cluster(1))
with strategy.scope():
    task = Retrieval(global_negatives=True)
ones = tf.ones([2, 3])
with strategy.scope():
    try:
        task(ones, ones)
    except ValueError as error:
        print(error)
"""
    examples = pathlib.Path(__file__).parents[1] / "examples"
    result = subprocess.run(
        [sys.executable, "-c", code, examples],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "expected `global_negatives=False`" in result.stdout, result.stderr


def test_parameter_servers_are_refused(monkeypatch):
    class Servers(tf.distribute.ParameterServerStrategy):
        def __init__(self):
            """Starts none."""

    monkeypatch.setattr(tf.distribute, "get_strategy", Servers)
    with pytest.raises(ValueError, match="expected `global_negatives=False`"):
        distribute.check_in_step()


def test_places_and_totals(four_replicas):
    sizes = [4, 0, 2, 1]

    def step(values):
        rows = tf.shape(values)[0]
        return *distribute.rows_before(rows), distribute.total(rows), distribute.place()

    begins, totals, sums, places = on_replicas(four_replicas, sizes, step)
    assert begins == [0, 4, 4, 6] and totals == sums == [7] * 4
    assert places == [0, 1, 2, 3]


def test_alone_everything_is_the_identity():
    values = tf.constant(ROWS)
    assert distribute.num_replicas() == 1 and distribute.place() == 0
    assert distribute.gather(values) is values
    assert distribute.total(5) == 5
    assert [int(v) for v in distribute.rows_before(tf.constant(7))] == [0, 7]
