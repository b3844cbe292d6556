"""What request-sorted data cost, and what masks and spreading give back.

    python -m benchmarks.requests.recovery
    python -m benchmarks.requests.plot
    python -m benchmarks.quality.report

The first makes every run of one batch size and number of epochs; `configs/requests.py`
of the quality benchmark names the calls that make the whole table, and the last command
writes it into `docs/results.md`.

Next-item prediction: a query is the mean of the last ten items before the row's (of the
user, on Diginetica of the session), and two towers of embeddings (64, unit length,
temperature .1) are trained with Adagrad and in-batch negatives, B = 128, log q from the
items' training counts. `online_retail_users` has an embedding of the user's id for a
query instead. A request is an invoice, a session, or a user's day (MovieLens); of
Diginetica's sessions a quarter trains. The same rows come, for as many epochs, in three
orders:

* shuffled: all rows at random;
* sorted: the rows of a request one after the other, requests at random;
* spread: sorted rows through `data.spread_requests`, 64 requests a batch or more, 8,192
  rows waiting;

to two tasks: plain is `tfrs.tasks.Retrieval`, masked is `tasks.Retrieval` with the
user's (the session's) other rows dropped by `query_keys`. Both drop accidental hits and
are given the same sampling probabilities.

Each order with each task has the same budget: every seed trains at every rate of
`RATES`, and the rate of the best validation recall@20, a mean over seeds, is reported.
Validation queries are not those reported: they are every other user's, or the first
half of Diginetica's test clicks. Each run becomes a row of the CSV when it ends; runs
that it holds are not run again.

The false-negative rate is that of the batches trained on: of pairs of a row and another
row's item, the share whose item is one that the row's user (session) has in training.
CPU seconds are those of training alone, memory is the process's peak during a run.
"""

import itertools

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.common import command_line, csv_rows
from benchmarks.common.costs import Clock
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.problems import data_sets, towers
from benchmarks.problems.histories import Histories
from benchmarks.problems.recall import evaluate
from benchmarks.requests.recovery_runs import BATCH, EPOCHS, ROWS
from tfrs_negatives import models, tasks
from tfrs_negatives.data import spread_requests

keras = tf.keras
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "numpy"
WIDTH, TEMPERATURE = 64, 0.1
RATES = (0.03, 0.1, 0.3, 1.0)
SPREAD, BUFFER = 0.5, 8192  # Requests, of the rows of a batch; rows.
LARGE = 10_000  # Rows of a table for which sparse gradients are cheaper.
ORDERS, TASKS = ("shuffled", "sorted", "spread"), ("plain", "masked")
MEASURES = ["false_negatives", "requests_a_batch", "recall_at_20", "recall_at_100"]
FIELDS = ["data", "order", "task", "rate", "seed", "epochs", "batch"]
FIELDS += ["validation_recall_at_20", *MEASURES, "cpu_seconds", "peak_mib", *WHERE]


def load(name):
    """A problem, its column of requests, and validation and test queries."""
    halves = slice(0, None, 2), slice(1, None, 2)
    if name == "diginetica":
        problem = data_sets.load(name)
        kept = problem.rows["session"] % 4 == 0
        problem.rows = {name: column[kept] for name, column in problem.rows.items()}
        return problem, "session", (slice(0, 30_000, 10), slice(30_858, None, 10))
    if name == "online_retail_users":
        return data_sets.load("online_retail"), "request", halves
    return Histories(data_sets.load(name)), "request", halves


