"""What the estimator costs: its share of a training step, and time an id.

    python benchmarks/log_q/cost.py --output benchmarks/log_q/cost.csv

The step with `StreamingFrequency` (in its default size) as log-Q and the step
without log-Q alternate, so that what else the machine does falls on both alike;
the share is the median of what two neighbouring steps differ by. Two steps are
timed: a whole training step of two embedding towers with Adam, and the loss with
its gradients alone. The layer by itself is timed for several H and m: learning
from a batch and looking it up. Ids follow Zipf's law over ten million.
"""

import argparse
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from streams import ZipfStream

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from provenance import provenance  # noqa: E402

PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "keras", "numpy"
FIELDS = (
    "what batch width num_buckets num_hashes repeats wall_ms wall_ms_without "
    "share_wall cpu_ms cpu_ms_without share_cpu cpu_ns_an_id device versions commit"
).split()
NUM_IDS, NUM_EMBEDDINGS = 10_000_000, 100_000


def alternate(functions, batches, seconds):
    """(wall, CPU) seconds [turns, 2] of each, taking turns on the same batches."""
    times = {name: [] for name in functions}
    for function in functions.values():
        function(*batches[0])
    end, turn = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or turn < 10:
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function(*batches[turn % len(batches)])
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        turn += 1
    return {name: np.array(taken) for name, taken in times.items()}


def training_step(correction, width):
    """Two embedding towers, the corrected loss, Adam."""
    import tensorflow as tf

    from tfrs_negatives.tasks import Retrieval

    towers = [
        tf.keras.layers.Embedding(NUM_EMBEDDINGS, width, name=name)
        for name in ("users", "items")
    ]
    task = Retrieval(
        temperature=0.1, remove_accidental_hits=True, sampling_correction=correction
    )
    optimizer = tf.keras.optimizers.Adam(0.01)
    variables = []
    for tower in towers:
        tower.build(None)
        variables += tower.trainable_variables

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)] * 2)
    def step(users, ids):
        with tf.GradientTape() as tape:
            loss = task(
                towers[0](users),
                towers[1](ids % NUM_EMBEDDINGS),
                candidate_ids=ids,
                query_keys=users,
                training=True,
            )
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return lambda users, ids: step(users, ids).numpy()


def loss_and_gradients(correction, width, batch):
    """The corrected loss of given embeddings, and both gradients."""
    import tensorflow as tf

    from tfrs_negatives.tasks import Retrieval

    task = Retrieval(
        temperature=0.1, remove_accidental_hits=True, sampling_correction=correction
    )
    embeddings = [
        tf.math.l2_normalize(tf.random.normal([batch, width], seed=seed), axis=1)
        for seed in (0, 1)
    ]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)] * 2)
    def step(users, ids):
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            loss = task(*embeddings, candidate_ids=ids, query_keys=users, training=True)
        return loss, tape.gradient(loss, embeddings)

    return lambda users, ids: step(users, ids)[0].numpy()


def measure_steps(batches, width, seconds):
    """The share of both kinds of step, as CSV rows."""
    from tfrs_negatives.layers import StreamingFrequency

    batch = len(batches[0][1])
    builders = {
        "training step": lambda correction: training_step(correction, width),
        "loss and gradients": lambda correction: loss_and_gradients(
            correction, width, batch
        ),
    }
    for what, build in builders.items():
        correction = StreamingFrequency()
        steps = {"with": build(correction), "without": build(None)}
        times = alternate(steps, batches, seconds)
        wall, cpu = np.median(times["with"], axis=0)
        wall_without, cpu_without = np.median(times["without"], axis=0)
        # Of neighbouring steps, which the machine's load changes alike.
        shares = np.median(times["with"] / times["without"], axis=0) - 1
        yield {
            "what": what,
            "batch": batch,
            "width": width,
            "num_buckets": correction.num_buckets,
            "num_hashes": correction.num_hashes,
            "repeats": len(times["with"]),
            "wall_ms": round(1e3 * wall, 2),
            "wall_ms_without": round(1e3 * wall_without, 2),
            "share_wall": round(shares[0], 4),
            "cpu_ms": round(1e3 * cpu, 2),
            "cpu_ms_without": round(1e3 * cpu_without, 2),
            "share_cpu": round(shares[1], 4),
        }


def measure_layer(batches, seconds):
    """Time of the layer alone at every H and m, as CSV rows."""
    import tensorflow as tf

    from tfrs_negatives.layers import StreamingFrequency

    for num_buckets in (2**16, 2**20, 12_500_000):
        for num_hashes in (1, 2, 4):
            layer = StreamingFrequency(num_buckets=num_buckets, num_hashes=num_hashes)
            layer(tf.constant([0], tf.int64))
            learn = tf.function(
                lambda users, ids, layer=layer: layer(ids, training=True),
                input_signature=[tf.TensorSpec([None], tf.int64)] * 2,
            )
            times = alternate({"layer": learn}, batches, seconds)["layer"]
            wall, cpu = np.median(times, axis=0)
            yield {
                "what": "layer",
                "batch": len(batches[0][1]),
                "num_buckets": num_buckets,
                "num_hashes": num_hashes,
                "repeats": len(times),
                "wall_ms": round(1e3 * wall, 3),
                "cpu_ms": round(1e3 * cpu, 3),
                "cpu_ns_an_id": round(1e9 * cpu / len(batches[0][1]), 1),
            }


def check(rows):
    for row in rows:
        if row["what"] != "layer":
            for time_of in ("cpu", "wall"):
                share = row[f"share_{time_of}"]
                verdict = "PASS" if share < 0.1 else "FAIL"
                print(f"{verdict} {row['what']}, {time_of}: {100 * share:.1f}% < 10%")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "cost.csv")
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60, help="a kind of step")
    parser.add_argument("--layer-seconds", type=float, default=2, help="an H and m")
    arguments = parser.parse_args()

    import tensorflow as tf

    stream = ZipfStream(NUM_IDS, seed=0)
    rng = np.random.default_rng(1)
    batches = [
        (
            tf.constant(rng.integers(NUM_EMBEDDINGS, size=arguments.batch)),
            tf.constant(stream.ids(arguments.batch)),
        )
        for _ in range(50)
    ]
    about, rows = provenance(PACKAGES), []
    for measured in (
        measure_steps(batches, arguments.width, arguments.seconds),
        measure_layer(batches, arguments.layer_seconds),
    ):
        for row in measured:
            rows.append({**row, **about})
            print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    csv_rows.write(arguments.output, FIELDS, rows)
    check(rows)


if __name__ == "__main__":
    main()
