"""The loss alone on request-sorted batches: of distinct embeddings, all rows, TFRS's.

    python benchmarks/requests/loss.py --output benchmarks/requests/loss.csv

Value and gradients in both embeddings for 8,192 rows of Online Retail in the order of
requests (TFRS_NEGATIVES_DATA), embeddings of 64, temperature .1, log q given:

* distinct: embeddings of distinct users and items, `query_rows` and `candidate_rows`;
* all rows: the same task, embeddings gathered before;
* tfrs: `tfrs.tasks.Retrieval`, which cannot drop the user's other items; accidental
  hits dropped.

They take turns; the ratio is the median over turns.
"""

import argparse
import os
import pathlib
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TFRS needs Keras 2.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_recommenders as tfrs

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from provenance import provenance  # noqa: E402
from turns import alternate, medians  # noqa: E402

from tfrs_negatives.tasks import Retrieval  # noqa: E402

PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "numpy"
BATCH, WIDTH, FIRST = 8192, 64, 50_000
FIELDS = (
    "loss batch width queries items turns wall_ms cpu_ms tfrs_over_this "
    "tfrs_over_this_cpu device versions commit"
).split()


def batch():
    """Numbers of the distinct users and items of each row; how many there are."""
    path = pathlib.Path(os.environ["TFRS_NEGATIVES_DATA"]) / "online_retail.parquet"
    frame = pd.read_parquet(path).sort_values(["request", "t"], kind="stable")
    frame = frame[FIRST : FIRST + BATCH]
    rows = {name: frame[name].factorize()[0] for name in ("user", "item")}
    sizes = {name: int(column.max()) + 1 for name, column in rows.items()}
    return {name: tf.constant(column) for name, column in rows.items()}, sizes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()

    rows, sizes = batch()
    rng = np.random.default_rng(0)
    tables = [
        tf.Variable(rng.normal(size=[n, WIDTH]) / 8, dtype=tf.float32)
        for n in sizes.values()
    ]
    counts = np.bincount(rows["item"], minlength=sizes["item"])
    log_q = tf.constant(np.log(counts / counts.sum()), tf.float32)
    ours = Retrieval(temperature=0.1, remove_accidental_hits=True)
    theirs = tfrs.tasks.Retrieval(temperature=0.1, remove_accidental_hits=True)

    def distinct(queries, items, user, item):
        return ours(
            queries,
            items,
            query_rows=user,
            candidate_rows=item,
            candidate_ids=item,
            query_keys=user,
            candidate_log_q=tf.gather(log_q, item),
        )

    def all_rows(queries, items, user, item):
        return ours(
            tf.gather(queries, user),
            tf.gather(items, item),
            candidate_ids=item,
            query_keys=user,
            candidate_log_q=tf.gather(log_q, item),
        )

    def tfrs_loss(queries, items, user, item):
        return theirs(
            tf.gather(queries, user),
            tf.gather(items, item),
            candidate_ids=item,
            candidate_sampling_probability=tf.exp(tf.gather(log_q, item)),
            compute_metrics=False,
        )

    def step(loss):
        # Sizes unknown while tracing, as in training.
        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)] * 2)
        def traced(user, item):
            with tf.GradientTape() as tape:
                value = loss(*tables, user, item)
            gradients = tape.gradient(value, tables)
            return value, [tf.convert_to_tensor(g) for g in gradients]

        return lambda: tf.nest.map_structure(
            lambda x: x.numpy(), traced(rows["user"], rows["item"])
        )

    steps = {
        "distinct": step(distinct),
        "all rows": step(all_rows),
        "tfrs": step(tfrs_loss),
    }
    found, expected = (tf.nest.flatten(steps[n]()) for n in ("distinct", "all rows"))
    for other, one in zip(found, expected, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5 * np.abs(one).max())
    times = alternate(
        {name: (function, 1) for name, function in steps.items()}, arguments.seconds
    )
    about, results = provenance(PACKAGES), []
    for name in steps:
        wall, cpu = np.median(times["tfrs"] / times[name], axis=0)
        row = {
            "loss": name,
            "batch": BATCH,
            "width": WIDTH,
            "queries": sizes["user"],
            "items": sizes["item"],
            **medians(times, name),
            "tfrs_over_this": round(float(wall), 1),
            "tfrs_over_this_cpu": round(float(cpu), 1),
        }
        print(row, flush=True)
        results.append({**row, **about})
    if arguments.output:
        csv_rows.write(arguments.output, FIELDS, results)


if __name__ == "__main__":
    main()
