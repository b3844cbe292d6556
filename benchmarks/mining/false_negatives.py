"""How many mined negatives are really positives, by the rank they were mined at.

    python -m benchmarks.mining.false_negatives

MovieLens 1M (Harper and Konstan, ACM TiiS 2015): ratings of 4 and 5 are positives. A
fifth of each user's are held out; two towers of id embeddings are trained on the rest
and negatives mined with the known positives left out, so that a mined item that is held
out is a false negative. Three ways, each for the same known pairs of a user and an
item: by the user's embedding; the same with a margin of 5% below the score of the pair;
and by the item's embedding. Settings were fixed beforehand.
"""

import pathlib
import warnings

import numpy as np
import pandas as pd

from benchmarks.common import command_line, csv_rows
from benchmarks.common.data_files import data_file
from benchmarks.common.grouping import by_group, places_within
from benchmarks.common.markdown import markdown, mean_and_deviation, verdict
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.problems import id_towers
from tfrs_negatives import index, layers

ROWS = pathlib.Path(__file__).with_name("false_negatives.csv")
FIGURES = (
    "way seed epochs range_min range_max mined false_negatives rate mean_score"
).split()
BANDS = (0, 10, 20, 50, 100, 200, 500, 1000, 2000)
HELD_OUT, NUM_PAIRS, MARGIN = 0.2, 5_000, 0.05


def split(seed):
    """Positive pairs, users and items numbered from 0: known and held out."""
    table = pd.read_parquet(data_file("ml1m_no_timestamps.parquet"))
    table = table[table["rating"] >= 4]
    users = np.unique(table["user"], return_inverse=True)[1]
    items = np.unique(table["item"], return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    # The first fifth of each user's rows in random order.
    order = np.lexsort([rng.random(len(users)), users])
    users, items = users[order], items[order]
    held = places_within(users) < HELD_OUT * np.bincount(users)[users] - 0.5
    return (users[~held], items[~held]), (users[held], items[held])


def measure(mined_ids, scores, users, held_out):
    """How many were mined, how many of them are held out, and their mean score."""
    ids = mined_ids.flat_values.numpy()
    wrong = held_out[users[mined_ids.value_rowids().numpy()], ids]
    return len(ids), int(wrong.sum()), float(scores.flat_values.numpy().mean())


def run(seed, epochs):
    """Rows of the CSV of one model."""
    (users, items), (held_users, held_items) = split(seed)
    counts = np.bincount(items, minlength=max(items.max(), held_items.max()) + 1)
    # One more row, so that every item has an embedding.
    correction = layers.StaticFrequency(np.maximum(counts, 1))
    towers = id_towers.train(users, items, correction, seed, epochs)
    user_embeddings, item_embeddings = (tower.astype(np.float32) for tower in towers)
    num_users, num_items = len(user_embeddings), len(item_embeddings)
    held_out = np.zeros([num_users, num_items], bool)
    kept = held_items < num_items
    held_out[held_users[kept], held_items[kept]] = True
    known = by_group(num_users, users, items)
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
            found = (way, seed, epochs, low, high, num_mined, wrong)
            yield as_row(*found, f"{score:.4f}")
    # What an item drawn at random from those that are not known would be.
    unknown = int(sum(num_items - len(ids) for ids in positives))
    wrong = int(held_out[pair_users].sum())
    yield as_row("random", seed, epochs, 0, num_items, unknown, wrong, "")


def as_row(*values):
    """A row of the CSV; values are its columns but for the rate."""
    mined, wrong = values[5:7]
    *before, score = values
    return dict(zip(FIGURES, [*before, f"{wrong / mined:.6f}", score], strict=True))


def report(rows):
    """Prints the table and whether the rate falls with the rank."""
    ways = list(dict.fromkeys(row["way"] for row in rows if row["way"] != "random"))
    rates = {}
    for row in rows:
        key = row["way"], int(row["range_max"])
        rates.setdefault(key, []).append(100 * float(row["rate"]))
    lines = [
        [
            f"{low + 1:,}-{high:,}",
            *(mean_and_deviation(rates[way, high], 2) for way in ways),
        ]
        for low, high in zip(BANDS, BANDS[1:], strict=False)
    ]
    print("\n" + markdown(["ranks", *(f"{way}, %" for way in ways)], lines))
    random = np.mean([float(row["rate"]) for row in rows if row["way"] == "random"])
    print(f"\na random unknown item: {100 * random:.2f}%")
    of_seeds = zip(*(rates["user", high] for high in BANDS[1:]), strict=True)
    falls = all(
        above > below
        for found in of_seeds
        for above, below in zip(found, found[1:], strict=False)
    )
    verdict(falls, "by the user's embedding, every band has fewer than the last")


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    arguments = command_line.parse(parser, seeds=[0], epochs=1)
    about, rows = provenance(("tensorflow", "tf-keras", "numpy")), []
    for seed in arguments.seeds:
        print(f"seed {seed}", flush=True)
        rows += [{**row, **about} for row in run(seed, arguments.epochs)]
    csv_rows.write(arguments.output, [*FIGURES, *WHERE], rows)
    report(rows)


if __name__ == "__main__":
    main()
