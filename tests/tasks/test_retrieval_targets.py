"""Several targets a row, through the task. `test_task_options` has their values."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives import metrics
from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory, StaticFrequency, StreamingFrequency
from tfrs_negatives.losses import SampledSigmoid, SampledSoftmax
from tfrs_negatives.tasks import Retrieval, compiled_loss

B, C, M, D = 4, 6, 2, 3
# Columns 1, 3 and 5 hold the same item.
IDS = np.array([10, 11, 12, 11, 14, 11])


@pytest.fixture
def batch():
    rng = np.random.default_rng(2)
    return {
        "queries": tf.constant(rng.normal(size=(B, D))),
        "candidates": tf.constant(rng.normal(size=(C, D))),
        "brought": tf.constant(rng.normal(size=(B, M, D))),
        "log_q": tf.constant(np.log(rng.uniform(0.05, 0.5, C))),
    }


def loss_of(task, batch, **given):
    given = {"candidate_ids": tf.constant(IDS), **given}
    return task(batch["queries"], batch["candidates"], **given)


def of_columns(batch, columns, dropped=(), weights=None, **given):
    """The loss with targets by their columns, some pairs dropped."""
    mask = np.ones((B, C), bool)
    for pair in dropped:
        mask[pair] = False
    return SampledSoftmax()(
        batch["queries"],
        batch["candidates"],
        target_columns=columns,
        target_weights=weights,
        score_mask=mask,
        **given,
    )


LISTS = np.array([[11, 14], [12, 11], [11, 12], [11, 10]])
#: Where they stand: item 11 first in column 1, but in row 3's own for row 3.
PLACES = np.array([[1, 4], [2, 1], [1, 2], [3, 0]])


def test_a_target_stands_in_the_first_column_of_its_item_or_in_the_rows_own(batch):
    found = loss_of(Retrieval(), batch, target_ids=LISTS)
    np.testing.assert_allclose(found, of_columns(batch, PLACES), rtol=1e-12)


def test_other_columns_of_a_targets_item_are_accidental_hits(batch):
    task = Retrieval(remove_accidental_hits=True)
    found = loss_of(task, batch, target_ids=LISTS)
    # Rows 0 and 2 have item 11 as a target, rows 1 and 3 as their own.
    dropped = [(0, 3), (0, 5), (2, 3), (2, 5), (1, 3), (1, 5), (3, 1), (3, 5)]
    expected = of_columns(batch, PLACES, dropped)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_masks_drop_no_target(batch):
    """Neither those on ids, nor on keys, nor a mask of pairs."""
    mask = np.eye(B, C, dtype=bool)
    found = loss_of(
        Retrieval(mask_shared_positives=True),
        batch,
        target_ids=LISTS,
        known_positive_ids=np.tile(IDS[np.newaxis], [B, 1]),
        query_keys=np.zeros(B, int),
        score_mask=mask,
    )
    dropped = [(i, k) for i in range(B) for k in range(C) if k != i]
    np.testing.assert_allclose(found, of_columns(batch, PLACES, dropped), rtol=1e-12)


def test_negatives_of_a_row_that_are_its_target_are_accidental_hits(batch):
    ids = np.array([[11, 12], [99, 98], [12, 97], [10, 11]])
    given = {"target_ids": LISTS, "negative_embeddings": batch["brought"]}
    task = Retrieval(remove_accidental_hits=True)
    found = loss_of(task, batch, negative_ids=ids, **given)
    mask = np.array([[False, True], [True, True], [False, True], [False, False]])
    expected = loss_of(
        task, batch, negative_ids=np.full((B, M), 99), negative_mask=mask, **given
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("positive", ["all", "negatives"])
def test_log_q_of_what_targets_bring_is_looked_up(batch, positive):
    counts = np.arange(1, 21)
    task = Retrieval(
        sampling_correction=StaticFrequency(counts),
        positive=positive,
        remove_accidental_hits=True,
    )
    ids = np.array([[11, 14], [0, 3], [12, 4], [5, 5]])
    given = {"target_embeddings": batch["brought"], "target_ids": ids}
    found = loss_of(task, batch, training=False, **given)
    log_q = np.log(counts / counts.sum())
    others = {"candidate_log_q": log_q[IDS]}
    if positive == "all":
        others["target_log_q"] = log_q[ids]
    task = Retrieval(positive=positive, remove_accidental_hits=True)
    expected = loss_of(task, batch, **others, **given)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_one_row_brought_is_looked_up_beside_its_negatives(batch):
    counts = np.arange(1, 21)
    ids = np.array([[1, 14], [0, 3], [2, 4], [5, 5]])
    task = Retrieval(sampling_correction=StaticFrequency(counts))
    given = {
        "target_embeddings": batch["brought"],
        "negative_embeddings": 2 * batch["brought"],
        "target_ids": ids,
        "negative_ids": ids + 1,
    }
    found = loss_of(task, batch, training=False, **given)
    log_q = np.log(counts / counts.sum())
    given |= {"negative_log_q": log_q[ids + 1], "target_log_q": log_q[ids]}
    given["candidate_log_q"] = log_q[IDS]
    np.testing.assert_allclose(found, loss_of(Retrieval(), batch, **given), rtol=1e-5)


class Seen(metrics.MaskRate):
    """Keeps what it is shown."""

    def update_state(self, negatives):
        self.seen = negatives
        return super().update_state(negatives)


@pytest.mark.parametrize("brings", [False, True])
@pytest.mark.parametrize("num_hard_negatives", [None, 2])
def test_targets_are_no_negatives_to_metrics(batch, brings, num_hard_negatives):
    metric = Seen()
    task = Retrieval(
        negative_metrics=metric,
        negative_metric_rows=None,
        num_hard_negatives=num_hard_negatives,
        target_share=0.4,
    )
    given = {"negative_embeddings": 2 * batch["brought"]}
    if brings:
        given["target_embeddings"] = batch["brought"]
    else:
        given["target_ids"] = LISTS
    loss_of(task, batch, **given)
    expected = ~np.eye(B, C + M, dtype=bool)
    if not brings:
        expected[np.arange(B)[:, None], PLACES] = False
    seen = metric.seen
    np.testing.assert_array_equal(seen.offered, expected)
    np.testing.assert_array_equal(seen.allowed, expected)
    assert (seen.mass.numpy()[~expected] == 0).all()
    assert (seen.mass.numpy()[seen.kept] > 0).all()
    kept = seen.kept.numpy().sum(1)
    np.testing.assert_array_equal(kept, num_hard_negatives or expected.sum(1))
    assert seen.sources.shape == [C + M]


def test_half_precision(batch):
    given = {"target_embeddings": batch["brought"], "target_weights": [[2, 1]] * B}
    halves = {k: tf.cast(v, tf.bfloat16) for k, v in batch.items()}
    found = loss_of(
        Retrieval(), halves, **{**given, "target_embeddings": halves["brought"]}
    )
    rounded = {k: tf.cast(v, tf.float32) for k, v in halves.items()}
    expected = loss_of(
        Retrieval(), rounded, **{**given, "target_embeddings": rounded["brought"]}
    )
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_is_brought_may_have_another_dtype_than_negatives(batch):
    narrow = tf.cast(batch["brought"], tf.float32)
    given = {"target_embeddings": batch["brought"], "negative_embeddings": narrow}
    found = loss_of(Retrieval(), batch, **given)
    given["negative_embeddings"] = tf.cast(narrow, tf.float64)
    np.testing.assert_allclose(found, loss_of(Retrieval(), batch, **given), rtol=1e-12)


def test_targets_of_a_memory(batch):
    """An item of an earlier batch is a target, by what the memory keeps of it."""
    memory = CrossBatchMemory(20, D)
    kept = tf.constant([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]])
    memory.write(kept, ids=tf.constant([20, 21], tf.int64))
    found = loss_of(
        Retrieval(memory=memory), batch, target_ids=[[21]] * B, training=False
    )
    everything = np.concatenate([batch["candidates"], kept])
    expected = SampledSoftmax()(
        batch["queries"], everything, target_columns=[[C + 1]] * B
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_absent_targets_may_be_dropped(batch):
    task = Retrieval(absent_targets="drop")
    lists = np.array([[11, 99], [99, 98], [11, 12], [99, 14]])
    found = loss_of(task, batch, target_ids=lists)
    ragged = tf.ragged.constant([[11], [], [11, 12], [14]], dtype=tf.int64)
    expected = loss_of(Retrieval(), batch, target_ids=ragged)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def trained_task():
    task = Retrieval(
        sampling_correction=StreamingFrequency(32), memory=CrossBatchMemory(8, D)
    )
    return task, [np.array(v) for v in task.variables]


def check_state(task, before):
    for variable, value in zip(task.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("strings", [False, True])
@pytest.mark.parametrize("traced", [False, True])
def test_absent_targets_are_named_before_any_state_changes(batch, strings, traced):
    task, before = trained_task()
    lists = np.array([[11, 14], [12, 99], [11, 12], [11, 10]])

    def typed(ids):
        return tf.constant(ids.astype(str) if strings else ids)

    def step(ids, targets):
        return task(
            batch["queries"],
            batch["candidates"],
            candidate_ids=ids,
            target_ids=targets,
            training=True,
        )

    step = tf.function(step, autograph=False) if traced else step
    message = r"absent_targets=(.|\n)*\[?1\]?(.|\n)*99"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        step(typed(IDS), typed(lists))
    check_state(task, before)


RAGGED = tf.ragged.constant([[11], [], [12, 10], [14]], dtype=tf.int64)


@pytest.mark.parametrize(
    "options, given, error, message",
    [
        ({}, {"target_weights": [[1.0]] * B}, ValueError, "expected `target_ids`"),
        ({}, {"target_log_q": [[-1.0]] * B}, ValueError, "expected `target_ids`"),
        (
            {},
            {"target_ids": LISTS, "candidate_ids": None},
            ValueError,
            "`target_ids` compares `candidate_ids`",
        ),
        ({}, {"target_ids": LISTS[:, :0]}, ValueError, "at least one place a row"),
        ({}, {"target_ids": LISTS[:2]}, ValueError, "size 4 along axis 0"),
        ({}, {"target_ids": LISTS.astype(str)}, ValueError, "candidate_ids"),
        ({}, {"target_ids": LISTS[0]}, ValueError, "must have rank 2"),
        (
            {},
            {"target_ids": LISTS, "target_weights": np.ones((B, 3))},
            ValueError,
            "one weight for each target",
        ),
        (
            {},
            {"target_ids": LISTS, "target_weights": -np.ones((B, 2))},
            tf.errors.InvalidArgumentError,
            "at least 0",
        ),
        (
            {},
            {"target_ids": LISTS, "target_weights": np.full((B, 2), np.nan)},
            tf.errors.InvalidArgumentError,
            "must be finite",
        ),
        (
            {},
            {"target_ids": LISTS, "target_weights": [[0, 1], [0, 0], [1, 1], [1, 0]]},
            tf.errors.InvalidArgumentError,
            r"all 0 in rows(.|\n)*1",
        ),
        (
            {},
            {"target_ids": RAGGED, "target_weights": RAGGED.with_values([1, 1, 1, 0])},
            tf.errors.InvalidArgumentError,
            r"all 0 in rows(.|\n)*3",
        ),
        (
            {},
            {"target_ids": RAGGED, "target_weights": np.ones((B, 2))},
            ValueError,
            "so must `target_weights` be",
        ),
        (
            {},
            {"target_ids": RAGGED, "target_weights": tf.ragged.constant([[1.0]] * B)},
            tf.errors.InvalidArgumentError,
            "as long as `target_ids`",
        ),
        (
            {},
            {"target_ids": RAGGED[:3]},
            ValueError,
            "size 4 along axis 0",
        ),
        (
            {},
            {"target_ids": RAGGED, "target_embeddings": np.zeros((B, M, D))},
            ValueError,
            "must be dense",
        ),
        (
            {},
            {"target_ids": LISTS, "target_log_q": -np.ones((B, 2))},
            ValueError,
            "`target_log_q` is that of `target_embeddings`",
        ),
        (
            {},
            {"target_embeddings": np.zeros((B, M, D + 1))},
            ValueError,
            "M targets for each row",
        ),
        (
            {},
            {"target_embeddings": np.zeros((B, 0, D))},
            ValueError,
            "at least one place a row",
        ),
        (
            {},
            {"target_embeddings": np.zeros((B, M, D)), "target_ids": LISTS[:, :1]},
            ValueError,
            "one id for each",
        ),
        (
            {},
            {
                "target_embeddings": np.zeros((B, M, D)),
                "target_log_q": np.zeros((B, M)),
            },
            ValueError,
            "without log q of the columns",
        ),
        (
            {},
            {
                "target_embeddings": np.zeros((B, M, D)),
                "candidate_log_q": -np.ones(C),
            },
            ValueError,
            "expected `target_log_q`",
        ),
        (
            {"remove_accidental_hits": True},
            {"target_embeddings": np.zeros((B, M, D))},
            ValueError,
            "expected `target_ids`",
        ),
        (
            {"loss": SampledSigmoid()},
            {"target_ids": LISTS},
            ValueError,
            "use `SampledSoftmax`",
        ),
        (
            {"loss": keras.losses.CategoricalCrossentropy(from_logits=True)},
            {"target_ids": LISTS},
            ValueError,
            "one-hot labels",
        ),
        (
            {"positive": "refined"},
            {"target_ids": LISTS, "candidate_log_q": -np.ones(C)},
            ValueError,
            "one positive",
        ),
    ],
)
def test_bad_targets(batch, options, given, error, message):
    task = Retrieval(memory=CrossBatchMemory(8, D), **options)
    before = [np.array(v) for v in task.variables]
    with pytest.raises(error, match=message):
        loss_of(task, batch, training=True, **given)
    check_state(task, before)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"absent_targets": "keep"}, "absent_targets"),
        ({"target_share": 2}, "from 0 to 1"),
        ({"target_share": 0.5, "loss": SampledSoftmax()}, "Give them to the loss"),
        (
            {
                "target_share": 0.5,
                "loss": keras.losses.CategoricalCrossentropy(from_logits=True),
            },
            "belongs to the default loss",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Retrieval(**options)


def test_a_rebuilt_task_has_the_same_targets(batch):
    task = Retrieval(target_share=0.2, absent_targets="drop")
    again = Retrieval.from_config(task.get_config())
    given = {"target_ids": np.array([[11, 99]] * B)}
    np.testing.assert_array_equal(
        loss_of(task, batch, **given), loss_of(again, batch, **given)
    )
    assert "target_share=0.2" in repr(task) and "'drop'" in repr(again)


def test_a_share_that_changes_while_training(batch):
    share = tf.Variable(0.0, trainable=False)
    task = Retrieval(target_share=share)
    step = tf.function(lambda: loss_of(task, batch, target_ids=LISTS), autograph=False)
    for value in (0.0, 0.75):
        share.assign(value)
        expected = loss_of(Retrieval(target_share=value), batch, target_ids=LISTS)
        np.testing.assert_allclose(step(), expected, rtol=1e-12)


@pytest.mark.parametrize("ragged", [False, True])
def test_xla_is_not_chosen_for_lists_whose_lengths_change(batch, ragged, monkeypatch):
    monkeypatch.setattr(compiled_loss, "placed_on_gpu", lambda: True)
    chosen = []
    is_compiled = compiled_loss.is_compiled
    monkeypatch.setattr(
        compiled_loss,
        "is_compiled",
        lambda *args: chosen.append(is_compiled(*args)) or False,
    )
    targets = RAGGED if ragged else tf.constant(LISTS)
    tf.function(lambda: loss_of(Retrieval(), batch, target_ids=targets))()
    assert chosen[-1] == (not ragged)
