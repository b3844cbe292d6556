"""Whether pipelines of requests keep up with the training step.

    python benchmarks/requests/throughput.py

Rows of Online Retail (TFRS_NEGATIVES_DATA; request, user, item, country, hour) come one
by one from memory and are batched: by `batch` alone, by `group_by_request`, by the same
with a buffer of 65,536 rows, and by `spread_requests` from such a buffer. "of slices":
the rows come as slices of 8,192 instead, as from a file's reader, so that what single
rows cost `batch` is not in it. The pipelines are timed alone, with nothing else to do.

The steps are those of once_per_key.py: with both towers on all rows, and with
everything once a request. All take turns; the ratio is the median of what neighbouring
turns give. Below 1 a pipeline keeps up, even if nothing of it overlaps with the step.
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
import once_per_key  # noqa: E402
from provenance import provenance  # noqa: E402
from turns import alternate, medians  # noqa: E402

FIELDS = (
    "what batch buffer turns wall_ms cpu_ms rows_a_second of_batch of_plain_step "
    "of_distinct_step device versions commit"
).split()


def pipelines(columns, batch_size, buffer_size):
    """Endless datasets of batches by name."""
    import tensorflow as tf

    from tfrs_negatives.data import group_by_request, spread_requests

    def group(dataset, **options):
        return group_by_request(dataset, "request", batch_size, **options)

    def spread(dataset):
        return spread_requests(
            dataset,
            "request",
            batch_size,
            min_distinct_keys=batch_size // 8,
            buffer_size=buffer_size,
            drop_remainder=True,
        )

    rows = tf.data.Dataset.from_tensor_slices(columns)
    held = {name: tf.constant(column) for name, column in columns.items()}
    starts = tf.data.Dataset.range(0, len(columns["request"]), 8_192)
    slices = starts.map(lambda i: {n: c[i : i + 8_192] for n, c in held.items()})
    datasets = {
        "batch": rows.batch(batch_size),
        "group_by_request": group(rows),
        "group_by_request, buffer": group(rows, buffer_size=buffer_size),
        "spread_requests": spread(rows),
        "group_by_request of slices": group(slices),
        "spread_requests of slices": spread(slices),
    }
    # tf.data would prefetch by itself, during the others' turns.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return {n: d.repeat().with_options(options) for n, d in datasets.items()}


def training_steps(sizes, batch):
    """The plain step and the distinct one, as functions to time."""
    import tensorflow as tf

    query_tower, item_tower = once_per_key.towers(sizes, 256)
    ways = once_per_key.losses(query_tower, item_tower)
    ways["plain"](batch)
    variables = query_tower.trainable_variables + item_tower.trainable_variables
    signature = {n: tf.TensorSpec([None], tf.int64) for n in batch}
    steps = {}
    for name in ("plain", "distinct"):
        optimizer = tf.keras.optimizers.Adam(1e-4)
        step = once_per_key.training_step(ways[name], variables, optimizer, signature)
        steps[name] = lambda step=step: step(batch).numpy()
    return steps


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "throughput.csv")
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--buffer", type=int, default=65_536)
    parser.add_argument("--seconds", type=float, default=120)
    arguments = parser.parse_args()

    columns, sizes = once_per_key.columns()
    datasets = pipelines(columns, arguments.batch, arguments.buffer)
    iterators = {name: iter(dataset) for name, dataset in datasets.items()}
    steps = training_steps(sizes, next(iterators["group_by_request"]))
    # More than a pass over the data a turn.
    functions = {n: ((lambda i=i: next(i)), 60) for n, i in iterators.items()}
    functions["plain step"] = steps["plain"], 4
    functions["distinct step"] = steps["distinct"], 20
    times = alternate(functions, arguments.seconds)
    table, about = [], provenance(once_per_key.PACKAGES)
    for name, taken in times.items():
        ratios = {
            f"of_{step}_step": round(
                float(np.median(taken[:, 0] / times[f"{step} step"][:, 0])), 4
            )
            for step in steps
        }
        row = medians(times, name)
        ratio = np.median(taken[:, 0] / times["batch"][:, 0])
        ratios["of_batch"] = round(float(ratio), 2)
        row["rows_a_second"] = round(1e3 * arguments.batch / row["wall_ms"])
        row = {"what": name, "batch": arguments.batch, **row, **ratios, **about}
        table.append({"buffer": arguments.buffer, **row})
        print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    csv_rows.write(arguments.output, FIELDS, table)
    worst = max(row["of_plain_step"] for row in table if row["what"] in datasets)
    verdict = "PASS" if worst < 1 else "FAIL"
    print(f"{verdict} slowest pipeline / plain step: {worst:.3f} < 1")


if __name__ == "__main__":
    main()
