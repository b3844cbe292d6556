"""Options that change what a column, a row or log q is, on N replicas and on one."""

import numpy as np
import pytest
import tensorflow as tf
from grids import some_of
from replica_training import ITEMS, check, trainable

from tfrs_negatives.layers import CrossBatchMemory, StaticFrequency, StreamingFrequency
from tfrs_negatives.losses import SampledSigmoid, SampledSoftmax
from tfrs_negatives.tasks import Retrieval


def probability(items):
    return (1.0 + tf.cast(items, tf.float32)) / ITEMS


def keys_of_candidates(rows):
    return {
        "query_keys": {"user": rows["user"], "request": rows["request"]},
        "candidate_keys": {"request": rows["user"] % 5},
        "candidate_sampling_probability": probability(rows["item"]),
    }


def given_log_q(rows):
    hard = rows["hard"]
    return {
        "candidate_log_q": tf.math.log(probability(rows["item"])),
        "negative_ids": hard,
        "negative_log_q": tf.math.log(probability(tf.maximum(hard, 0))),
        "negative_mask": tf.equal(hard % 3, 0),
    }


def strings(rows):
    as_string = tf.strings.as_string
    known = tf.where(rows["known"] < 0, "", as_string(rows["known"]))
    return {
        "candidate_ids": as_string(rows["item"]),
        "query_keys": as_string(rows["user"]),
        "known_positive_ids": known,
    }


def labels(rows):
    return {"labels": rows["label"], "sample_weight": rows["weight"]}


def targets(rows):
    """The rows' own lists, of which a batch has some."""
    return {
        "target_ids": rows["known"],
        "target_weights": tf.cast(rows["known"] % 3 + 1, tf.float32),
        "query_keys": rows["user"],
    }


def with_targets():
    return Retrieval(
        sampling_correction=StreamingFrequency(64, num_hashes=2),
        memory=CrossBatchMemory(20, 3, num_keys=1),
        remove_accidental_hits=True,
        mask_shared_positives=True,
        target_share=0.6,
        absent_targets="drop",
        global_negatives=True,
    )


def with_counts():
    return Retrieval(
        sampling_correction=StaticFrequency(np.arange(1, ITEMS + 1)),
        positive="negatives",
        reduction="sum_over_batch_size",
        global_negatives=True,
    )


def with_memory():
    return Retrieval(
        sampling_correction=StreamingFrequency(64, num_hashes=2),
        memory=CrossBatchMemory(20, 3, num_keys=1),
        remove_accidental_hits=True,
        mask_shared_positives=True,
        num_hard_negatives=4,
        global_negatives=True,
    )


CASES = {
    "keys of candidates": (
        lambda: Retrieval(global_negatives=True),
        keys_of_candidates,
    ),
    "given log q": (lambda: Retrieval(global_negatives=True), given_log_q),
    "strings": (with_memory, strings),
    "labels": (
        lambda: Retrieval(loss=SampledSigmoid(0.7), global_negatives=True),
        labels,
    ),
    "counts": (with_counts, None),
    "targets": (with_targets, targets),
}


SLOW = "keys of candidates", "strings", "targets"


@pytest.mark.parametrize("case", some_of(CASES, ["given log q", "labels"]))
def test_on_two(two_replicas, case):
    make_task, call = CASES[case]
    check(two_replicas, 2, make_task=make_task, call=call)


@pytest.mark.slow(reason="trains on four replicas, a trace for each")
@pytest.mark.parametrize("case", SLOW)
def test_on_four(four_replicas, case):
    """The last batch leaves one of them without rows."""
    make_task, call = CASES[case]
    check(four_replicas, 4, make_task=make_task, call=call)


def test_a_trained_temperature(two_replicas):
    """Its gradient comes from all replicas' rows."""
    trained = []

    def make_task():
        trained[:] = [trainable(0.7)]
        loss = SampledSoftmax(trained[0], reduction="sum_over_batch_size")
        return Retrieval(loss, remove_accidental_hits=True, global_negatives=True)

    check(two_replicas, 2, make_task=make_task, trained=trained, extras=True)
