import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.metrics import CorpusRecall, MaskRate
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval

BATCHES = tf.data.Dataset.from_tensors(np.float32([[1, 0], [0, 1]]))
ITEMS = np.eye(2, dtype=np.float32)


class TwoTasks(Model):
    def __init__(self, option, metrics):
        super().__init__()
        self.scale = keras.layers.Dense(2)
        self.first, self.second = (Retrieval(**{option: m}) for m in metrics)

    def compute_loss(self, features, training=False):
        embeddings = self.scale(features)
        losses = [
            task(embeddings, embeddings, query_keys=tf.constant(keys))
            for task, keys in ((self.first, [1, 1]), (self.second, [1, 2]))
        ]
        return tf.add_n(losses)


def corpus_recall(name="factorized_top_k"):
    return CorpusRecall(ITEMS, ks=[1], name=name)


def mean(name="mean_loss"):
    return keras.metrics.Mean(name=name)


def top(name="top_1"):
    return keras.metrics.TopKCategoricalAccuracy(1, name=name)


KINDS = {
    "negative_metrics": (MaskRate, "mask_rate"),
    "metrics": (corpus_recall, "factorized_top_k/top_1_categorical_accuracy"),
    "loss_metrics": (mean, "mean_loss"),
    "batch_metrics": (top, "top_1"),
}


@pytest.mark.parametrize("option", KINDS)
def test_two_of_one_name_are_refused(option):
    make, name = KINDS[option]
    model = TwoTasks(option, [make(), make()])
    model.compile("sgd")
    for run in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=f"distinct names.*{name}.*Pass `name=`"):
            run(BATCHES, verbose=0)


@pytest.mark.slow(reason="evaluates another model of two tasks")
def test_two_of_distinct_names_are_logged():
    model = TwoTasks("negative_metrics", [MaskRate(), MaskRate(name="other")])
    model.compile("sgd")
    logs = model.evaluate(BATCHES, verbose=0, return_dict=True)
    # The first task's rows are of one user, the second's are not.
    assert logs["mask_rate"] == 1.0 and logs["other"] == 0.0


def test_one_metric_of_two_tasks_is_one_entry():
    shared = MaskRate()
    model = TwoTasks("negative_metrics", [shared, shared])
    model.compile("sgd")
    logs = model.evaluate(BATCHES, verbose=0, return_dict=True)
    assert logs["mask_rate"] == 0.5


@pytest.mark.parametrize("name", ["loss", "total_loss", "regularization_loss"])
def test_a_metric_named_as_a_loss_is_refused(name):
    model = TwoTasks("loss_metrics", [None, mean(name)])
    model.compile("sgd")
    with pytest.raises(ValueError, match=f"metrics named.*'{name}'.*Pass `name=`"):
        model.fit(BATCHES, verbose=0)
