"""The next item of a session: Diginetica in the split of the session papers.

    python -m benchmarks.recommender.sessions --seeds 0 1 2

Trains on the sessions of the training part as `tfrs-negatives train --query history
--repeats --temperature 0.07 --epochs 4` does on all rows, and asks for the item that
follows each beginning of a test session. The measures are those of Wu et al., "Session-
based recommendation with graph neural networks" (SR-GNN), AAAI 2019: the share of
beginnings whose next item is among the first 20 of all items (P@20), and the mean of
1 / rank, 0 beyond 20 (MRR@20). Items that the session has already may follow again, and
are ranked too.

With `--validation` the last twentieth of the training sessions stands in for the test.
"""

import dataclasses
import pathlib
import tempfile
import time

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.data_files import data_file
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from tfrs_negatives.recommender import Recommender, Settings, Source

ROWS = pathlib.Path(__file__).with_name("sessions.csv")
MEASURES = ["p_20", "mrr_20"]
FIELDS = ["part", "seed", "epochs", "temperature", "width", *MEASURES, "known_share"]
FIELDS += ["training_seconds", *WHERE]
K = 20
VALIDATION_SHARE = 0.05
# Temperature and epochs were chosen with `--validation`.
SETTINGS = Settings(
    query="history",
    history=20,
    repeats=True,
    temperature=0.07,
    epochs=4,
    patience=None,
)
# Scores at once.
_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class Sessions:
    """Sessions to train on, and beginnings of others with the item that follows.

    Attributes:
      session, item: [n] the training rows, in the order of clicks.
      beginnings: Ragged [B, (N)], the newest item last.
      following: [B].
    """

    session: np.ndarray
    item: np.ndarray
    beginnings: tf.RaggedTensor
    following: np.ndarray


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--steps-per-epoch", type=int)
    parser.add_argument("--epochs", type=int, default=SETTINGS.epochs)
    parser.add_argument("--temperature", type=float, default=SETTINGS.temperature)
    arguments = command_line.parse(parser, seeds=[0], steps_per_epoch=5, epochs=1)
    about = provenance(("tensorflow", "tensorflow-recommenders", "numpy"))
    sessions = read(data_file("diginetica.npz"), arguments.validation)
    settings = dataclasses.replace(
        SETTINGS,
        epochs=arguments.epochs,
        temperature=arguments.temperature,
        steps_per_epoch=arguments.steps_per_epoch,
    )
    for seed in arguments.seeds:
        row = {
            "part": "validation" if arguments.validation else "test",
            "seed": seed,
            **measured(sessions, settings, seed),
            **about,
        }
        csv_rows.show(row, FIELDS[: -len(WHERE)])
        csv_rows.append(arguments.output, FIELDS, row)


def measured(sessions, settings, seed):
    """The measures of a recommender, trained on all training sessions."""
    recommender = Recommender(settings, seed=seed)
    with tempfile.TemporaryDirectory(prefix="sessions.") as folder:
        table = {"session": sessions.session, "item": sessions.item}
        source = Source(table=table, columns={"user": "session"})
        parts = recommender.split(source, folder)
        start = time.perf_counter()
        recommender.train_on_all(parts)
        seconds = time.perf_counter() - start
    towers = recommender.towers
    queries = towers.user.embed({"history": sessions.beginnings})
    found = ranks(
        queries, towers.embed_items(), towers.training.item_ids, sessions.following
    )
    return {
        "epochs": settings.epochs,
        "temperature": settings.temperature,
        "width": queries.shape[1],
        **measures(found),
        "known_share": round(float(np.isfinite(found).mean()), 5),
        "training_seconds": round(seconds, 1),
    }


def read(path, validation):
    """`Sessions` of the file of the session papers' split."""
    with np.load(path) as columns:
        lengths = columns["train_len"]
        items = columns["train_items"].astype(np.int64)
        prefixes, prefix_lengths, following = (
            columns[f"test_{name}"].astype(np.int64)
            for name in ("prefix_items", "prefix_len", "target")
        )
    session = np.repeat(np.arange(len(lengths)), lengths)
    if not validation:
        beginnings = tf.RaggedTensor.from_row_lengths(prefixes, prefix_lengths)
        return Sessions(session, items, beginnings, following)
    num_trained = int(len(lengths) * (1 - VALIDATION_SHARE))
    stays = session < num_trained
    rest = np.split(items[~stays], np.cumsum(lengths[num_trained:])[:-1])
    pairs = [(one[:n], one[n]) for one in rest for n in range(1, len(one))]
    beginnings = tf.ragged.constant([list(one) for one, _ in pairs], tf.int64)
    following = np.array([item for _, item in pairs])
    return Sessions(session[stays], items[stays], beginnings, following)


def ranks(queries, items, item_ids, following):
    """Ranks from 1 of the items that follow [B]; infinite of those that are unknown.

    An item that scores as high stands before it.
    """
    places = np.minimum(np.searchsorted(item_ids, following), len(item_ids) - 1)
    is_known = item_ids[places] == following
    found = np.empty(len(queries))
    for start in range(0, len(queries), _BLOCK):
        rows = slice(start, start + _BLOCK)
        scores = queries[rows] @ items.T
        own = np.take_along_axis(scores, places[rows, np.newaxis], axis=1)
        found[rows] = (scores >= own).sum(axis=1)
    return np.where(is_known, found, np.inf)


def measures(found):
    """P@20 and MRR@20 of ranks [B], in percent as the papers have them."""
    gains = np.where(found <= K, 1 / found, 0.0)
    values = (found <= K).mean(), gains.mean()
    return {
        name: round(100 * float(v), 2) for name, v in zip(MEASURES, values, strict=True)
    }


if __name__ == "__main__":
    main()
