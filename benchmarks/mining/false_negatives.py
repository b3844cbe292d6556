"""How many mined negatives are really positives, by the rank they were mined at.

    python benchmarks/mining/false_negatives.py

MovieLens 1M (Harper and Konstan, ACM TiiS 2015; `ml1m_no_timestamps.parquet` is looked
for in TFRS_NEGATIVES_DATA): ratings of 4 and 5 are positives. A fifth of each user's
are held out; two towers of id embeddings are trained on the rest and negatives mined
with the known positives left out, so that a mined item that is held out is a false
negative. Three ways, each for the same known pairs of a user and an item: by the user's
embedding; the same with a margin of 5% below the score of the pair; and by the item's
embedding. Settings were fixed beforehand.
"""

import argparse
import os
import pathlib
import sys
import warnings

HERE = pathlib.Path(__file__).parent
sys.path += [str(HERE.parent), str(HERE.parent / "log_q")]

# Chooses Keras 2, which must be done before TensorFlow is imported.
import csv_rows  # noqa: E402
import gowalla  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from provenance import provenance  # noqa: E402

from tfrs_negatives import index, layers  # noqa: E402

BANDS = (0, 10, 20, 50, 100, 200, 500, 1000, 2000)
HELD_OUT, NUM_PAIRS, MARGIN = 0.2, 5_000, 0.05
FIELDS = (
    "way seed epochs range_min range_max mined false_negatives rate mean_score device "
    "versions commit"
).split()


def split(path, seed):
    """Positive pairs, users and items numbered from 0: known and held out."""
    table = pd.read_parquet(path)
    table = table[table["rating"] >= 4]
    users = np.unique(table["user"], return_inverse=True)[1]
    items = np.unique(table["item"], return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    # The first fifth of each user's rows in random order.
    order = np.lexsort([rng.random(len(users)), users])
    users, items = users[order], items[order]
    sizes = np.bincount(users)
    place = np.arange(len(users)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    held = place < HELD_OUT * sizes[users] - 0.5
    return (users[~held], items[~held]), (users[held], items[held])


def by_user(users, items, num_users):
    """A list of item arrays, one a user."""
    order = np.argsort(users, kind="stable")
    ends = np.cumsum(np.bincount(users, minlength=num_users))[:-1]
    return np.split(items[order], ends)


def measure(mined_ids, scores, users, held_out):
    """How many were mined, how many of them are held out, and their mean score."""
    ids = mined_ids.flat_values.numpy()
    wrong = held_out[users[mined_ids.value_rowids().numpy()], ids]
    return len(ids), int(wrong.sum()), float(scores.flat_values.numpy().mean())


def run(path, seed, epochs):
    """Rows of the CSV of one model."""
    (users, items), (held_users, held_items) = split(path, seed)
    counts = np.bincount(items, minlength=max(items.max(), held_items.max()) + 1)
    # One more row, so that every item has an embedding.
    correction = layers.StaticFrequency(np.maximum(counts, 1))
    towers = gowalla.train(users, items, correction, seed, epochs)
    user_embeddings, item_embeddings = (tower.astype(np.float32) for tower in towers)
    num_users, num_items = len(user_embeddings), len(item_embeddings)
    held_out = np.zeros([num_users, num_items], bool)
    kept = held_items < num_items
    held_out[held_users[kept], held_items[kept]] = True
    known = by_user(users, items, num_users)
    pairs = np.random.default_rng(seed).choice(len(users), NUM_PAIRS, replace=False)
    pair_users, pair_items = users[pairs], items[pairs]
    corpus = index.BruteForce().index(item_embeddings)
    pair_embeddings = item_embeddings[pair_items]
    margin = {"relative_margin": MARGIN, "positive_embeddings": pair_embeddings}
    ways = {
        "user": (user_embeddings[pair_users], {}),
        "user, margin": (user_embeddings[pair_users], margin),
        "item": (pair_embeddings, {}),
    }
    positives = [known[user] for user in pair_users]
    for way, (queries, options) in ways.items():
        for low, high in zip(BANDS, BANDS[1:], strict=False):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Rows are short where the list ends.
                mined = index.mine_hard_negatives(
                    corpus,
                    queries,
                    high - low,
                    positives=positives,
                    range_min=low,
                    range_max=high,
                    sampling="top",
                    progress=False,
                    **options,
                )
            num_mined, wrong, score = measure(*mined, pair_users, held_out)
            yield {
                "way": way,
                "seed": seed,
                "epochs": epochs,
                "range_min": low,
                "range_max": high,
                "mined": num_mined,
                "false_negatives": wrong,
                "rate": f"{wrong / num_mined:.6f}",
                "mean_score": f"{score:.4f}",
            }
    # What an item drawn at random from those that are not known would be.
    unknown = int(sum(num_items - len(row) for row in positives))
    wrong = int(held_out[pair_users].sum())
    yield {
        "way": "random",
        "seed": seed,
        "epochs": epochs,
        "range_min": 0,
        "range_max": num_items,
        "mined": unknown,
        "false_negatives": wrong,
        "rate": f"{wrong / unknown:.6f}",
        "mean_score": "",
    }


def report(rows):
    """Prints the table and whether the rate falls with the rank."""
    ways = list(dict.fromkeys(row["way"] for row in rows))
    seeds = sorted({row["seed"] for row in rows})
    print("\n| ranks | " + " | ".join(ways[:-1]) + " |")
    print("|---" * len(ways) + "|")
    falls = True
    for low, high in zip(BANDS, BANDS[1:], strict=False):
        cells = []
        for way in ways[:-1]:
            values = [
                float(row["rate"])
                for seed in seeds
                for row in rows
                if (row["way"], row["seed"], int(row["range_max"])) == (way, seed, high)
            ]
            cells.append(f"{100 * np.mean(values):.2f}% ± {100 * np.std(values):.2f}")
        print(f"| {low + 1:,}-{high:,} | " + " | ".join(cells) + " |")
    for seed in seeds:
        rates = [
            float(row["rate"])
            for row in rows
            if (row["way"], row["seed"]) == ("user", seed)
        ]
        falls &= all(a > b for a, b in zip(rates, rates[1:], strict=False))
    random = np.mean([float(row["rate"]) for row in rows if row["way"] == "random"])
    print(f"\na random unknown item: {100 * random:.2f}%")
    verdict = "PASS" if falls else "FAIL"
    print(f"{verdict}: by the user's embedding, every band has fewer than the last")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=pathlib.Path, default=HERE / "false_negatives.csv"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    folder = pathlib.Path(os.environ.get("TFRS_NEGATIVES_DATA", "../shared/data"))
    path = folder / "ml1m_no_timestamps.parquet"
    if not path.exists():
        raise SystemExit(f"{path} is missing: set TFRS_NEGATIVES_DATA to its folder.")
    about = provenance(("tensorflow", "tf-keras", "numpy"))
    rows = []
    for seed in arguments.seeds:
        print(f"seed {seed}", flush=True)
        rows += [{**row, **about} for row in run(path, seed, arguments.epochs)]
    csv_rows.write(arguments.output, FIELDS, rows)
    report(rows)


if __name__ == "__main__":
    main()
