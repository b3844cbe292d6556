"""Whether pipelines of requests keep up with the training step.

    python -m benchmarks.requests.throughput

Rows of Online Retail (request, user, item, country, hour) come one by one from memory
and are batched: by `batch` alone, by `group_by_request`, by the same with a buffer of
65,536 rows, and by `spread_requests` from such a buffer. "of slices": the rows come as
slices of 8,192 instead, as from a file's reader, so that what single rows cost `batch`
is not in it. The pipelines are timed alone, with nothing else to do.

The steps are those of once_per_key.py: with both towers on all rows, and with
everything once a request. All take turns; the ratio is the median of what neighbouring
turns give. Below 1 a pipeline keeps up, even if nothing of it overlaps with the step.
"""

import pathlib

import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.markdown import verdict
from benchmarks.common.pipelines import without_prefetch
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.turns import alternate, medians, ratios
from benchmarks.requests import request_steps
from tfrs_negatives.data import group_by_request, spread_requests

ROWS = pathlib.Path(__file__).with_name("throughput.csv")
FIELDS = (
    "what batch buffer turns wall_ms cpu_ms rows_a_second of_batch of_plain_step "
    "of_distinct_step"
).split() + WHERE


def pipelines(columns, batch_size, buffer_size):
    """Endless datasets of batches by name."""

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
    return {n: without_prefetch(d.repeat()) for n, d in datasets.items()}


def training_steps(sizes, batch):
    """The plain step and the distinct one, as functions to time."""
    query_tower, item_tower = request_steps.towers(sizes, 256)
    ways = request_steps.losses(query_tower, item_tower)
    ways["plain"](batch)
    variables = query_tower.trainable_variables + item_tower.trainable_variables
    signature = {n: tf.TensorSpec([None], tf.int64) for n in batch}
    steps = {}
    for name in ("plain", "distinct"):
        optimizer = tf.keras.optimizers.Adam(1e-4)
        step = request_steps.training_step(ways[name], variables, optimizer, signature)
        steps[name] = lambda step=step: step(batch).numpy()
    return steps


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--buffer", type=int, default=65_536)
    parser.add_argument("--seconds", type=float, default=120)
    arguments = command_line.parse(parser, batch=128, buffer=1024, seconds=0.1)
    columns, sizes = request_steps.columns()
    datasets = pipelines(columns, arguments.batch, arguments.buffer)
    iterators = {name: iter(dataset) for name, dataset in datasets.items()}
    steps = training_steps(sizes, next(iterators["group_by_request"]))
    functions = {n: (lambda i=i: next(i)) for n, i in iterators.items()}
    # More than a pass over the data a turn.
    repeats = dict.fromkeys(functions, 60)
    for name, number in (("plain", 4), ("distinct", 20)):
        functions[f"{name} step"], repeats[f"{name} step"] = steps[name], number
    times = alternate(functions, arguments.seconds, repeats=repeats)
    table, about = [], provenance(request_steps.PACKAGES)
    for name, taken in times.items():
        row = {"what": name, "batch": arguments.batch, "buffer": arguments.buffer}
        row |= medians(taken)
        row["rows_a_second"] = round(1e3 * arguments.batch / row["wall_ms"])
        row["of_batch"] = round(ratios(taken, times["batch"])[0], 2)
        for step in steps:
            ratio, _ = ratios(taken, times[f"{step} step"])
            row[f"of_{step}_step"] = round(ratio, 4)
        csv_rows.show(row)
        table.append({**row, **about})
    csv_rows.write(arguments.output, FIELDS, table)
    worst = max(row["of_plain_step"] for row in table if row["what"] in datasets)
    verdict(worst < 1, f"slowest pipeline / plain step: {worst:.3f} < 1")


if __name__ == "__main__":
    main()
