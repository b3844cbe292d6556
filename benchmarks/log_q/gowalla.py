"""Retrieval quality on Gowalla with and without log-Q, and with q learned.

    python benchmarks/log_q/gowalla.py --output benchmarks/log_q/gowalla.csv

Two towers of id embeddings are trained alike but for log q: none, from exact
counts, or learned from the stream. `gowalla.npz` (the split of LightGCN, He et
al. 2020) is looked for in TFRS_NEGATIVES_DATA. Each run becomes a row of the CSV
when it ends; runs that the CSV holds already are not run again. The settings were
fixed beforehand and nothing is chosen by the test interactions.
"""

import argparse
import os
import pathlib
import statistics
import sys
import time

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # Only Keras 2 has a fused Adam.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from tfrs_negatives import layers, tasks
from tfrs_negatives._keras import keras

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from provenance import provenance  # noqa: E402

PACKAGES = "tensorflow", "tf-keras", "numpy"

SETTINGS = ("none", "exact", "streaming")
WIDTH, TEMPERATURE, BATCH, RATE, TOP = 64, 0.1, 2048, 0.01, 20
MEASURES = ("recall_at_20", "ndcg_at_20")
FIELDS = (
    "setting seed epochs recall_at_20 ndcg_at_20 log_q_error seconds device versions "
    "commit"
).split()


def make_correction(setting, counts):
    if setting == "none":
        return None
    if setting == "exact":
        return layers.StaticFrequency(counts)
    return layers.StreamingFrequency()


