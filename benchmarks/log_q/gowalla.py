"""Retrieval quality on Gowalla with and without log-Q, and with q learned.

    python -m benchmarks.log_q.gowalla

Two towers of id embeddings are trained alike but for log q: none, from exact
counts, or learned from the stream. `gowalla.npz` has the split of LightGCN (He et
al. 2020). Each run becomes a row of the CSV when it ends; runs that the CSV holds
already are not run again. The settings were fixed beforehand and nothing is chosen
by the test interactions.
"""

import pathlib
import statistics
import time

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.markdown import markdown, mean_and_deviation, verdict
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.problems import id_towers
from benchmarks.quality import splits
from benchmarks.quality.evaluate import evaluate
from benchmarks.quality.rankers import Factors
from tfrs_negatives import layers

ROWS = pathlib.Path(__file__).with_name("gowalla.csv")
PACKAGES = "tensorflow", "tf-keras", "numpy"
SETTINGS = ("none", "exact", "streaming")
FIGURES = "setting seed epochs recall_at_20 ndcg_at_20 log_q_error seconds".split()
FIELDS = [*FIGURES, *WHERE]


def make_correction(setting, counts):
    if setting == "none":
        return None
    if setting == "exact":
        return layers.StaticFrequency(counts)
    return layers.StreamingFrequency()


def mean_error(correction, counts):
    """Nats between learned and exact log q, over the interactions."""
    learned = correction(tf.range(len(counts)), training=False).numpy()
    exact = np.log(np.maximum(counts, 1) / counts.sum())
    return np.average(np.abs(learned - exact), weights=counts)


def run(split, setting, seed, epochs):
    """A row of the CSV, but for where it was measured."""
    counts = split.train.item_counts()
    correction = make_correction(setting, counts)
    start = time.time()
    users, items = split.train.users, split.train.items
    towers = id_towers.train(users, items, correction, seed, epochs)
    seconds = time.time() - start
    found = evaluate(Factors(*towers), split)
    return {
        "setting": setting,
        "seed": seed,
        "epochs": epochs,
        "recall_at_20": f"{found['recall_at_20']:.5f}",
        "ndcg_at_20": f"{found['ndcg_at_20']:.5f}",
        "log_q_error": f"{mean_error(correction, counts):.4f}" if correction else "",
        "seconds": round(seconds),
    }


def report(results):
    """Prints the table and whether log-Q gives what it must."""
    rows, recall = [], {}
    for setting in SETTINGS:
        runs = [r for r in results if r["setting"] == setting]
        if not runs:
            raise SystemExit(f"{setting} has no runs: nothing to compare.")
        recall[setting] = statistics.mean(float(r["recall_at_20"]) for r in runs)
        errors = [float(r["log_q_error"]) for r in runs if r["log_q_error"]]
        measures = ("recall_at_20", "ndcg_at_20")
        rows.append(
            [
                setting,
                str(len(runs)),
                *(mean_and_deviation(r[measure] for r in runs) for measure in measures),
                f"{statistics.mean(errors):.3f}" if errors else "",
            ]
        )
    header = ["log q", "seeds", "Recall@20", "NDCG@20", "error of log q, nats"]
    print("\n" + markdown(header, rows) + "\n")
    gain = min(recall["exact"], recall["streaming"]) - recall["none"]
    gap = recall["streaming"] - recall["exact"]
    verdict(gain >= 0.05, f"log-Q adds {gain:.4f} (>= 0.05)")
    verdict(abs(gap) <= 0.003, f"streaming is {gap:+.4f} from exact (within 0.003)")


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=9)
    arguments = command_line.parse(parser, seeds=[0], epochs=1)
    split, about = splits.load("gowalla"), provenance(PACKAGES)
    results = csv_rows.read(arguments.output)
    done = {(r["setting"], int(r["seed"]), int(r["epochs"])) for r in results}
    for seed in arguments.seeds:
        for setting in SETTINGS:
            if (setting, seed, arguments.epochs) in done:
                continue
            print(f"log q {setting}, seed {seed}", flush=True)
            results.append({**run(split, setting, seed, arguments.epochs), **about})
            csv_rows.show(results[-1], FIGURES)
            csv_rows.append(arguments.output, FIELDS, results[-1])
    report([r for r in results if int(r["epochs"]) == arguments.epochs])


if __name__ == "__main__":
    main()
