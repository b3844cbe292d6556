"""What the estimator costs: its share of a training step, and time an id.

    python -m benchmarks.log_q.cost

The step with `StreamingFrequency` (in its default size) as log-Q and the step
without log-Q alternate, so that what else the machine does falls on both alike;
the share is the median of what two neighbouring steps differ by. Two steps are
timed: a whole training step of two embedding towers with Adam, and the loss with
its gradients alone. The layer by itself is timed for several H and m: learning
from a batch and looking it up. Ids follow Zipf's law over ten million.
"""

import pathlib

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.embedding_step import embedding_step
from benchmarks.common.markdown import verdict
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.turns import alternate, medians, share_of_step
from benchmarks.log_q.streams import ZipfStream
from tfrs_negatives.layers import StreamingFrequency
from tfrs_negatives.tasks import Retrieval

ROWS = pathlib.Path(__file__).with_name("cost.csv")
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "keras", "numpy"
FIELDS = (
    "what batch width num_buckets num_hashes repeats wall_ms wall_ms_without "
    "share_wall cpu_ms cpu_ms_without share_cpu cpu_ns_an_id"
).split() + WHERE
NUM_IDS, NUM_EMBEDDINGS = 10_000_000, 100_000


def make_task(correction):
    return Retrieval(
        temperature=0.1, remove_accidental_hits=True, sampling_correction=correction
    )


def training_step(correction, width):
    """Two embedding towers, the corrected loss, Adam."""
    step = embedding_step(make_task(correction), [NUM_EMBEDDINGS] * 2, width)
    return lambda users, ids: step(users, ids % NUM_EMBEDDINGS, ids).numpy()


def loss_and_gradients(correction, width, batch):
    """The corrected loss of given embeddings, and both gradients."""
    task = make_task(correction)
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
        times = alternate(steps, seconds, least=10, batches=batches)
        yield {
            "what": what,
            "batch": batch,
            "width": width,
            "num_buckets": correction.num_buckets,
            "num_hashes": correction.num_hashes,
            **share_of_step(times["with"], times["without"]),
        }


def measure_layer(batches, seconds):
    """Time of the layer alone at every H and m, as CSV rows."""
    for num_buckets in (2**16, 2**20, 12_500_000):
        for num_hashes in (1, 2, 4):
            layer = StreamingFrequency(num_buckets=num_buckets, num_hashes=num_hashes)
            layer(tf.constant([0], tf.int64))
            learn = tf.function(
                lambda users, ids, layer=layer: layer(ids, training=True),
                input_signature=[tf.TensorSpec([None], tf.int64)] * 2,
            )
            (times,) = alternate(
                {"layer": learn}, seconds, least=10, batches=batches
            ).values()
            row = medians(times, decimals=3)
            yield {
                "what": "layer",
                "batch": len(batches[0][1]),
                "num_buckets": num_buckets,
                "num_hashes": num_hashes,
                "repeats": row["turns"],
                "wall_ms": row["wall_ms"],
                "cpu_ms": row["cpu_ms"],
                "cpu_ns_an_id": round(1e6 * row["cpu_ms"] / len(batches[0][1]), 1),
            }


def check(rows):
    for row in rows:
        if row["what"] != "layer":
            for time_of in ("cpu", "wall"):
                share = row[f"share_{time_of}"]
                verdict(
                    share < 0.1, f"{row['what']}, {time_of}: {100 * share:.1f}% < 10%"
                )


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60, help="a kind of step")
    parser.add_argument("--layer-seconds", type=float, default=2, help="an H and m")
    arguments = command_line.parse(
        parser, batch=64, width=8, seconds=0.1, layer_seconds=0.1
    )
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
            csv_rows.show(row)
    csv_rows.write(arguments.output, FIELDS, rows)
    check(rows)


if __name__ == "__main__":
    main()
