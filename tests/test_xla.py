"""Where TensorFlow would place what is traced."""

import pytest
import tensorflow as tf

from tfrs_negatives._xla import placed_on_gpu


@pytest.fixture(params=[0, 1, 2])
def num_gpus(request, monkeypatch):
    """So many GPUs, as far as TensorFlow's list of devices says."""
    devices = ["GPU"] * request.param
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: devices)
    return request.param


@pytest.mark.parametrize("in_graph", [False, True])
def test_without_a_scope_a_gpu_is_taken_if_there_is_one(num_gpus, in_graph):
    found = []
    call = tf.function(lambda: found.append(placed_on_gpu()))
    (call.get_concrete_function if in_graph else call.python_function)()
    assert found == [num_gpus > 0]


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("/GPU:0", None, True),
        ("/CPU:0", None, False),
        (None, "/GPU:0", True),
        ("/GPU:1", "/CPU:0", False),
        ("/CPU:0", "/job:localhost/replica:0/task:0/device:GPU:1", True),
    ],
)
def test_the_innermost_scope_decides(num_gpus, outer, inner, expected):
    """Through functions and loops, whose graphs do not know of outer scopes."""
    del num_gpus
    found = []

    def body(step):
        found.append(placed_on_gpu())
        return [step + 1]

    @tf.function
    def called():
        with tf.device(inner):
            found.append(placed_on_gpu())
            return tf.while_loop(lambda step: step < 2, body, [0])

    @tf.function
    def caller():
        with tf.device(outer):
            return called()

    caller.get_concrete_function()
    assert set(found) == {expected}


def test_a_scope_around_the_tracing(num_gpus):
    del num_gpus
    found = []
    with tf.device("/CPU:0"):
        tf.function(lambda: found.append(placed_on_gpu())).get_concrete_function()
        found.append(placed_on_gpu())
    assert found == [False, False]
