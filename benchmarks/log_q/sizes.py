"""What a smaller StreamingFrequency costs: error of log q by its number of buckets.

    python -m benchmarks.log_q.sizes

Zipf streams without a switch; the error is that of `accuracy.py`. Every layer sees the
same batches.
"""

import pathlib

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.log_q.errors import error, evaluation_ids
from benchmarks.log_q.streams import ZipfStream
from tfrs_negatives.layers import StreamingFrequency

ROWS = pathlib.Path(__file__).with_name("sizes.csv")
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "keras", "numpy"
FIGURES = "num_ids examples size num_buckets num_hashes mib error_nats taken".split()
BATCH = 4096
# Examples of each stream, by its number of ids.
EXAMPLES = {2_000: 2e6, 41_000: 4e6, 200_000: 4e6, 1_000_000: 8e6}


def sizes(num_ids):
    """What the layers are made with, by name."""
    return {
        "2^16": {"num_buckets": 2**16},
        "default": {},
        "2^20": {"num_buckets": 2**20},
        "num_ids": {"num_ids": num_ids},
        "dense": {"num_ids": num_ids, "dense": True},
    }


def run(num_ids, examples):
    """Rows of the CSV, but for where they were measured."""
    layers = {n: StreamingFrequency(**o) for n, o in sizes(num_ids).items()}
    learn = [
        tf.function(lambda ids, layer=layer: layer(ids, training=True))
        for layer in layers.values()
    ]
    stream = ZipfStream(num_ids, seed=0)
    for _ in range(examples // BATCH):
        ids = tf.constant(stream.ids(BATCH))
        for step in learn:
            step(ids)
    ids, weights = evaluation_ids(stream)
    for name, layer in layers.items():
        log_q = layer(tf.constant(ids)).numpy()
        yield {
            "num_ids": num_ids,
            "examples": examples,
            "size": name,
            "num_buckets": layer.num_buckets,
            "num_hashes": layer.num_hashes,
            "mib": f"{16 * layer.num_buckets * layer.num_hashes / 2**20:.1f}",
            "error_nats": f"{error(log_q, np.log(stream.q[ids]), weights):.4f}",
            "taken": f"{np.mean(layer.variables[-1].numpy() > 0):.3f}",
        }


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--num-ids", type=int, nargs="+", default=list(EXAMPLES))
    parser.add_argument("--examples", type=int, help="of a stream")
    arguments = command_line.parse(parser, num_ids=[2_000], examples=10 * BATCH)
    about, rows = provenance(PACKAGES), []
    for num_ids in arguments.num_ids:
        examples = arguments.examples or int(EXAMPLES[num_ids])
        for row in run(num_ids, examples):
            rows.append({**row, **about})
            csv_rows.show(row)
    csv_rows.write(arguments.output, [*FIGURES, *WHERE], rows)


if __name__ == "__main__":
    main()
