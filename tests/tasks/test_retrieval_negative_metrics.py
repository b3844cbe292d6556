"""Metrics of what the task trains against, beside loops in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from grids import some_of
from negative_metric_batch import ITEMS, B, D, make_batch
from negative_metric_cases import (
    LOSSES,
    RULES,
    arguments,
    assert_same,
    expected_keys,
    make_task,
    results,
    some_metrics,
)
from negative_metric_oracle import Oracle

from tfrs_negatives import metrics
from tfrs_negatives.layers import CrossBatchMemory
from tfrs_negatives.tasks import Retrieval

CASES = [
    (loss, name)
    for loss in LOSSES
    for name, rules in RULES.items()
    if loss != "refined" or "log_q" in rules
]


# Each loss with all rules at once, each set of rules with one loss.
FAST = [case for case in CASES if case[0] == "all" or case[1] == "own"]


@pytest.mark.parametrize("loss, name", some_of(CASES, FAST))
def test_against_loops(loss, name):
    """Two batches add up; every metric, of every source."""
    rules = RULES[name]
    id_type = {"two keys": "string", "own": "string", "columns": "negative"}
    id_type = id_type.get(name, "int64")
    task, oracle = make_task(loss, rules, id_type=id_type), Oracle(loss, rules)
    for seed in (0, 1):
        batch = make_batch(seed)
        oracle.update(batch)
        given = arguments(batch, rules, loss, id_type)
        loss_value = task(batch["queries"], batch["candidates"], **given)
        assert np.isfinite(loss_value)
    expected = expected_keys(oracle.results(), rules)
    assert set(results(task)) == set(expected)
    assert_same(results(task), expected)


@pytest.mark.parametrize("loss", ["all", "hardest", "sigmoid"])
def test_heads(loss):
    rules = RULES["own"]
    task, oracle, batch = make_task(loss, rules), Oracle(loss, rules), make_batch(2, 1)
    oracle.update(batch)
    task(batch["queries"], batch["candidates"], **arguments(batch, rules, loss))
    assert_same(results(task), expected_keys(oracle.results(), rules))


@pytest.mark.parametrize("loss", LOSSES)
def test_memory(loss):
    """What the first batch leaves is a source of the second."""
    rules = RULES["own"] | {"request"}
    memory = CrossBatchMemory(2 * B, D, num_keys=2)
    task, oracle = make_task(loss, rules, memory=memory), Oracle(loss, rules)
    first, second = make_batch(3), make_batch(4)
    for batch in (first, second):
        for metric in task._negative_metrics:
            metric.reset_state()
        given = arguments(batch, rules, loss)
        task(batch["queries"], batch["candidates"], training=True, **given)
    oracle.update(second, remembered=first)
    found = results(task)
    assert found["negative_mix_memory"] > 0.1
    assert_same(found, oracle.results())


@pytest.mark.parametrize(
    "traced",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.slow(reason="traces all kinds of metrics again")
        ),
    ],
)
def test_some_rows(traced):
    """Evenly spaced: of 10 rows and a limit of 4 these are 0, 2, 5 and 7."""
    rules, batch = RULES["own"], make_batch(5)
    task = make_task("all", rules, rows=4, chosen=some_metrics())
    oracle = Oracle("all", rules, rows=[0, 2, 5, 7])
    oracle.update(batch)
    run = tf.function(task) if traced else task
    run(batch["queries"], batch["candidates"], **arguments(batch, rules, "all"))
    assert_same(results(task), expected_keys(oracle.results(), rules))


def test_some_rows_with_few_masked_pairs():
    """Masks then list pairs instead of comparing all, the positives' own too."""
    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(2, 300, D))
    ids = np.arange(300)
    ids[150:155] = ids[100:105]
    task = Retrieval(
        remove_accidental_hits=True,
        negative_metrics=[metrics.MaskRate(), metrics.NegativeHardness()],
        negative_metric_rows=6,
    )
    task(queries, items, candidate_ids=ids)
    masses, masked = [], 0
    for i in (0, 50, 100, 150, 200, 250):
        hits = (ids == ids[i]) & (np.arange(300) != i)
        masked += hits.sum()
        scores = np.exp(items @ queries[i]) * ~hits
        masses.append(1 - scores[i] / scores.sum())
    assert masked == 2
    expected = {"mask_rate": 2 / (6 * 299), "negative_hardness": np.mean(masses)}
    for name, value in results(task).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)


def test_more_rows_than_there_are():
    batch, found = make_batch(6), []
    for rows in (None, B, 1000):
        task = make_task("all", RULES["columns"], rows=rows, chosen=some_metrics())
        given = arguments(batch, RULES["columns"], "all")
        task(batch["queries"], batch["candidates"], **given)
        found.append(results(task))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", some_of(["none", "columns", "two keys"], ["two keys"]))
def test_repeated_embeddings(name):
    """The same as of the embeddings row by row, in the cheaper loss."""
    rules, batch = RULES[name], make_batch(7)
    rng = np.random.default_rng(0)
    query_rows = rng.integers(0, 4, B)
    queries, candidates = batch["queries"][:4], rng.normal(size=(ITEMS, D))
    batch["user"], batch["known"] = query_rows, batch["known"][query_rows]
    batch["queries"], batch["candidates"] = (
        queries[query_rows],
        candidates[batch["ids"]],
    )
    given = arguments(batch, rules, "all")
    task = make_task("all", rules, chosen=some_metrics())
    oracle = Oracle("all", rules)
    oracle.update(batch)
    tf.function(task)(
        queries,
        candidates,
        query_rows=query_rows,
        candidate_rows=batch["ids"],
        **given,
    )
    assert_same(results(task), expected_keys(oracle.results(), rules))


def test_ragged_positives():
    rules, batch = RULES["columns"], make_batch(8)
    task, oracle = make_task("all", rules), Oracle("all", rules)
    oracle.update(batch)
    given = arguments(batch, rules, "all")
    for name in ("measured", "known"):
        given[f"{name}_positive_ids"] = tf.ragged.constant(
            [k[k >= 0] for k in batch[name]], dtype=tf.int64
        )
    task(batch["queries"], batch["candidates"], **given)
    assert_same(results(task), expected_keys(oracle.results(), rules))


@pytest.mark.parametrize(
    "loss",
    [
        "all",
        pytest.param(
            "hardest",
            marks=pytest.mark.slow(reason="traces all kinds of metrics again"),
        ),
    ],
)
def test_under_xla(loss):
    rules, batch = RULES["own"], make_batch(9)
    task = make_task(loss, rules, rows=4, chosen=some_metrics())
    oracle = Oracle(loss, rules, [0, 2, 5, 7])
    oracle.update(batch)
    given = arguments(batch, rules, loss)
    run = tf.function(task, jit_compile=True)
    run(batch["queries"], batch["candidates"], **given)
    assert_same(results(task), expected_keys(oracle.results(), rules))


def test_the_loss_and_its_gradients_stay():
    """With metrics, as without."""
    rules, batch, found = RULES["own"], make_batch(10), []
    given = arguments(batch, rules, "all")
    for chosen in (some_metrics(), None):
        task = Retrieval(remove_accidental_hits=True, negative_metrics=chosen)
        leaves = [tf.constant(batch["queries"]), tf.constant(batch["candidates"])]
        with tf.GradientTape() as tape:
            tape.watch(leaves)
            loss = task(*leaves, **given)
        found.append([loss, *tape.gradient(loss, leaves)])
    for with_metrics, without in zip(*found, strict=True):
        np.testing.assert_array_equal(with_metrics, without)
