"""What the metrics of negatives cost: their share of a training step.

    python benchmarks/negative_metrics/cost.py

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

import argparse
import itertools
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from provenance import provenance  # noqa: E402

PACKAGES = "tensorflow", "tf-keras", "keras", "numpy"
FIELDS = (
    "batches what rows_looked_at metrics batch width repeats wall_ms wall_ms_without "
    "share_wall cpu_ms cpu_ms_without share_cpu device versions commit"
).split()
NUM_USERS, NUM_ITEMS, POSITIVES = 100_000, 100_000, 20
ROWS_A_REQUEST = 8
LIMIT = 0.05


def alternate(functions, batches, seconds):
    """(wall, CPU) seconds [turns, 2] of each, taking turns on the same batches."""
    times = {name: [] for name in functions}
    for function in functions.values():
        function(*batches[0])
    end, turn = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or turn < 10:
        # Who goes first changes, as the second finds its batch in the cache.
        order = list(functions.items())[:: 1 if turn % 2 else -1]
        for name, function in order:
            wall, cpu = time.perf_counter(), time.process_time()
            function(*batches[turn % len(batches)])
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        turn += 1
    return {name: np.array(taken) for name, taken in times.items()}


def all_metrics():
    """One of each kind, and the shares of the sources that there are."""
    from tfrs_negatives import metrics

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
    import tensorflow as tf

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
    import tensorflow as tf

    from tfrs_negatives.layers import StreamingFrequency
    from tfrs_negatives.tasks import Retrieval

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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "cost.csv")
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument(
        "--limits", type=int, nargs="+", default=[16, 8], help="rows that are looked at"
    )
    parser.add_argument("--seconds", type=float, default=60, help="a kind of step")
    arguments = parser.parse_args()

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
            times = alternate(steps, batches, arguments.seconds)
            wall, cpu = np.median(times["with"], axis=0)
            wall_without, cpu_without = np.median(times["without"], axis=0)
            # Of neighbouring steps, which the machine's load changes alike.
            shares = np.median(times["with"] / times["without"], axis=0) - 1
            rows.append(
                {
                    "batches": kind,
                    "what": what,
                    "rows_looked_at": limit,
                    "metrics": len(all_metrics()),
                    "batch": arguments.batch,
                    "width": arguments.width,
                    "repeats": len(times["with"]),
                    "wall_ms": round(1e3 * wall, 2),
                    "wall_ms_without": round(1e3 * wall_without, 2),
                    "share_wall": round(shares[0], 4),
                    "cpu_ms": round(1e3 * cpu, 2),
                    "cpu_ms_without": round(1e3 * cpu_without, 2),
                    "share_cpu": round(shares[1], 4),
                    **about,
                }
            )
            print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    csv_rows.write(arguments.output, FIELDS, rows)
    for row in rows:
        if row["what"] == "training step":
            for time_of in ("cpu", "wall"):
                share = row[f"share_{time_of}"]
                verdict = "PASS" if share <= LIMIT else "FAIL"
                looked_at = f"{row['batches']}, {row['rows_looked_at']} rows"
                print(f"{verdict} {looked_at}, {time_of}: {100 * share:.1f}%")


if __name__ == "__main__":
    main()
