"""Where negatives come from, at equal steps: quality on two data sets.

    python -m benchmarks.sources.run

Two towers of unit embeddings (64, temperature .1, B = 2,048, Adam .01) trained alike,
with streaming log-Q, accidental hits and same-key pairs dropped, but for the source of
negatives (`SOURCES`). Each run becomes a row of the CSV when it ends; runs that it
holds already are not run again. Settings were fixed beforehand, none by test figures.
"""

import pathlib
import statistics
import time
import warnings

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.markdown import markdown, mean_and_deviation
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.problems.data_sets import load
from benchmarks.problems.recall import evaluate
from benchmarks.problems.towers import Table
from tfrs_negatives import callbacks, index, layers, models, samplers, tasks

keras = tf.keras
ROWS = pathlib.Path(__file__).with_name("results.csv")
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "numpy"
WIDTH, TEMPERATURE, BATCH, RATE = 64, 0.1, 2048, 0.01
NUM_UNIFORM, NUM_MEMORY, NUM_HARD = 2048, 4096, 2
SKIP, DEPTH = 100, 500  # Ranks 101 to 500, as Huang et al. (KDD 2020).
REFRESH_EPOCHS = 2
SOURCES = {
    "in-batch": {},
    "uniform": {"uniform": True},
    "memory": {"memory": True},
    "mined, ranks 101-500": {"mined": (SKIP, DEPTH)},
    "mined, ranks 1-10": {"mined": (0, 10)},
    "curriculum": {"mined": (SKIP, DEPTH), "curriculum": True},
}
MEASURES = "recall_at_20 recall_at_100 tail_recall_at_20 tail_recall_at_100".split()
FIGURES = ["data", "source", "seed", "epochs", *MEASURES, "seconds"]
FIELDS = [*FIGURES, *WHERE]


class TwoTowers(models.Model):
    """Towers of a problem, with the negatives that its batches bring."""

    def __init__(self, problem, correction, memory):
        super().__init__()
        self.problem = problem
        self.query_tower = problem.query_tower(WIDTH)
        self.item_tower = Table(problem.num_items, WIDTH)
        self.task = tasks.Retrieval(
            temperature=TEMPERATURE,
            remove_accidental_hits=True,
            sampling_correction=correction,
            memory=memory,
            reduction="sum_over_batch_size",
        )

    def compute_loss(self, batch, training=False):
        ids, hard = batch["item"], {}
        if "uniform" in batch:
            ids = tf.concat([ids, batch["uniform"]], axis=0)
        if "hard" in batch:
            hard = {
                "negative_embeddings": self.item_tower(batch["hard"]),
                "negative_ids": batch["hard"],
                "negative_mask": batch["hard_mask"],
            }
        return self.task(
            self.query_tower(self.problem.query_features(batch)),
            self.item_tower(ids),
            candidate_ids=ids,
            query_keys=self.problem.keys(batch),
            training=training,
            compute_metrics=False,
            **hard,
        )


def run(problem, source, seed, epochs):
    """Figures of one training run, but for where they were measured."""
    keras.utils.set_random_seed(seed)
    catalogue = np.arange(problem.num_items, dtype=np.int32)
    rows = {name: np.asarray(value, np.int32) for name, value in problem.rows.items()}
    num_steps = len(rows["item"]) // BATCH
    data = tf.data.Dataset.from_tensor_slices(rows)
    data = data.shuffle(len(rows["item"]), seed=seed).batch(BATCH, drop_remainder=True)
    correction = layers.StreamingFrequency(problem.num_items, dense=True)
    memory = None
    if "uniform" in source:
        uniform = samplers.Uniform(catalogue)
        data = uniform.attach(data, NUM_UNIFORM, name="uniform", seed=seed)
        correction = layers.MixedLogQ([correction, uniform.log_q])
    if "memory" in source:
        memory = layers.CrossBatchMemory(
            BATCH + NUM_MEMORY, WIDTH, num_keys=1, warm_up_steps=num_steps
        )
    model, called = TwoTowers(problem, correction, memory), []
    if "mined" in source:
        data = attach_mined(problem, model, source, data, seed, num_steps, called)
    model.compile(keras.optimizers.legacy.Adam(RATE))
    start = time.time()
    # Epochs of fewer batches would otherwise start the shuffling anew.
    model.fit(
        data.prefetch(2), epochs=epochs, callbacks=called, verbose=2, shuffle=False
    )
    seconds = time.time() - start
    figures = evaluate(problem, model.query_tower, model.item_tower(catalogue).numpy())
    return {
        **{name: f"{v:.5f}" for name, v in figures.items()},
        "seconds": f"{seconds:.0f}",
    }


