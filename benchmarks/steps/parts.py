"""What a whole step is made of, each part alone.

    python -m benchmarks.steps.parts

The step of `benchmarks.steps.run` under the Keras that `TF_USE_LEGACY_KERAS` chooses,
on batches in memory, taken apart: the gather; gather and towers, with their gradients;
the loss alone, value and gradients on embeddings in memory; the optimizer alone, on
gradients in memory; all of it together. Beside it the input pipeline alone, as it
stands there, and as `tf.data` shuffles rows one by one. Parts take turns in one
process; the pipelines come last, as they read ahead.
"""

import pathlib

import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.pipelines import without_prefetch
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.turns import alternate, medians
from benchmarks.steps import two_towers
from benchmarks.steps.problem import Problem
from tfrs_negatives._keras import IS_KERAS_3
from tfrs_negatives.samplers import Uniform

ROWS = pathlib.Path(__file__).with_name("parts.csv")
PACKAGES = "tensorflow tensorflow-recommenders tf-keras keras numpy".split()
FIELDS = (
    "part keras optimizer users items width batch negatives turns wall_ms cpu_ms"
).split() + WHERE


def parts_of(model):
    """Functions of a batch's features and of `halves`, by name."""
    user_table, item_table = model.tables
    tables = model.trainable_variables

    @tf.function(autograph=False)
    def gather(features, given):
        items = tf.concat([features["item"], features["negatives"]], axis=0)
        users, columns = (tower.layers[0] for tower in model.towers)
        return users(features["user"]), columns(items)

    @tf.function(autograph=False)
    def towers(features, given):
        items = tf.concat([features["item"], features["negatives"]], axis=0)
        with tf.GradientTape() as tape:
            found = model.user_tower(features["user"]), model.item_tower(items)
        return tape.gradient(found, tables, given["embeddings"])

    @tf.function(autograph=False)
    def loss(features, given):
        items = tf.concat([features["item"], features["negatives"]], axis=0)
        with tf.GradientTape() as tape:
            tape.watch(given["embeddings"])
            value = model.loss_of(*given["embeddings"], items, features["user"], True)
        return value, tape.gradient(value, given["embeddings"])

    @tf.function(autograph=False)
    def update(features, given):
        items = tf.concat([features["item"], features["negatives"]], axis=0)
        gradients = [
            tf.IndexedSlices(values, ids, table.shape)
            for values, ids, table in zip(
                given["embeddings"],
                (features["user"], items),
                (user_table, item_table),
                strict=True,
            )
        ]
        model.optimizer.apply_gradients(zip(gradients, tables, strict=True))

    whole = two_towers.bare_step(model)
    return {
        "gather": gather,
        "gather and towers, forth and back": towers,
        "loss": loss,
        "optimizer": update,
        "all of it": lambda features, given: whole(features),
    }


def pipelines(problem):
    """Functions that take the next batch, by name."""
    columns = problem.columns()
    one_by_one = tf.data.Dataset.from_tensor_slices(columns).repeat()
    one_by_one = one_by_one.shuffle(100_000).batch(problem.batch)
    uniform = Uniform(tf.range(problem.items, dtype=tf.int64))
    datasets = {
        "input pipeline": two_towers.batches(problem),
        "rows shuffled one by one": uniform.attach(one_by_one, problem.negatives),
    }
    for name, dataset in datasets.items():
        rows = iter(without_prefetch(dataset))
        yield name, lambda rows=rows: next(rows)


def main():
    parser = command_line.parser(__doc__, ROWS)
    for name in ("users", "items", "width", "batch", "negatives"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Problem, name))
    parser.add_argument("--optimizer", choices=two_towers.OPTIMIZERS, default="lazy")
    parser.add_argument("--seconds", type=float, default=60)
    arguments = command_line.parse(
        parser, users=1000, items=500, width=8, batch=64, negatives=64, seconds=0.1
    )
    sizes = [arguments.users, arguments.items, arguments.width, arguments.batch]
    few = {"rows": 64 * arguments.batch} if arguments.quick else {}
    problem = Problem(*sizes, arguments.negatives, **few)
    model = two_towers.compiled(problem, "ours", arguments.optimizer)
    model.start_from(problem.tables())
    batches = [
        {name: tf.constant(ids) for name, ids in batch.items()}
        for batch in problem.batches_in_memory()
    ]
    normal = [
        tf.math.l2_normalize(tf.random.normal([rows, problem.width]), axis=1)
        for rows in (problem.batch, problem.batch + problem.negatives)
    ]
    given = [(batch, {"embeddings": normal}) for batch in batches]
    times = alternate(parts_of(model), arguments.seconds, batches=given)
    for name, function in pipelines(problem):
        times |= alternate({name: function}, arguments.seconds / 8, least=64)
    about = provenance(PACKAGES)
    for part, taken in times.items():
        row = {
            "part": part,
            "keras": 3 if IS_KERAS_3 else 2,
            "optimizer": arguments.optimizer,
            **{name: getattr(problem, name) for name in FIELDS[3:8]},
            **medians(taken),
        }
        csv_rows.show(row)
        csv_rows.append(arguments.output, FIELDS, {**row, **about})


if __name__ == "__main__":
    main()
