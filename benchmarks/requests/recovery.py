"""What request-sorted data cost, and what masks and spreading give back.

    python benchmarks/requests/recovery.py --data online_retail diginetica --seeds 0 1 2

Two towers (64, unit length, temperature .1, B = 512, Adam .005 decaying to 0 by a
cosine), trained on the same rows for as many epochs, that come in three orders:

* shuffled: all rows at random;
* sorted: the rows of a request (an invoice, a session) one after the other, requests in
  a random order of each epoch;
* spread: sorted rows through `data.spread_requests`, 256 requests a batch, 8,192 rows
  waiting;

and with two tasks: plain (no option, which is TFRS's loss) and masked (no negatives
of the same user or session, nor the positive's item again). Each run becomes a row of
the CSV when it ends; runs that it holds are not run again. The false-negative rate is
that of the batches trained on: of pairs of a row and another row's item, the share
whose item is one of the row's user (session) in training.
"""

import argparse
import csv
import os
import pathlib
import statistics
import sys
import time

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # Only Keras 2 has a fused Adam.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

HERE = pathlib.Path(__file__).parent
sys.path += [str(HERE.parent), str(HERE.parent / "sources")]

from problems import Table, evaluate, load  # noqa: E402
from provenance import provenance  # noqa: E402

from tfrs_negatives import data as data_lib  # noqa: E402
from tfrs_negatives import models, tasks  # noqa: E402
from tfrs_negatives._keras import keras  # noqa: E402

PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "numpy"
WIDTH, TEMPERATURE, BATCH, RATE = 64, 0.1, 512, 0.005
SPREAD, BUFFER = 256, 8192
REQUEST = {"online_retail": "request", "diginetica": "session"}
ORDERS, TASKS = ("shuffled", "sorted", "spread"), ("plain", "masked")
MEASURES = "false_negatives requests_a_batch recall_at_20 recall_at_100".split()
FIELDS = ["data", "order", "task", "seed", "epochs", *MEASURES, "seconds"]
FIELDS += ["device", "versions", "commit"]


class TwoTowers(models.Model):
    def __init__(self, problem, masked):
        super().__init__()
        self.problem, self.masked = problem, masked
        self.query_tower = problem.query_tower(WIDTH)
        self.item_tower = Table(problem.num_items, WIDTH)
        self.task = tasks.Retrieval(
            temperature=TEMPERATURE,
            remove_accidental_hits=masked,
            reduction="sum_over_batch_size",
        )

    def compute_loss(self, batch, training=False):
        masks = {}
        if self.masked:
            masks = {"query_keys": self.problem.keys(batch)}
        return self.task(
            self.query_tower(self.problem.query_features(batch)),
            self.item_tower(batch["item"]),
            candidate_ids=batch["item"],
            compute_metrics=False,
            **masks,
        )


def epoch_rows(problem, request, order, rng):
    """The rows of one epoch, in their order."""
    rows = problem.rows
    size = len(rows["item"])
    if order == "shuffled":
        places = rng.permutation(size)
    else:
        turn = rng.permutation(rows[request].max() + 1)
        places = np.argsort(turn[rows[request]], kind="stable")
    return {name: np.asarray(column)[places] for name, column in rows.items()}


def batches(problem, request, order, seed, epochs):
    """One epoch after the other, without their last incomplete batches."""
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        rows = epoch_rows(problem, request, order, rng)
        rows = {name: column.astype(np.int32) for name, column in rows.items()}
        data = tf.data.Dataset.from_tensor_slices(rows)
        if order == "spread":
            data = data_lib.spread_requests(
                data.batch(BATCH),
                request,
                BATCH,
                min_distinct_keys=SPREAD,
                buffer_size=BUFFER,
                seed=seed * epochs + epoch,
                drop_remainder=True,
            )
        else:
            data = data.batch(BATCH, drop_remainder=True)
        yield data