def attach_mined(problem, model, source, data, seed, num_steps, called):
    """The dataset with hard negatives; adds the callbacks that renew them."""
    catalogue = np.arange(problem.num_items, dtype=np.int32)
    features, positives = problem.mining_queries()
    num_rows = problem.num_items if features is None else len(features)
    first, last = source["mined"]
    with warnings.catch_warnings():
        # Before the first refresh there are none, which would be warned of.
        warnings.simplefilter("ignore", UserWarning)
        mined = samplers.Mined(
            catalogue, [[]] * num_rows, problem.mined_by,
            range_min=first, range_max=last,
        )  # fmt: skip
        sampler = mined
        if "curriculum" in source:
            sampler = samplers.Mixture([samplers.Uniform(catalogue), mined], [1.0, 0.0])
        data = sampler.attach(data, NUM_HARD, per_row=True, name="hard", seed=seed)

    def batches(ids, features):
        return tf.data.Dataset.from_tensor_slices((ids, features)).batch(4096)

    queries = {}
    if features is not None:
        queries["queries"] = batches(np.arange(num_rows), features)
        queries["query_tower"] = model.query_tower
    called.append(
        callbacks.RefreshNegatives(
            mined,
            index.BruteForce(),
            batches(catalogue, catalogue),
            model.item_tower,
            **queries,
            every_epochs=REFRESH_EPOCHS,
            positives=positives,
            num_negatives=last,
            sampling="top",
            range_max=last,
        )
    )
    if "curriculum" in source:
        ramp = float(num_steps * problem.epochs)

        def hard_share(step):
            return min(step / ramp, 1.0)

        called.append(
            callbacks.NegativesCurriculum(
                {
                    "shares": (
                        sampler.weights,
                        lambda step: [1 - hard_share(step), hard_share(step)],
                    ),
                    "range_min": (
                        mined.range_min,
                        keras.optimizers.schedules.PolynomialDecay(300.0, ramp, 50.0),
                    ),
                }
            )
        )
    return data


def report(results):
    """Prints a table for each data set."""
    for data in dict.fromkeys(r["data"] for r in results):
        rows = []
        for source in SOURCES:
            runs = [r for r in results if (r["data"], r["source"]) == (data, source)]
            if runs:
                seconds = statistics.median(float(r["seconds"]) for r in runs)
                figures = [mean_and_deviation(r[m] for r in runs) for m in MEASURES]
                rows.append([source, str(len(runs)), *figures, f"{seconds:.0f}"])
        print(f"\n{data}\n{markdown(['negatives', 'seeds', *MEASURES, 's'], rows)}")


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument("--sets", nargs="+", default=["gowalla", "diginetica"])
    parser.add_argument("--sources", nargs="+", default=list(SOURCES), choices=SOURCES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="other than the problem's own")
    arguments = command_line.parse(parser, sets=["movielens"], seeds=[0], epochs=1)
    about, results = provenance(PACKAGES), csv_rows.read(arguments.output)
    done = {(r["data"], r["source"], int(r["seed"]), int(r["epochs"])) for r in results}
    for name in arguments.sets:
        problem = load(name)
        epochs = arguments.epochs or problem.epochs
        for seed in arguments.seeds:
            for source in arguments.sources:
                if (name, source, seed, epochs) in done:
                    continue
                print(f"{name}, {source}, seed {seed}", flush=True)
                row = {"data": name, "source": source, "seed": seed, "epochs": epochs}
                row |= run(problem, SOURCES[source], seed, epochs)
                csv_rows.show(row)
                results.append({**row, **about})
                csv_rows.append(arguments.output, FIELDS, results[-1])
    report(results)


if __name__ == "__main__":
    main()
