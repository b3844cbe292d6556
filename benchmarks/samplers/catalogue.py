"""What training against every item costs, beside sampled negatives, by their number.

    python -m benchmarks.samplers.catalogue

A step of two embedding towers, 64 wide, with the loss, its gradients and LazyAdam, on
2,048 rows of 300 distinct users whose items are Zipf distributed. Both steps are given
each user and each item once:

* catalogue: all items are columns, `samplers.Catalogue`;
* sampled: the batch's items and 2,048 uniform draws, `layers.MixedLogQ`.

They take turns; the ratio is the median over turns.
"""

import pathlib

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.turns import alternate, medians, ratios
from tfrs_negatives import layers, samplers, tasks
from tfrs_negatives.optimizers import LazyAdam

ROWS = pathlib.Path(__file__).with_name("catalogue.csv")
PACKAGES = "tensorflow", "tf-keras", "keras", "numpy"
FIELDS = (
    "columns num_items batch users sampled width turns wall_ms cpu_ms "
    "over_sampled over_sampled_cpu"
).split() + WHERE


def batch_of(arguments, num_items):
    """Users and items of the rows, int64."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, num_items + 1)
    return {
        "user": tf.constant(rng.integers(arguments.users, size=arguments.batch)),
        "item": tf.constant(
            rng.choice(num_items, arguments.batch, p=shares / shares.sum())
        ),
    }


def make_steps(arguments, num_items):
    """Functions without arguments, by name, each with tables of its own."""
    batch = batch_of(arguments, num_items)
    items = np.arange(num_items)
    catalogue, uniform = samplers.Catalogue(items), samplers.Uniform(items)
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    drawn = iter(uniform.attach(dataset, arguments.sampled))
    options = {
        "temperature": 0.1,
        "remove_accidental_hits": True,
        "mask_shared_positives": True,
    }
    against_all = tasks.Retrieval(
        positive="negatives", sampling_correction=catalogue.log_q, **options
    )
    against_some = tasks.Retrieval(
        sampling_correction=layers.MixedLogQ(
            [layers.StreamingFrequency(), uniform.log_q]
        ),
        **options,
    )

    def of_catalogue(users, tower, features):
        columns = catalogue.columns(features["item"])
        return against_all(
            **users,
            candidate_embeddings=tower(columns.features),
            candidate_rows=columns.rows,
            candidate_ids=columns.ids,
        )

    def of_draws(users, tower, features):
        ids = tf.concat([features["item"], features["negatives"]], axis=0)
        distinct, places = tf.unique(ids)
        return against_some(
            **users,
            candidate_embeddings=tower(distinct),
            candidate_rows=places,
            candidate_ids=ids,
        )

    batches = {"catalogue": lambda: batch, "sampled": lambda: next(drawn)}
    return {
        name: step(arguments, num_items, loss, batches[name])
        for name, loss in (("catalogue", of_catalogue), ("sampled", of_draws))
    }


def step(arguments, num_items, loss, next_batch):
    towers = []
    for size in (arguments.users, num_items):
        towers.append(tf.keras.layers.Embedding(size, arguments.width))
        towers[-1].build(None)
    variables = [tower.embeddings for tower in towers]
    optimizer = LazyAdam(0.001)

    # Sizes unknown while tracing, as in training.
    @tf.function(reduce_retracing=True)
    def traced(features):
        with tf.GradientTape() as tape:
            distinct, rows = tf.unique(features["user"])
            users = {
                "query_embeddings": towers[0](distinct),
                "query_rows": rows,
                "query_keys": features["user"],
                "compute_metrics": False,
                "training": True,
            }
            value = loss(users, towers[1], features)
        gradients = tape.gradient(value, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return value

    return lambda: traced(next_batch()).numpy()


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument(
        "--items", type=int, nargs="+", default=[1000, 10_000, 40_000, 200_000]
    )
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--sampled", type=int, default=2048)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument(
        "--seconds", type=float, default=20, help="for each number of items"
    )
    arguments = command_line.parse(
        parser, items=[50, 100], batch=32, users=8, sampled=16, width=8, seconds=0.1
    )
    about, rows = provenance(PACKAGES), []
    for num_items in arguments.items:
        times = alternate(
            make_steps(arguments, num_items), arguments.seconds, swap=True
        )
        for name, taken in times.items():
            wall, cpu = ratios(taken, times["sampled"])
            row = {
                "columns": name,
                "num_items": num_items,
                "batch": arguments.batch,
                "users": arguments.users,
                "sampled": arguments.sampled,
                "width": arguments.width,
                **medians(taken),
                "over_sampled": round(wall, 2),
                "over_sampled_cpu": round(cpu, 2),
            }
            csv_rows.show(row)
            rows.append({**row, **about})
    csv_rows.write(arguments.output, FIELDS, rows)


if __name__ == "__main__":
    main()