def describe(problem, request, data, most=100):
    """False-negative rate and distinct requests of a dataset's first batches."""
    key = "user" if "user" in problem.rows else "session"
    width = problem.num_items
    known = np.unique(problem.rows[key].astype(np.int64) * width + problem.rows["item"])
    rates, requests = [], []
    for batch in data.take(most).as_numpy_iterator():
        pairs = batch[key].astype(np.int64)[:, None] * width + batch["item"][None, :]
        places = np.minimum(np.searchsorted(known, pairs), len(known) - 1)
        false = known[places] == pairs
        np.fill_diagonal(false, False)
        rates.append(false.sum() / (BATCH * (BATCH - 1)))
        requests.append(len(np.unique(batch[request])))
    return float(np.mean(rates)), float(np.mean(requests))


def run(name, problem, order, task, seed, epochs):
    """Figures of one training run."""
    keras.utils.set_random_seed(seed)
    request = REQUEST[name]
    model = TwoTowers(problem, task == "masked")
    num_steps = epochs * (len(problem.rows["item"]) // BATCH)
    decay = keras.optimizers.schedules.CosineDecay(RATE, num_steps)
    optimizer = keras.optimizers.legacy.Adam(decay)

    @tf.function(reduce_retracing=True)
    def train_step(batch):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
        variables = model.trainable_variables
        optimizer.apply_gradients(
            zip(tape.gradient(loss, variables), variables, strict=True)
        )
        return loss

    start, described = time.time(), None
    for epoch, data in enumerate(batches(problem, request, order, seed, epochs)):
        if described is None:
            described = describe(problem, request, data)
        losses = [train_step(batch) for batch in data.prefetch(2)]
        print(f"  epoch {epoch + 1} of {epochs}: {np.mean(losses):.4f}", flush=True)
    seconds = time.time() - start
    catalogue = np.arange(problem.num_items, dtype=np.int32)
    figures = evaluate(problem, model.query_tower, model.item_tower(catalogue).numpy())
    figures |= dict(zip(MEASURES[:2], described, strict=True))
    return {m: f"{figures[m]:.5f}" for m in MEASURES} | {"seconds": f"{seconds:.0f}"}


def report(results):
    """Prints a table for each data set."""
    for data in dict.fromkeys(r["data"] for r in results):
        print(f"\n{data}\n| order | task | seeds | " + " | ".join(MEASURES) + " |")
        print("|---" * (len(MEASURES) + 3) + "|")
        for order in ORDERS:
            for task in TASKS:
                wanted = (data, order, task)
                runs = [
                    r for r in results if (r["data"], r["order"], r["task"]) == wanted
                ]
                cells = []
                for measure in MEASURES if runs else ():
                    values = [float(r[measure]) for r in runs]
                    spread = statistics.stdev(values) if len(values) > 1 else 0.0
                    cells.append(f"{statistics.mean(values):.4f} ± {spread:.4f}")
                if runs:
                    print(f"| {order} | {task} | {len(runs)} | " + " | ".join(cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "recovery.csv")
    parser.add_argument("--data", nargs="+", default=list(REQUEST), choices=REQUEST)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--orders", nargs="+", default=list(ORDERS), choices=ORDERS)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--epochs", type=int, help="other than the problem's own")
    arguments = parser.parse_args()

    about, results = provenance(PACKAGES), []
    if arguments.output.exists():
        with open(arguments.output, newline="") as file:
            results = list(csv.DictReader(file))
    settings = ("data", "order", "task", "seed", "epochs")
    done = {tuple(r[s] for s in settings) for r in results}
    for name in arguments.data:
        problem = load(name)
        epochs = arguments.epochs or problem.epochs
        for seed in arguments.seeds:
            for order in arguments.orders:
                for task in arguments.tasks:
                    setting = (name, order, task, str(seed), str(epochs))
                    if setting in done:
                        continue
                    print(" ".join(setting), flush=True)
                    row = dict(zip(settings, setting, strict=True))
                    row |= run(name, problem, order, task, seed, epochs)
                    results.append(row | about)
                    with open(arguments.output, "w", newline="") as file:
                        writer = csv.DictWriter(file, FIELDS)
                        writer.writeheader()
                        writer.writerows(results)
    report(results)


if __name__ == "__main__":
    main()