class TwoTowers(models.Model):
    def __init__(self, problem, task):
        super().__init__()
        self.problem, self.masked = problem, task == "masked"
        is_large = problem.num_items > LARGE  # Adagrad moves the same rows either way.
        lookup = tf.gather if is_large else towers.dense_lookup
        self.query_tower = problem.query_tower(WIDTH, lookup)
        self.item_tower = towers.Table(problem.num_items, WIDTH, lookup)
        counts = np.bincount(problem.rows["item"], minlength=problem.num_items)
        self.probabilities = tf.constant(counts / counts.sum(), tf.float32)
        if self.masked:
            self.task = tasks.Retrieval(
                temperature=TEMPERATURE,
                remove_accidental_hits=True,
                reduction="sum_over_batch_size",
            )
        else:
            self.task = tfrs.tasks.Retrieval(
                keras.losses.CategoricalCrossentropy(
                    from_logits=True, reduction="sum_over_batch_size"
                ),
                temperature=TEMPERATURE,
                remove_accidental_hits=True,
            )

    def compute_loss(self, batch, training=False):
        masks = {"query_keys": self.problem.keys(batch)} if self.masked else {}
        return self.task(
            self.query_tower(self.problem.query_features(batch)),
            self.item_tower(batch["item"]),
            candidate_ids=batch["item"],
            candidate_sampling_probability=tf.gather(self.probabilities, batch["item"]),
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


def batches(problem, request, order, seed, epochs, size):
    """One epoch after the other, without their last incomplete batches."""
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        rows = epoch_rows(problem, request, order, rng)
        rows = {name: column.astype(np.int32) for name, column in rows.items()}
        data = tf.data.Dataset.from_tensor_slices(rows)
        data = data.batch(size, drop_remainder=order != "spread")
        if order == "spread":
            data = spread_requests(
                data,
                request,
                size,
                min_distinct_keys=int(SPREAD * size),
                buffer_size=BUFFER,
                seed=seed * epochs + epoch,
                drop_remainder=True,
            )
        yield data.prefetch(2)


def describe(problem, request, data, most=200):
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
        rates.append(false.sum() / (false.size - len(false)))
        requests.append(len(np.unique(batch[request])))
    return {
        "false_negatives": float(np.mean(rates)),
        "requests_a_batch": float(np.mean(requests)),
    }


def run(problem, request, parts, order, task, rate, seed, epochs, size):
    """Figures of one training run."""
    keras.utils.set_random_seed(seed)
    model = TwoTowers(problem, task)
    optimizer = keras.optimizers.legacy.Adagrad(rate, initial_accumulator_value=1e-6)

    @tf.function(reduce_retracing=True)
    def train_epoch(data):
        loss, steps = 0.0, 0.0
        for batch in data:
            with tf.GradientTape() as tape:
                step_loss = model.compute_loss(batch, training=True)
            variables = model.trainable_variables
            gradients = tape.gradient(step_loss, variables)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            loss, steps = loss + step_loss, steps + 1
        return loss / steps

    figures, clock, seconds = {}, Clock(forgets_peak=True), 0.0
    feed = batches(problem, request, order, seed, epochs, size)
    for epoch, data in enumerate(feed):
        figures = figures or describe(problem, request, data)
        before = clock.read()["cpu_seconds"]
        loss = float(train_epoch(data))
        seconds += clock.read()["cpu_seconds"] - before
        print(f"  epoch {epoch + 1} of {epochs}: {loss:.4f}", flush=True)
    items = model.item_tower(np.arange(problem.num_items, dtype=np.int32)).numpy()
    validation, test = (
        evaluate(problem, model.query_tower, items, part=part) for part in parts
    )
    figures |= {m: test[m] for m in MEASURES[2:]}
    figures["validation_recall_at_20"] = validation["recall_at_20"]
    figures = {name: f"{value:.5f}" for name, value in figures.items()}
    peak = f"{clock.read()['peak_mib']:.0f}"
    return figures | {"cpu_seconds": f"{seconds:.1f}", "peak_mib": peak}


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument("--sets", nargs="+", default=list(EPOCHS), choices=EPOCHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--orders", nargs="+", default=list(ORDERS), choices=ORDERS)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--epochs", type=int, help="other than the data set's own")
    parser.add_argument("--batch", type=int, default=BATCH, help="rows a batch")
    arguments = command_line.parse(
        parser, sets=["movielens"], seeds=[0], rates=[0.1], epochs=1, batch=1024
    )
    about, done = provenance(PACKAGES), set()
    settings = FIELDS[:7]
    for row in csv_rows.read(arguments.output):
        done.add(tuple(row[name] for name in settings))
    for name in arguments.sets:
        loaded, epochs = load(name), arguments.epochs or EPOCHS[name]
        for cell in itertools.product(
            arguments.seeds, arguments.orders, arguments.tasks, arguments.rates
        ):
            seed, order, task, rate = cell
            values = name, order, task, rate, seed, epochs, arguments.batch
            if tuple(map(str, values)) in done:
                continue
            print(*values, flush=True)
            found = run(*loaded, order, task, rate, seed, epochs, arguments.batch)
            keys = dict(zip(settings, values, strict=True))
            csv_rows.append(arguments.output, FIELDS, keys | found | about)


if __name__ == "__main__":
    main()
