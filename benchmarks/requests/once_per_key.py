"""A training step on request-sorted batches, the query tower run once a request or not.

    python -m benchmarks.requests.once_per_key

Batches of whole requests of Online Retail (`group_by_request`), users in the order of
the file. The query tower embeds user, country and hour of the request and has three
layers of 256 and a projection; the item tower is an embedding. `tasks.Retrieval` drops
accidental hits and the user's other items; Adam. Steps:

* plain: both towers on all rows;
* once: `OncePerKey` around the query tower;
* distinct: `OncePerKey.distinct` of both towers, and the loss of distinct embeddings;
* distinct loss: the same loss, but both towers on all rows;
* tfrs: TFRS's task, both towers on all rows (Keras 2 only).

They take turns on the same batches, so that what else the machine does falls on all
alike; the ratio is the median of what neighbouring turns give. Before, one batch's loss
and gradients are compared.
"""

import pathlib

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.markdown import verdict
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.turns import alternate, medians, ratios
from benchmarks.requests import request_steps
from tfrs_negatives.data import group_by_request

ROWS = pathlib.Path(__file__).with_name("once_per_key.csv")
FIELDS = (
    "step batch width rows distinct_requests distinct_items turns wall_ms cpu_ms "
    "plain_over_this this_over_distinct"
).split() + WHERE


def gradients(loss_of, variables, features):
    """The loss, and its gradients as one vector."""
    with tf.GradientTape() as tape:
        loss = loss_of(features)
    parts = tape.gradient(loss, variables)
    flat = [tf.reshape(tf.convert_to_tensor(part), [-1]) for part in parts]
    return loss.numpy(), tf.concat(flat, 0).numpy()


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=150)
    arguments = command_line.parse(parser, batch=128, width=8, seconds=0.1)
    tf.keras.utils.set_random_seed(0)
    rows, sizes = request_steps.columns()
    dataset = tf.data.Dataset.from_tensor_slices(rows)
    data = list(group_by_request(dataset, "request", arguments.batch).take(8))
    query_tower, item_tower = request_steps.towers(sizes, arguments.width)
    ways = request_steps.losses(query_tower, item_tower)
    ways["plain"](data[0])
    variables = query_tower.trainable_variables + item_tower.trainable_variables
    expected = gradients(ways["plain"], variables, data[0])
    signature = {n: tf.TensorSpec([None], tf.int64) for n in data[0]}
    steps = {}
    for name, way in ways.items():
        if name != "tfrs":
            loss, gradient = gradients(way, variables, data[0])
            scale = np.abs(expected[1]).max()
            np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
            np.testing.assert_allclose(gradient / scale, expected[1] / scale, atol=1e-5)
        # Small steps: what is learned on the way changes no time.
        optimizer = tf.keras.optimizers.Adam(1e-4)
        step = request_steps.training_step(way, variables, optimizer, signature)

        def run(step=step):
            for features in data:
                step(features).numpy()

        steps[name] = run
    # A turn is all batches.
    times = alternate(steps, arguments.seconds)
    times = {name: taken / len(data) for name, taken in times.items()}
    mean = {
        "rows": np.mean([len(b["item"]) for b in data]),
        "distinct_requests": np.mean([len(np.unique(b["request"])) for b in data]),
        "distinct_items": np.mean([len(np.unique(b["item"])) for b in data]),
    }

    def ratio(above, below):
        return round(ratios(times[above], times[below])[0], 2)

    about, rows = provenance(request_steps.PACKAGES), []
    for name in times:
        row = {
            "step": name,
            "batch": arguments.batch,
            "width": arguments.width,
            **{key: round(value) for key, value in mean.items()},
            **medians(times[name]),
            "plain_over_this": ratio("plain", name),
            "this_over_distinct": ratio(name, "distinct"),
        }
        csv_rows.show(row)
        rows.append({**row, **about})
    csv_rows.write(arguments.output, FIELDS, rows)
    for name in ("plain", "distinct loss"):
        over = ratio(name, "distinct")
        verdict(over >= 3, f"{name} / distinct: {over} >= 3")


if __name__ == "__main__":
    main()
