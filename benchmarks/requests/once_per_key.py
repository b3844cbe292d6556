"""A training step on request-sorted batches, the query tower run once a request or not.

    python benchmarks/requests/once_per_key.py

Batches of whole requests of Online Retail (`group_by_request`, TFRS_NEGATIVES_DATA),
users in the order of the file. The query tower embeds user, country and hour of the
request and has three layers of 256 and a projection; the item tower is an embedding.
`tasks.Retrieval` drops accidental hits and the user's other items; Adam. Steps:

* plain: both towers on all rows;
* once: `OncePerKey` around the query tower;
* distinct: `OncePerKey.distinct` of both towers, and the loss of distinct embeddings;
* distinct loss: the same loss, but both towers on all rows;
* tfrs: TFRS's task, both towers on all rows (Keras 2 only).

They take turns on the same batches, so that what else the machine does falls on all
alike; the ratio is the median of what neighbouring turns give. Before, one batch's loss
and gradients are compared.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from provenance import provenance  # noqa: E402
from turns import alternate, medians  # noqa: E402

PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "keras", "numpy"
FIELDS = (
    "step batch width rows distinct_requests distinct_items turns wall_ms cpu_ms "
    "plain_over_this this_over_distinct device versions commit"
).split()
WIDTH = 64


def columns():
    """Online Retail's rows, ids counted from 0, and how many ids there are of each."""
    import pandas as pd

    path = pathlib.Path(os.environ["TFRS_NEGATIVES_DATA"]) / "online_retail.parquet"
    frame = pd.read_parquet(path)
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
    import tensorflow as tf

    keras = tf.keras

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
    import tensorflow as tf

    from tfrs_negatives._keras import IS_KERAS_3
    from tfrs_negatives.layers import OncePerKey
    from tfrs_negatives.tasks import Retrieval

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
    if not IS_KERAS_3:
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
    import tensorflow as tf

    @tf.function(input_signature=[signature])
    def step(features):
        with tf.GradientTape() as tape:
            loss = loss_of(features)
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return step


def gradients(loss_of, variables, features):
    """The loss, and its gradients as one vector."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_of(features)
    parts = tape.gradient(loss, variables)
    flat = [tf.reshape(tf.convert_to_tensor(part), [-1]) for part in parts]
    return loss.numpy(), tf.concat(flat, 0).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=pathlib.Path, default=HERE / "once_per_key.csv"
    )
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=150)
    arguments = parser.parse_args()

    import tensorflow as tf

    from tfrs_negatives.data import group_by_request

    tf.keras.utils.set_random_seed(0)
    rows, sizes = columns()
    dataset = tf.data.Dataset.from_tensor_slices(rows)
    data = list(group_by_request(dataset, "request", arguments.batch).take(8))
    query_tower, item_tower = towers(sizes, arguments.width)
    ways = losses(query_tower, item_tower)
    ways["plain"](data[0])
    variables = query_tower.trainable_variables + item_tower.trainable_variables
    expected = gradients(ways["plain"], variables, data[0])
    signature = {n: tf.TensorSpec([None], tf.int64) for n in data[0]}
    steps = {}
    for name, way in ways.items():
        if name != "tfrs":
            loss, gradient = gradients(way, variables, data[0])
            scale = np.abs(expected[1]).max()
            np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
            np.testing.assert_allclose(gradient / scale, expected[1] / scale, atol=1e-5)
        # Small steps: what is learned on the way changes no time.
        optimizer = tf.keras.optimizers.Adam(1e-4)
        step = training_step(way, variables, optimizer, signature)
        turn = {"batch": -1}

        def run(step=step, turn=turn):
            turn["batch"] += 1
            step(data[turn["batch"] % len(data)]).numpy()

        steps[name] = (run, len(data))

    times = alternate(steps, arguments.seconds)
    mean = {
        "rows": np.mean([len(b["item"]) for b in data]),
        "distinct_requests": np.mean([len(np.unique(b["request"])) for b in data]),
        "distinct_items": np.mean([len(np.unique(b["item"])) for b in data]),
    }

    def ratio(above, below):
        return round(float(np.median(times[above][:, 0] / times[below][:, 0])), 2)

    about = provenance(PACKAGES)
    rows = [
        {
            "step": name,
            "batch": arguments.batch,
            "width": arguments.width,
            **{key: round(value) for key, value in mean.items()},
            **medians(times, name),
            "plain_over_this": ratio("plain", name),
            "this_over_distinct": ratio(name, "distinct"),
            **about,
        }
        for name in times
    ]
    csv_rows.write(arguments.output, FIELDS, rows)
    for row in rows:
        print("  ".join(f"{k} {v}" for k, v in row.items()))
    for name in ("plain", "distinct loss"):
        verdict = "PASS" if ratio(name, "distinct") >= 3 else "FAIL"
        print(f"{verdict} {name} / distinct: {ratio(name, 'distinct')} >= 3")


if __name__ == "__main__":
    main()