def train(users, items, correction, seed, epochs):
    """Trains two towers and returns their unit embeddings of all ids."""
    keras.utils.set_random_seed(seed)
    shuffle = np.random.default_rng(seed)
    query_tower = keras.layers.Embedding(users.max() + 1, WIDTH)
    candidate_tower = keras.layers.Embedding(items.max() + 1, WIDTH)
    task = tasks.Retrieval(temperature=TEMPERATURE, sampling_correction=correction)
    optimizer = keras.optimizers.legacy.Adam(RATE)
    users, items = tf.constant(users), tf.constant(items)
    query_tower(users[:1]), candidate_tower(items[:1])
    tables = query_tower.trainable_weights + candidate_tower.trainable_weights

    @tf.function
    def run_epoch(order):
        total = 0.0
        for step in tf.range(len(users) // BATCH):
            rows = order[step * BATCH : (step + 1) * BATCH]
            ids = tf.gather(items, rows)
            with tf.GradientTape() as tape:
                loss = task(
                    tf.math.l2_normalize(query_tower(tf.gather(users, rows)), axis=1),
                    tf.math.l2_normalize(candidate_tower(ids), axis=1),
                    candidate_ids=ids,
                    training=True,
                )
            # Adam moves every row at every step; in one pass if gradients are
            # dense, in several if they are sparse.
            gradients = map(tf.convert_to_tensor, tape.gradient(loss, tables))
            optimizer.apply_gradients(zip(gradients, tables, strict=True))
            total += loss / BATCH
        return total / (len(users) // BATCH)

    for epoch in range(epochs):
        loss = run_epoch(tf.constant(shuffle.permutation(len(users))))
        print(f"  epoch {epoch + 1}: loss {loss:.4f}", flush=True)
    return [tf.math.l2_normalize(table, axis=1).numpy() for table in tables]


def evaluate(query_embeddings, candidate_embeddings, data, block=1024):
    """Mean Recall and NDCG at TOP over users, ranking all but their train items."""
    train = by_user(data["train_user"], data["train_item"])
    test = by_user(data["test_user"], data["test_item"])
    discounts = 1 / np.log2(np.arange(TOP) + 2)
    recalls, ndcgs = [], []
    for start in range(0, len(query_embeddings), block):
        scores = query_embeddings[start : start + block] @ candidate_embeddings.T
        scores[block_pairs(*train, start, block)] = -np.inf
        top = tf.math.top_k(scores, TOP).indices.numpy()
        relevant = np.zeros(scores.shape, bool)
        relevant[block_pairs(*test, start, block)] = True
        hits = np.take_along_axis(relevant, top, axis=1)
        sizes = relevant.sum(axis=1)
        ideal = np.cumsum(discounts)[np.clip(sizes, 1, TOP) - 1]
        recalls.append((hits.sum(axis=1) / np.maximum(sizes, 1))[sizes > 0])
        ndcgs.append((hits @ discounts / ideal)[sizes > 0])
    return np.concatenate(recalls).mean(), np.concatenate(ndcgs).mean()


def by_user(users, items):
    order = np.argsort(users, kind="stable")
    return users[order], items[order]


def block_pairs(users, items, start, block):
    """Rows and columns of the pairs of `block` users from `start` on."""
    first, last = np.searchsorted(users, [start, start + block])
    return users[first:last] - start, items[first:last]


def mean_error(correction, counts):
    """Nats between learned and exact log q, over the interactions."""
    learned = correction(tf.range(len(counts)), training=False).numpy()
    exact = np.log(np.maximum(counts, 1) / counts.sum())
    return np.average(np.abs(learned - exact), weights=counts)


def run(data, setting, seed, epochs):
    """A row of the CSV, but for where it was measured."""
    counts = np.bincount(data["train_item"])
    correction = make_correction(setting, counts)
    start = time.time()
    towers = train(data["train_user"], data["train_item"], correction, seed, epochs)
    seconds = time.time() - start
    recall, ndcg = evaluate(*towers, data)
    return {
        "setting": setting,
        "seed": seed,
        "epochs": epochs,
        "recall_at_20": f"{recall:.5f}",
        "ndcg_at_20": f"{ndcg:.5f}",
        "log_q_error": f"{mean_error(correction, counts):.4f}" if correction else "",
        "seconds": round(seconds),
    }


def report(results):
    """Prints the table and whether log-Q gives what it must."""
    print("\n| log q | seeds | Recall@20 | NDCG@20 | error of log q, nats |")
    print("|---|---|---|---|---|")
    recall = {}
    for setting in SETTINGS:
        runs = [r for r in results if r["setting"] == setting]
        if len(runs) < 2:
            raise SystemExit(f"Two seeds or more are needed, {setting} has {len(runs)}")
        cells = []
        for measure in MEASURES:
            values = [float(r[measure]) for r in runs]
            mean, deviation = statistics.mean(values), statistics.stdev(values)
            cells.append(f"{mean:.4f} ± {deviation:.4f}")
        recall[setting] = statistics.mean(float(r["recall_at_20"]) for r in runs)
        errors = [float(r["log_q_error"]) for r in runs if r["log_q_error"]]
        cells.append(f"{statistics.mean(errors):.3f}" if errors else "")
        print(f"| {setting} | {len(runs)} | {' | '.join(cells)} |")
    gain = min(recall["exact"], recall["streaming"]) - recall["none"]
    gap = recall["streaming"] - recall["exact"]
    print(f"\n{'PASS' if gain >= 0.05 else 'FAIL'}: log-Q adds {gain:.4f} (>= 0.05)")
    verdict = "PASS" if abs(gap) <= 0.003 else "FAIL"
    print(f"{verdict}: streaming is {gap:+.4f} from exact counts (within 0.003)")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "gowalla.csv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=9)
    arguments = parser.parse_args()

    folder = pathlib.Path(os.environ.get("TFRS_NEGATIVES_DATA", "../shared/data"))
    path = folder / "gowalla.npz"
    if not path.exists():
        raise SystemExit(f"{path} is missing: set TFRS_NEGATIVES_DATA to its folder.")
    data, about = dict(np.load(path)), provenance(PACKAGES)
    results = csv_rows.read(arguments.output)
    done = {(r["setting"], int(r["seed"]), int(r["epochs"])) for r in results}
    for seed in arguments.seeds:
        for setting in SETTINGS:
            if (setting, seed, arguments.epochs) in done:
                continue
            print(f"log q {setting}, seed {seed}", flush=True)
            results.append({**run(data, setting, seed, arguments.epochs), **about})
            print("  " + " ".join(str(results[-1][f]) for f in FIELDS[:7]), flush=True)
            csv_rows.append(arguments.output, FIELDS, results[-1])
    report([r for r in results if int(r["epochs"]) == arguments.epochs])


if __name__ == "__main__":
    main()
