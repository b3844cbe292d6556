"""What runs always, what in the slow run alone: cases of a grid, one of two Kerases."""

import importlib.util
import itertools

import pytest

HAS_SCANN = importlib.util.find_spec("scann") is not None

REST = "the same claim for the other combinations, each a trace or a stream of its own"


def grid(*axes, rounds=1, reason=REST):
    """Parameters for all combinations, most of them slow.

    Those that are not slow have each value of each axis at least once; more rounds
    combine the values otherwise.
    """
    axes = [list(axis) for axis in axes]
    longest = max(map(len, axes))
    fast = {
        # Of each round, where every axis begins.
        tuple((step + place * turn) % len(axis) for place, axis in enumerate(axes))
        for turn in range(rounds)
        for step in range(longest)
    }
    return [
        pytest.param(
            *(axis[at] for axis, at in zip(axes, places, strict=True)),
            marks=() if places in fast else pytest.mark.slow(reason=reason),
        )
        for places in itertools.product(*(range(len(axis)) for axis in axes))
    ]


def only_under(keras_3, reason):
    """A decorator of a test that is slow under the other Keras."""
    from tfrs_negatives._keras import IS_KERAS_3

    slow = pytest.mark.slow(reason=reason)
    return (lambda test: test) if keras_3 == IS_KERAS_3 else slow


def some_of(cases, fast, reason=REST):
    """Parameters for cases, values or tuples of them; those not in `fast` are slow."""
    assert all(case in cases for case in fast), "each fast case is one of the cases"
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if case in fast else pytest.mark.slow(reason=reason),
        )
        for case in cases
    ]
