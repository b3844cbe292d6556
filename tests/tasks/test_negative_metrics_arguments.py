"""What metrics of negatives refuse, and how the task keeps them."""

import numpy as np
import pytest
from negative_metric_batch import B, C, D, M, make_batch
from negative_metric_cases import RULES, arguments, make_task, results, some_metrics

from tfrs_negatives import metrics
from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory
from tfrs_negatives.tasks import Retrieval


def test_only_with_batch_metrics():
    batch = make_batch(11)
    task = Retrieval(negative_metrics=[metrics.NegativeHardness()])
    for flag, expected in ((False, False), (True, True)):
        task(batch["queries"], batch["candidates"], compute_batch_metrics=flag)
        assert (float(task.metrics[0].result()) > 0) == expected


@pytest.mark.parametrize(
    "metric, given, message",
    [
        (metrics.FalseNegativeRate, {}, "measured_positive_ids.*or `known_positive"),
        (
            metrics.FalseNegativeRate,
            {"measured_positive_ids": [[1]] * B},
            r"\['false_negative_rate'\].*`candidate_ids`.*\[C\]",
        ),
        (
            metrics.FalseNegativeRate,
            {"measured_positive_ids": [[1]] * 3, "candidate_ids": np.arange(C)},
            "`measured_positive_ids` must have size 10 along axis 0",
        ),
        (
            metrics.FalseNegativeRate,
            {"measured_positive_ids": [["a"]] * B, "candidate_ids": np.arange(C)},
            "can never be equal",
        ),
        (
            lambda: metrics.PopularityShare({"a": 1}),
            {"candidate_ids": np.arange(C)},
            "`popularity_share.ids`.*can never be equal",
        ),
        (lambda: metrics.PopularityShare([1, 2]), {}, "`candidate_ids`"),
        (
            lambda: metrics.PopularityShare([1, 2]),
            {"candidate_ids": np.arange(C), "negative_embeddings": np.ones((B, M, D))},
            r"`negative_ids` of shape \[B, M\]",
        ),
        (metrics.DistinctKeys, {}, "`query_keys`"),
        (
            metrics.DistinctKeys,
            {"query_keys": {"a": np.arange(B), "b": np.arange(B)}},
            r"expected `key`.*\['a', 'b'\]",
        ),
        (
            lambda: metrics.DistinctKeys("c"),
            {"query_keys": np.arange(B)},
            "received key='c'",
        ),
    ],
)
def test_what_a_metric_lacks(metric, given, message):
    batch = make_batch(0)
    keys = given.get("query_keys", {})
    memory = CrossBatchMemory(
        2 * B, D, num_keys=len(keys) if isinstance(keys, dict) else 1
    )
    task = Retrieval(negative_metrics=metric(), memory=memory)
    with pytest.raises(ValueError, match=message):
        task(batch["queries"], batch["candidates"], training=True, **given)
    # Before any state has changed.
    state = [v for v in memory.variables if "share" not in v.name]
    assert not any(np.any(v.numpy()) for v in state)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"negative_metrics": [keras.metrics.Mean()]}, "received Mean.*batch_metrics"),
        ({"negative_metrics": [metrics.MaskRate(), metrics.MaskRate()]}, "distinct"),
        ({"negative_metric_rows": 0}, "at least 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Retrieval(**options)


def test_rebuilt_from_its_config():
    rules, batch, found = RULES["own"], make_batch(12), []
    task = make_task("all", rules, rows=4, chosen=some_metrics())
    for one in (task, Retrieval.from_config(task.get_config())):
        given = arguments(batch, rules, "all")
        one(batch["queries"], batch["candidates"], **given)
        found.append(results(one))
    assert found[0] == found[1] and len(found[0]) == len(some_metrics())
