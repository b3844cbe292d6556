"""The loss alone on request-sorted batches: of distinct embeddings, all rows, TFRS's.

    python -m benchmarks.requests.loss

Value and gradients in both embeddings for 8,192 rows of Online Retail in the order of
requests, embeddings of 64, temperature .1, log q given:

* distinct: embeddings of distinct users and items, `query_rows` and `candidate_rows`;
* all rows: the same task, embeddings gathered before;
* tfrs: `tfrs.tasks.Retrieval`, which cannot drop the user's other items; accidental
  hits dropped.

They take turns; the ratio is the median over turns.
"""

import pathlib

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.common import command_line, csv_rows
from benchmarks.common.data_files import data_file
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.turns import alternate, medians, ratios
from tfrs_negatives.tasks import Retrieval

ROWS = pathlib.Path(__file__).with_name("loss.csv")
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "numpy"
WIDTH, FIRST = 64, 50_000
FIELDS = (
    "loss batch width queries items turns wall_ms cpu_ms tfrs_over_this "
    "tfrs_over_this_cpu"
).split() + WHERE


def load(size):
    """Numbers of the distinct users and items of each row; how many there are."""
    frame = pd.read_parquet(data_file("online_retail.parquet"))
    frame = frame.sort_values(["request", "t"], kind="stable")[FIRST : FIRST + size]
    rows = {name: frame[name].factorize()[0] for name in ("user", "item")}
    sizes = {name: int(column.max()) + 1 for name, column in rows.items()}
    return {name: tf.constant(column) for name, column in rows.items()}, sizes


def make_steps(rows, sizes):
    """The steps by name: functions without arguments to value and gradients."""
    rng = np.random.default_rng(0)
    tables = [
        tf.Variable(rng.normal(size=[n, WIDTH]) / 8, dtype=tf.float32)
        for n in sizes.values()
    ]
    counts = np.bincount(rows["item"], minlength=sizes["item"])
    log_q = tf.constant(np.log(counts / counts.sum()), tf.float32)
    ours = Retrieval(temperature=0.1, remove_accidental_hits=True)
    theirs = tfrs.tasks.Retrieval(temperature=0.1, remove_accidental_hits=True)

    def corrected(queries, items, user, item, **maps):
        return ours(
            queries,
            items,
            candidate_ids=item,
            query_keys=user,
            candidate_log_q=tf.gather(log_q, item),
            **maps,
        )

    def distinct(queries, items, user, item):
        maps = {"query_rows": user, "candidate_rows": item}
        return corrected(queries, items, user, item, **maps)

    def all_rows(queries, items, user, item):
        embeddings = tf.gather(queries, user), tf.gather(items, item)
        return corrected(*embeddings, user, item)

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

    return {
        "distinct": step(distinct),
        "all rows": step(all_rows),
        "tfrs": step(tfrs_loss),
    }


def check_agreement(steps):
    """Raises unless both of our ways find the same value and gradients."""
    found, expected = (tf.nest.flatten(steps[n]()) for n in ("distinct", "all rows"))
    for other, one in zip(found, expected, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5 * np.abs(one).max())


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = command_line.parse(parser, batch=128, seconds=0.1)
    rows, sizes = load(arguments.batch)
    steps = make_steps(rows, sizes)
    check_agreement(steps)
    times = alternate(steps, arguments.seconds)
    about, results = provenance(PACKAGES), []
    for name in steps:
        wall, cpu = ratios(times["tfrs"], times[name])
        row = {
            "loss": name,
            "batch": arguments.batch,
            "width": WIDTH,
            "queries": sizes["user"],
            "items": sizes["item"],
            **medians(times[name]),
            "tfrs_over_this": round(wall, 1),
            "tfrs_over_this_cpu": round(cpu, 1),
        }
        csv_rows.show(row)
        results.append({**row, **about})
    csv_rows.write(arguments.output, FIELDS, results)


if __name__ == "__main__":
    main()
