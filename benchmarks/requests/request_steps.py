"""Rows of Online Retail, two towers over them, and the steps that train these."""

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks.common.data_files import data_file
from benchmarks.common.keras_version import KERAS
from tfrs_negatives.layers import OncePerKey
from tfrs_negatives.tasks import Retrieval

keras = tf.keras
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "keras", "numpy"
WIDTH = 64


def columns():
    """Online Retail's rows, ids counted from 0, and how many ids there are of each."""
    frame = pd.read_parquet(data_file("online_retail.parquet"))
    names = {
        "request": "request",
        "user": "user",
        "item": "item",
        "country": "Country",
    }
    found = {
        name: pd.factorize(frame[column])[0].astype(np.int64)
        for name, column in names.items()
    }
    # Of the first row: the clock may move on within a request.
    first = frame.groupby("request", sort=False)["t"].transform("first")
    found["hour"] = (first.to_numpy() // 3600 % 24).astype(np.int64)
    return found, {name: int(column.max()) + 1 for name, column in found.items()}


def towers(sizes, width):
    """The query tower, over a dict of features, and the item tower."""

    class QueryTower(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            names = ("user", "country", "hour")
            self.tables = {
                name: keras.layers.Embedding(sizes[name], WIDTH) for name in names
            }
            hidden = [keras.layers.Dense(width, activation="relu") for _ in range(3)]
            self.dense = keras.Sequential([*hidden, keras.layers.Dense(WIDTH)])

        def call(self, features):
            parts = [table(features[n]) for n, table in self.tables.items()]
            return self.dense(tf.concat(parts, axis=1))

    return QueryTower(), keras.layers.Embedding(sizes["item"], WIDTH)


def losses(query_tower, item_tower):
    """The losses of one batch by the ways named above: functions of its features."""
    task = Retrieval(temperature=0.1, remove_accidental_hits=True)
    once_a_request, once_an_item = OncePerKey(query_tower), OncePerKey(item_tower)
    first = OncePerKey(tf.keras.layers.Activation("linear"))

    def query_features(features):
        return {name: features[name] for name in ("user", "country", "hour")}

    def options(features):
        return {
            "candidate_ids": features["item"],
            "query_keys": features["user"],
            "compute_metrics": False,
            "training": True,
        }

    def plain(features):
        queries = query_tower(query_features(features))
        items = item_tower(features["item"])
        return task(queries, items, **options(features))

    def once(features):
        queries = once_a_request(query_features(features), features["request"])
        items = item_tower(features["item"])
        return task(queries, items, **options(features))

    def distinct_loss_of(queries_and_rows, items_and_rows, features):
        (queries, query_rows), (items, item_rows) = queries_and_rows, items_and_rows
        return task(
            queries,
            items,
            query_rows=query_rows,
            candidate_rows=item_rows,
            **options(features),
        )

    def distinct(features):
        queries = once_a_request.distinct(query_features(features), features["request"])
        items = once_an_item.distinct(features["item"], features["item"])
        return distinct_loss_of(queries, items, features)

    def distinct_loss(features):
        queries = query_tower(query_features(features))
        items = item_tower(features["item"])
        queries = first.distinct(queries, features["request"])
        return distinct_loss_of(
            queries, first.distinct(items, features["item"]), features
        )

    ways = {
        "plain": plain,
        "once": once,
        "distinct": distinct,
        "distinct loss": distinct_loss,
    }
    if KERAS == 2:
        import tensorflow_recommenders as tfrs

        theirs = tfrs.tasks.Retrieval(temperature=0.1, remove_accidental_hits=True)

        def tfrs_loss(features):
            queries = query_tower(query_features(features))
            items = item_tower(features["item"])
            # It has no rule for the user's other items.
            return theirs(
                queries, items, candidate_ids=features["item"], compute_metrics=False
            )

        ways["tfrs"] = tfrs_loss
    return {name: tf.function(way, reduce_retracing=True) for name, way in ways.items()}


def training_step(loss_of, variables, optimizer, signature):
    @tf.function(input_signature=[signature])
    def step(features):
        with tf.GradientTape() as tape:
            loss = loss_of(features)
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return step
