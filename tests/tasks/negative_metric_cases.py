"""Batches, rules and tasks for the tests of what a task trains against."""

import numpy as np
import tensorflow as tf
from negative_metric_batch import COUNTS, ITEMS, B

from tfrs_negatives import metrics
from tfrs_negatives._keras import keras
from tfrs_negatives.losses import SampledSigmoid
from tfrs_negatives.tasks import Retrieval


def all_metrics(id_type="int64"):
    found = [
        metrics.FalseNegativeRate(),
        *metrics.FalseNegativeRate.each_source(),
        metrics.FalseNegativeRate(after_masks=False),
        *metrics.FalseNegativeRate.each_source(after_masks=False),
        metrics.NegativeHardness(),
        *metrics.NegativeHardness.each_source(),
        *metrics.NegativeMix.each_source(),
        metrics.DistinctKeys("user"),
        metrics.DistinctKeys("request"),
    ]
    for options in ({"of": "pairs"}, {"of": "rows"}):
        found += [metrics.MaskRate(**options), *metrics.MaskRate.each_source(**options)]
    for options in ({"by": "count"}, {"by": "mass"}):
        kind = metrics.PopularityShare
        ids = typed(range(ITEMS), id_type).numpy()
        options |= {"counts": (ids, COUNTS), "top": 0.25}
        found += [kind(**options), *kind.each_source(**options)]
    return found


def some_metrics():
    """One of each kind, for what has to be traced."""
    return [
        metrics.FalseNegativeRate(),
        metrics.FalseNegativeRate(after_masks=False),
        metrics.MaskRate(),
        metrics.MaskRate(of="rows"),
        metrics.NegativeHardness("extra"),
        metrics.NegativeMix("extra"),
        metrics.PopularityShare(COUNTS, top=0.25, by="mass"),
        metrics.DistinctKeys("user"),
    ]


def typed(values, id_type):
    values = np.asarray(values)
    if id_type == "string":
        return tf.constant(np.where(values == 0, "", values.astype(str)))
    if id_type == "negative":
        return tf.constant(values - 1_000, "int64")
    return tf.constant(values, id_type)


def arguments(batch, rules, loss, id_type="int64"):
    given = {
        "candidate_ids": typed(batch["ids"], id_type),
        "measured_positive_ids": typed(batch["measured"], id_type),
    }
    # Keys without a rule would be one.
    given["query_keys"] = {
        name: typed(batch[name] if name in rules else np.arange(B), id_type)
        for name in ("user", "request")
    }
    if "known" in rules:
        given["known_positive_ids"] = typed(batch["known"], id_type)
    if "measured" not in rules:
        del given["measured_positive_ids"]
    if "log_q" in rules:
        given["candidate_log_q"] = np.log(batch["q"][batch["ids"]])
    if "weights" in rules:
        given["sample_weight"] = batch["weights"]
    if "score_mask" in rules:
        given["score_mask"] = batch["score_mask"]
    if "negatives" in rules:
        given["negative_embeddings"] = tf.constant(batch["negatives"])
        given["negative_ids"] = typed(batch["negative_ids"], id_type)
        given["negative_mask"] = batch["negative_mask"]
        if "log_q" in rules:
            given["negative_log_q"] = np.log(batch["q"][batch["negative_ids"]])
    if loss == "sigmoid":
        given["labels"] = batch["labels"]
    return given


def make_task(loss, rules, rows=None, id_type="int64", chosen=None, **options):
    options |= {
        "remove_accidental_hits": "accidental" in rules,
        "mask_shared_positives": "shared" in rules,
        "negative_metrics": chosen or all_metrics(id_type),
        "negative_metric_rows": rows,
    }
    if loss == "sigmoid":
        return Retrieval(SampledSigmoid(0.5, negative_weight=3.0), **options)
    if loss == "Keras":
        options["loss"] = keras.losses.CategoricalCrossentropy(from_logits=True)
    if loss == "hardest":
        options["num_hard_negatives"] = 4
    if loss in ("negatives", "refined", "outside"):
        options["positive"] = loss
    if loss == "outside":
        options["negative_weight"] = 1.3
    return Retrieval(temperature=0.5, **options)


def results(task):
    return {m.name: float(m.result()) for m in task._negative_metrics}


def assert_same(found, expected, tolerance=1e-5):
    assert len(found) >= len(some_metrics())
    for name, value in found.items():
        np.testing.assert_allclose(
            value, expected[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


def expected_keys(expected, rules):
    """Keys that are no rule are all distinct."""
    for key in ("user", "request"):
        if key not in rules:
            expected[f"distinct_keys_{key}"] = B
    return expected


LOSSES = ["all", "negatives", "refined", "outside", "sigmoid", "hardest", "Keras"]
RULES = {
    "none": {"measured"},
    "columns": {"measured", "accidental", "user", "known", "log_q", "weights"},
    "two keys": {"measured", "user", "request", "shared", "log_q"},
    "known alone": {"known", "log_q"},
    "score mask": {"measured", "score_mask", "accidental", "log_q", "negatives"},
    "own": {"measured", "accidental", "user", "shared", "known", "log_q", "weights"}
    | {"negatives"},
}
