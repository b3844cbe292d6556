"""Recall against the number of replicas, with local and with global negatives.

    python -m benchmarks.replicas.recall --replicas 1 2 4 8 --seeds 0 1 2

MovieLens 100k (TensorFlow Datasets, in the folder `tfds` of TFRS_NEGATIVES_DATA): the
last fifth of each user's ratings, by time, is held out, and what a user has rated
before is not ranked. Two towers of ids (64, unit length, temperature .05, log q from
the items' counts, accidental hits and the user's other items dropped, Adam .005), the
same batches of 64 rows for 2 epochs whatever the number of replicas: 8 replicas have 8
rows each. That is few on purpose, so that what replicas cost can be seen with 1,682
items.

Replicas are logical devices of the processor, under `MirroredStrategy`. Each run
becomes a row of the CSV when it ends; runs that it holds are not run again. A model is
traced once and starts from each seed anew. With one
replica both kinds of negatives are the same, which runs once.
"""

import pathlib
import time

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.data_files import data_file
from benchmarks.common.grouping import places_within
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.replicas import make_logical_processors, on_logical_processors
from benchmarks.problems.recall import evaluate
from benchmarks.problems.towers import Table
from benchmarks.problems.users import Users
from tfrs_negatives import data, layers, models, tasks

keras = tf.keras
ROWS = pathlib.Path(__file__).with_name("recall.csv")
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "numpy"
WIDTH, TEMPERATURE, RATE, HELD_OUT = 64, 0.05, 0.005, 0.2
NEGATIVES = "local", "global"
FIELDS = (
    "negatives replicas batch epochs seed loss recall_at_20 recall_at_100 "
    "tail_recall_at_20 tail_recall_at_100 seconds"
).split() + WHERE


class TwoTowers(models.Model):
    def __init__(self, problem, global_negatives):
        super().__init__()
        counts = np.bincount(problem.rows["item"], minlength=problem.num_items)
        self.query_tower = Table(problem.num_users, WIDTH)
        self.item_tower = Table(problem.num_items, WIDTH)
        self.task = tasks.Retrieval(
            temperature=TEMPERATURE,
            remove_accidental_hits=True,
            sampling_correction=layers.StaticFrequency(counts),
            reduction="sum_over_batch_size",
            global_negatives=global_negatives,
        )

    def compute_loss(self, batch, training=False):
        return self.task(
            self.query_tower(batch["user"]),
            self.item_tower(batch["item"]),
            candidate_ids=batch["item"],
            query_keys=batch["user"],
            compute_metrics=False,
            training=training,
        )


def load():
    """MovieLens 100k without the last fifth of each user's ratings."""
    folder = str(data_file("tfds"))
    table = data.interactions(tfds="movielens/100k-ratings", data_dir=folder)
    user, item = (
        np.unique(x, return_inverse=True)[1] for x in (table.user, table.item)
    )
    order = np.lexsort([table.time, user])
    user, item = user[order], item[order]
    kept = np.ceil((1 - HELD_OUT) * np.bincount(user))
    in_test = places_within(user) >= kept[user]
    rows = {"user": user[~in_test], "item": item[~in_test]}
    return Users(rows, user[in_test], item[in_test])


class Trainer:
    """A model on so many replicas, traced once and trained from each seed."""

    def __init__(self, problem, negatives, replicas):
        self._problem, self._strategy = problem, on_logical_processors(replicas)
        with self._strategy.scope():
            self._model = TwoTowers(problem, negatives == "global")
            self._optimizer = keras.optimizers.Adam(RATE)
            self._optimizer.build(self._model.trainable_variables)
            self._model.compile(self._optimizer, steps_per_execution=25)
        self._start = [v.numpy() for v in self._optimizer.variables]

    def run(self, batch, epochs, seed):
        """Trains and evaluates; returns loss and recalls."""
        rng = np.random.default_rng(seed)
        with self._strategy.scope():
            for table in self._model.trainable_variables:
                table.assign(rng.uniform(-0.05, 0.05, table.shape).astype("float32"))
            for variable, value in zip(
                self._optimizer.variables, self._start, strict=True
            ):
                variable.assign(value)
        rows = {n: c.astype(np.int32) for n, c in self._problem.rows.items()}
        batches = tf.data.Dataset.from_tensor_slices(rows)
        batches = batches.shuffle(len(rows["item"]), seed=seed)
        batches = batches.batch(batch, drop_remainder=True).prefetch(2)
        history = self._model.fit(batches, epochs=epochs, verbose=0).history
        items = self._model.item_tower(tf.range(self._problem.num_items)).numpy()
        found = evaluate(self._problem, self._model.query_tower, items)
        return {
            "loss": round(history["loss"][-1], 4),
            **{name: round(value, 5) for name, value in found.items()},
        }


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = command_line.parse(
        parser, replicas=[2], seeds=[0], batch=1024, epochs=1
    )
    make_logical_processors(max(arguments.replicas))
    rows = csv_rows.read(arguments.output)
    done = {tuple(row[name] for name in FIELDS[:5]) for row in rows}
    problem, about = load(), provenance(PACKAGES)
    for replicas in arguments.replicas:
        for negatives in NEGATIVES[replicas == 1 :]:
            trainer = None
            for seed in arguments.seeds:
                key = negatives, replicas, arguments.batch, arguments.epochs, seed
                if tuple(map(str, key)) in done:
                    continue
                started = time.perf_counter()
                trainer = trainer or Trainer(problem, negatives, replicas)
                figures = trainer.run(arguments.batch, arguments.epochs, seed)
                named = dict(zip(FIELDS[:5], key, strict=True))
                row = {**named, **figures, **about}
                row["seconds"] = round(time.perf_counter() - started, 1)
                csv_rows.show(row, FIELDS[:-3])
                csv_rows.append(arguments.output, FIELDS, row)


if __name__ == "__main__":
    main()
