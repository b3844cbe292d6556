import pytest

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import (
    CrossBatchMemory,
    MixedLogQ,
    OncePerKey,
    PriorCorrection,
    ScaledLogQ,
    StaticFrequency,
    StreamingFrequency,
)


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda: StreamingFrequency(), "StreamingFrequency()"),
        (
            lambda: StreamingFrequency(learning_rate=0.1, mode="hit", name="q"),
            "StreamingFrequency(learning_rate=0.1, mode='hit')",
        ),
        (
            lambda: StreamingFrequency(num_ids=500_000, num_hashes=3),
            "StreamingFrequency(num_hashes=3, num_ids=500000)",
        ),
        (
            lambda: StreamingFrequency(100, dense=True),
            "StreamingFrequency(num_buckets=100, dense=True)",
        ),
        (
            lambda: StaticFrequency([1, 2, 3], smoothing=0.5),
            "StaticFrequency(num_ids=3, smoothing=0.5)",
        ),
        (
            lambda: MixedLogQ([StreamingFrequency(), -4.5]),
            "MixedLogQ(sources=[StreamingFrequency(), -4.5])",
        ),
        (
            lambda: ScaledLogQ(StaticFrequency([1, 2]), 1 - 0.85, floor=0.1),
            "ScaledLogQ(source=StaticFrequency(num_ids=2), strength=0.15, floor=0.1)",
        ),
        (
            lambda: ScaledLogQ(
                StreamingFrequency(),
                keras.optimizers.schedules.ExponentialDecay(1.0, 10, 0.5),
            ),
            "ScaledLogQ(source=StreamingFrequency(), strength=ExponentialDecay)",
        ),
        (
            lambda: CrossBatchMemory(100, 8, warm_up_steps=5),
            "CrossBatchMemory(capacity=100, width=8, warm_up_steps=5)",
        ),
        (lambda: OncePerKey(keras.layers.Dense(3)), "OncePerKey(tower=Dense)"),
        (lambda: PriorCorrection(), "PriorCorrection()"),
        (lambda: PriorCorrection(0.1), "PriorCorrection(keep_rate=0.1)"),
    ],
)
def test_a_layer_says_what_was_chosen(make, expected):
    assert repr(make()) == expected
