"""What the metrics of negatives cost: their share of a training step.

    python -m benchmarks.negative_metrics.cost

A step with all metrics and the same step without them alternate, on the same batches,
so that what else the machine does falls on both alike; the share is the median of what
two neighbouring steps differ by. Two kinds of batches, of 8,192 rows at d = 64 with a
same-user rule, accidental hits and streaming log-Q:

* "shuffled": two embedding towers, every row with its own query and item;
* "requests": whole requests of 8 rows on average, whose query tower (three layers of
  256 on an embedding) runs once for each, and distinct items, with the maps
  `query_rows` and `candidate_rows`.

Of both a whole training step with Adam is timed, and the loss with its gradients
alone, which is most of it or little. Items follow Zipf's law; each row has 20 known
positives for `FalseNegativeRate`.
"""

import itertools
import pathlib

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.markdown import verdict
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.turns import alternate, share_of_step
from tfrs_negatives import metrics
from tfrs_negatives.layers import StreamingFrequency
from tfrs_negatives.tasks import Retrieval

ROWS = pathlib.Path(__file__).with_name("cost.csv")
PACKAGES = "tensorflow", "tf-keras", "keras", "numpy"
FIELDS = (
    "batches what rows_looked_at metrics batch width repeats wall_ms wall_ms_without "
    "share_wall cpu_ms cpu_ms_without share_cpu"
).split() + WHERE
NUM_USERS, NUM_ITEMS, POSITIVES = 100_000, 100_000, 20
ROWS_A_REQUEST = 8
LIMIT = 0.05


def all_metrics():
    """One of each kind, and the shares of the sources that there are."""
    counts = 1 / np.arange(1, NUM_ITEMS + 1)
    return [
        metrics.FalseNegativeRate(),
        metrics.FalseNegativeRate(after_masks=False),
        metrics.MaskRate(),
        metrics.MaskRate(of="rows"),
        metrics.NegativeHardness(),
        metrics.NegativeHardness("in_batch"),
        metrics.NegativeMix("in_batch"),
        metrics.PopularityShare(counts),
        metrics.PopularityShare(counts, by="mass"),
        metrics.DistinctKeys(),
    ]


def make_batches(kind, batch, number=30):
    """Users, items and positives of each batch."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, NUM_ITEMS + 1)
    edges = np.cumsum(share / share.sum())
    batches = []
    for _ in range(number):
        users = rng.integers(NUM_USERS, size=batch)
        if kind == "requests":
            requests = rng.integers(NUM_USERS, size=batch // ROWS_A_REQUEST)
            users = np.sort(rng.choice(requests, batch))
        drawn = np.searchsorted(edges, rng.random((batch, 1 + POSITIVES)))
        drawn = np.minimum(drawn, NUM_ITEMS - 1)
        batches.append(
            [tf.constant(x) for x in (users, drawn[:, 0], drawn[:, 1:].copy())]
        )
    return batches


def make_step(kind, what, with_metrics, width, limit):
    """A compiled step: users, items and positives to the loss."""
    keras = tf.keras
    task = Retrieval(
        temperature=0.1,
        remove_accidental_hits=True,
        sampling_correction=StreamingFrequency(),
        negative_metrics=all_metrics() if with_metrics else None,
        negative_metric_rows=limit,
    )
    users, items = (
        keras.layers.Embedding(size, width) for size in (NUM_USERS, NUM_ITEMS)
    )
    towers = [users, items]
    if kind == "requests":
        layers = [keras.layers.Dense(256, activation="relu") for _ in range(3)]
        towers[0] = keras.Sequential([users, *layers, keras.layers.Dense(width)])
    for tower in towers:
        tower(tf.constant([0]))
    optimizer = keras.optimizers.Adam(0.01)
    variables = [v for tower in towers for v in tower.trainable_variables]

    def distinct(ids):
        if kind == "shuffled":
            return ids, None
        return tf.unique(ids)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int64)] * 2
        + [tf.TensorSpec([None, POSITIVES], tf.int64)]
    )
    def step(users, ids, positives):
        (distinct_users, query_rows), (distinct_items, candidate_rows) = (
            distinct(users),
            distinct(ids),
        )
        with tf.GradientTape() as tape:
            embeddings = [
                towers[0](distinct_users),
                towers[1](distinct_items),
            ]
            if what == "loss and gradients":
                embeddings = [tf.math.l2_normalize(e, axis=1) for e in embeddings]
                tape.watch(embeddings)
            loss = task(
                *embeddings,
                candidate_ids=ids,
                query_keys=users,
                measured_positive_ids=positives,
                query_rows=query_rows,
                candidate_rows=candidate_rows,
                training=True,
            )
        if what == "loss and gradients":
            return loss, [tf.reduce_sum(g) for g in tape.gradient(loss, embeddings)]
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss, []

    return lambda *batch: step(*batch)[0].numpy()


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument(
        "--limits", type=int, nargs="+", default=[16, 8], help="rows that are looked at"
    )
    parser.add_argument("--seconds", type=float, default=60, help="a kind of step")
    arguments = command_line.parse(parser, batch=64, width=8, limits=[8], seconds=0.1)
    about, rows = provenance(PACKAGES), []
    for kind in ("shuffled", "requests"):
        batches = make_batches(kind, arguments.batch)
        for what, limit in itertools.product(
            ("training step", "loss and gradients"), arguments.limits
        ):
            steps = {
                name: make_step(kind, what, name == "with", arguments.width, limit)
                for name in ("with", "without")
            }
            times = alternate(
                steps, arguments.seconds, least=10, batches=batches, swap=True
            )
            row = {
                "batches": kind,
                "what": what,
                "rows_looked_at": limit,
                "metrics": len(all_metrics()),
                "batch": arguments.batch,
                "width": arguments.width,
                **share_of_step(times["with"], times["without"]),
            }
            csv_rows.show(row)
            rows.append({**row, **about})
    csv_rows.write(arguments.output, FIELDS, rows)
    for row in rows:
        if row["what"] == "training step":
            for time_of in ("cpu", "wall"):
                share = row[f"share_{time_of}"]
                looked_at = f"{row['batches']}, {row['rows_looked_at']} rows"
                verdict(share <= LIMIT, f"{looked_at}, {time_of}: {100 * share:.1f}%")


if __name__ == "__main__":
    main()
