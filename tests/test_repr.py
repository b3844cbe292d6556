import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives._repr import described


class Thing:
    def __init__(self, first, second=2, third=None, *, fourth=(0.5,)):
        pass


def test_options_that_differ_from_the_defaults_are_shown():
    text = described(Thing(1), first=1, second=2, third="x", fourth=(0.5,))
    assert text == "Thing(first=1, third='x')"


@pytest.mark.parametrize(
    "value, text",
    [
        (1 - 0.85, "0.15"),
        (float("inf"), "inf"),
        (True, "True"),
        (np.zeros([3, 2], np.float32), "<(3, 2) float32>"),
        (np.zeros([5]), "<(5,) float64>"),
        (tf.Variable([1, 2]), "[1, 2]"),
        (tf.Variable(0.5), "0.5"),
        ([np.float32(1), tf.constant(2)], "[1, 2]"),
        (tf.constant("a"), "<() string>"),
        ([1, 2, 3, 4, 5], "[1, 2, 3, 4, ... 5 in all]"),
        (("a",), "['a']"),
        ({"a": [1.0]}, "{'a': [1]}"),
        (len, "len"),
        (Thing, "Thing"),
        (Thing(1), "Thing"),
        ("x" * 100, repr("x" * 40 + "...")),
    ],
)
def test_values_are_short(value, text):
    assert described(Thing(1), first=value) == f"Thing(first={text})"


def test_an_equal_value_of_another_type_is_shown():
    assert described(Thing(1), second=2.0) == "Thing(second=2)"


def test_an_array_is_no_default():
    assert described(Thing(1), third=np.zeros(2)) == "Thing(third=[0, 0])"


def test_what_a_graph_cannot_read_is_shown_by_its_shape():
    state = tf.Variable([1, 2])
    texts = []

    @tf.function(input_signature=[tf.TensorSpec(None)])
    def trace(unknown):
        texts.append(described(Thing(1), first=state, third=unknown))

    trace(tf.constant(1.0))
    assert texts == ["Thing(first=<(2,) int32>, third=<<unknown> float32>)"]


def test_a_variable_that_holds_the_default_is_left_out():
    assert described(Thing(1), first=1, second=tf.Variable(2)) == "Thing(first=1)"
