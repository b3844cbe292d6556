"""What a smaller StreamingFrequency costs: error of log q by its number of buckets.

    python benchmarks/log_q/sizes.py --output benchmarks/log_q/sizes.csv

Zipf streams without a switch; the error is that of `accuracy.py`. Every layer sees the
same batches.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from accuracy import PACKAGES, error, evaluation_ids
from streams import ZipfStream

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from provenance import provenance  # noqa: E402

from tfrs_negatives.layers import StreamingFrequency  # noqa: E402

FIELDS = "num_ids examples size num_buckets num_hashes mib error_nats taken device "
FIELDS = (FIELDS + "versions commit").split()
BATCH = 4096
# Examples of each stream; `sizes` names what a layer is made with.
EXAMPLES = {2_000: 2e6, 41_000: 4e6, 200_000: 4e6, 1_000_000: 8e6}


def sizes(num_ids):
    return {
        "2^16": {"num_buckets": 2**16},
        "default": {},
        "2^20": {"num_buckets": 2**20},
        "num_ids": {"num_ids": num_ids},
        "dense": {"num_ids": num_ids, "dense": True},
    }


def run(num_ids):
    """Rows of the CSV, but for where they were measured."""
    layers = {n: StreamingFrequency(**o) for n, o in sizes(num_ids).items()}
    learn = [
        tf.function(lambda ids, layer=layer: layer(ids, training=True))
        for layer in layers.values()
    ]
    stream = ZipfStream(num_ids, seed=0)
    for _ in range(int(EXAMPLES[num_ids]) // BATCH):
        ids = tf.constant(stream.ids(BATCH))
        for step in learn:
            step(ids)
    ids, weights = evaluation_ids(stream)
    for name, layer in layers.items():
        log_q = layer(tf.constant(ids)).numpy()
        yield {
            "num_ids": num_ids,
            "examples": int(EXAMPLES[num_ids]),
            "size": name,
            "num_buckets": layer.num_buckets,
            "num_hashes": layer.num_hashes,
            "mib": f"{16 * layer.num_buckets * layer.num_hashes / 2**20:.1f}",
            "error_nats": f"{error(log_q, np.log(stream.q[ids]), weights):.4f}",
            "taken": f"{np.mean(layer.variables[-1].numpy() > 0):.3f}",
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "sizes.csv")
    arguments = parser.parse_args()
    about = provenance(PACKAGES)
    rows = []
    for num_ids in EXAMPLES:
        for row in run(num_ids):
            rows.append({**row, **about})
            print(*(row[field] for field in FIELDS[:8]), flush=True)
    csv_rows.write(arguments.output, FIELDS, rows)


if __name__ == "__main__":
    main()
