"""Metrics of negatives, on a batch small enough to count by hand.

Through the task they are tested in `tests/tasks/test_retrieval_negative_metrics.py`.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives import metrics
from tfrs_negatives._keras import keras

# Columns: two of the batch, one extra, one of the memory, and one of each row's own.
SOURCES = [0, 0, 1, 2, 3]
OFFERED = [[0, 1, 1, 1, 1], [1, 0, 1, 1, 0]]
ALLOWED = [[0, 0, 1, 1, 1], [1, 0, 1, 0, 0]]
KEPT = [[0, 0, 0, 1, 1], [1, 0, 1, 0, 0]]
MASS = [[0, 0, 0, 0.5, 0.25], [0.125, 0, 0.0625, 0, 0]]
POSITIVES = [[0, 1, 0, 0, 1], [0, 0, 1, 1, 0]]
WEIGHTS = [1.0, 3.0]
COLUMN_IDS, ROW_IDS = [4, 5, 6, 6], [[5], [-1]]
COUNTS = {6: 9, 4: 5, 5: 1, 7: 1}  # 6 is the top quarter, 4 and 6 the top half.


def negatives(**changes):
    def pairs(values):
        return tf.constant(np.array(values, bool))

    return dataclasses.replace(
        metrics.Negatives(
            offered=pairs(OFFERED),
            allowed=pairs(ALLOWED),
            kept=pairs(KEPT),
            mass=tf.constant(MASS),
            sources=tf.constant(SOURCES),
            weights=tf.constant(WEIGHTS),
            positives=pairs(POSITIVES),
            column_ids=tf.constant(COLUMN_IDS, tf.int64),
            row_ids=tf.constant(ROW_IDS, tf.int64),
            keys={None: (tf.constant([3, 7, 3], tf.int64), None)},
        ),
        **changes,
    )


BY_HAND = [
    # Row weights are 1 and 3.
    (metrics.FalseNegativeRate, {}, (1 + 3) / (2 + 3 * 2)),
    (metrics.FalseNegativeRate, {"source": "in_batch"}, 0 / (3 * 1)),
    (metrics.FalseNegativeRate, {"source": "extra"}, 3 / 3),
    (metrics.FalseNegativeRate, {"source": "per_row"}, 1 / 1),
    (metrics.FalseNegativeRate, {"after_masks": False}, (2 + 3 * 2) / (4 + 3 * 3)),
    (metrics.MaskRate, {}, (1 + 3) / (4 + 3 * 3)),
    (metrics.MaskRate, {"source": "in_batch"}, 1 / (1 + 3)),
    (metrics.MaskRate, {"source": "memory"}, 3 / (1 + 3)),
    (metrics.MaskRate, {"of": "rows"}, 0 / 4),
    (metrics.MaskRate, {"source": "in_batch", "of": "rows"}, 1 / 4),
    (metrics.NegativeHardness, {}, (0.75 + 3 * 0.1875) / 4),
    (metrics.NegativeHardness, {"source": "memory"}, 0.5 / (0.75 + 3 * 0.1875)),
    (metrics.NegativeHardness, {"source": "in_batch"}, 0.375 / (0.75 + 0.5625)),
    (metrics.NegativeMix, {"source": "in_batch"}, 3 / (2 + 3 * 2)),
    (metrics.NegativeMix, {"source": "per_row"}, 1 / (2 + 3 * 2)),
    (metrics.PopularityShare, {"counts": COUNTS, "top": 0.25}, (1 + 3) / (2 + 6)),
    (metrics.PopularityShare, {"counts": COUNTS, "top": 0.26}, (1 + 6) / (2 + 6)),
    (metrics.PopularityShare, {"counts": COUNTS, "top": 1.0}, 1),
    (
        metrics.PopularityShare,
        {"counts": COUNTS, "top": 0.25, "by": "mass"},
        (0.5 + 3 * 0.0625) / (0.75 + 3 * 0.1875),
    ),
    (
        metrics.PopularityShare,
        {"counts": COUNTS, "top": 0.25, "source": "in_batch"},
        0 / 3,
    ),
    (metrics.DistinctKeys, {}, 2),
]


@pytest.mark.parametrize("kind, options, expected", BY_HAND)
def test_by_hand(kind, options, expected):
    metric = kind(**options)
    assert float(metric.result()) == 0
    metric.update_state(negatives())
    np.testing.assert_allclose(metric.result(), expected, rtol=1e-6)
    rebuilt = kind.from_config(metric.get_config())
    assert rebuilt.name == metric.name

    @tf.function
    def update():
        rebuilt.update_state(negatives())

    # Twice the same batch is the same ratio.
    for _ in range(2):
        update()
    np.testing.assert_allclose(rebuilt.result(), expected, rtol=1e-6)
    rebuilt.reset_state()
    assert float(rebuilt.result()) == 0


def test_serialised_by_name():
    metric = metrics.MaskRate("extra", of="rows", name="x")
    copy = keras.utils.deserialize_keras_object(
        keras.utils.serialize_keras_object(metric)
    )
    assert (copy.name, copy.source, copy.of) == ("x", "extra", "rows")


def test_batches_count_by_their_pairs():
    metric = metrics.NegativeMix("per_row")
    metric.update_state(negatives())  # 1 of 8.
    metric.update_state(negatives(weights=tf.constant([1.0, 0.0])))  # 1 of 2.
    np.testing.assert_allclose(metric.result(), (1 + 1) / (8 + 2))


def test_many_pairs_are_counted():
    """Beyond 2^24, where float32 stops counting one by one."""
    metric = metrics.NegativeMix("per_row")
    heavy = negatives(weights=tf.constant([0.0, 2.0**25]))
    metric.update_state(heavy)  # None of 2^26.
    for _ in range(64):
        metric.update_state(negatives(weights=tf.constant([1.0, 0.0])))
    np.testing.assert_allclose(metric.result(), 64 / (2**26 + 128), rtol=1e-6)


def test_names_tell_the_source():
    names = [metric.name for metric in metrics.NegativeHardness.each_source()]
    assert names == [
        "negative_hardness_in_batch",
        "negative_hardness_extra",
        "negative_hardness_memory",
        "negative_hardness_per_row",
    ]
    given = metrics.PopularityShare.each_source(COUNTS, by="mass")
    assert given[3].name == "popularity_share_by_mass_per_row"
    assert given[3].source == "per_row"
    assert metrics.FalseNegativeRate(name="mine").name == "mine"


def test_string_ids():
    """Metrics see hashes, and hash the counted ids alike."""
    from tfrs_negatives._ids import as_int64

    ids = as_int64("ids", tf.constant(["d", "e", "f", "f"]))
    metric = metrics.PopularityShare({"f": 9, "d": 5, "e": 1, "g": 1}, top=0.25)
    metric.update_state(negatives(column_ids=ids))
    np.testing.assert_allclose(metric.result(), (1 + 3) / (2 + 6))


@pytest.mark.parametrize(
    "keys, expected",
    # Rows without a key, None here, are a request each; negative keys are keys.
    [
        ([], 0),
        ([5], 1),
        ([5, 5, 5], 1),
        ([None], 1),
        ([-1, 5, -1, 5, -1], 2),
        ([-(2**63), None, -1, -1, None, 2**63 - 1, 0], 6),
        ([None, 0, 0, None, None], 4),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_distinct_keys(keys, expected, compiled):
    metric = metrics.DistinctKeys("request")
    mask = [key is not None for key in keys]
    # What stands where there is no key may be another's key.
    keys = tf.constant([0 if key is None else key for key in keys], tf.int64)
    mask = None if all(mask) else tf.constant(mask, tf.bool)
    keys = {"request": (keys, mask), "user": (tf.range(9), None)}

    @tf.function(jit_compile=compiled)
    def update():
        metric.update_state(negatives(keys=keys))

    update()
    assert float(metric.result()) == expected


class FalseGradient(metrics.NegativeMetric):
    """As the documentation has it."""

    NEEDS = ("positives",)

    def __init__(self, name="false_gradient", source=None):
        super().__init__(name, source)

    def parts(self, negatives):
        mass = tf.where(negatives.positives, negatives.mass, 0.0)
        return (
            negatives.total(mass, self.source),
            negatives.total(negatives.mass, self.source),
        )


def test_a_metric_of_ones_own():
    metric = FalseGradient()
    metric.update_state(negatives())
    np.testing.assert_allclose(
        metric.result(), (0.25 + 3 * 0.0625) / (0.75 + 3 * 0.1875)
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: metrics.MaskRate("all"), "`source` must be one of"),
        (lambda: metrics.NegativeMix(None), "`source` must be one of"),
        (lambda: metrics.MaskRate(of="columns"), "`of` must be one of"),
        (lambda: metrics.PopularityShare([1], top=0), "`top` must be in"),
        (lambda: metrics.PopularityShare([1], top=1.5), "`top` must be in"),
        (lambda: metrics.PopularityShare([1], by="sum"), "`by` must be one of"),
        (lambda: metrics.PopularityShare([-1, 2]), "`counts` must be finite"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()
