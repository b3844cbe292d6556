"""How well users are served who were never in training, and would be if they were.

    python -m benchmarks.recommender.new_users movielens-100k --seeds 0 1 2

A tenth of the users, drawn by the seed, is held out whole: a second model never sees
them. Both are asked with what these users did before their held-out rows: the first by
id too, as it knows them.
"""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.recommender import sets
from tfrs_negatives.recommender import Recommender, Source, held_out_figures

ROWS = pathlib.Path(__file__).with_name("new_users.csv")
SHARE = 0.1
ROLES = "user", "item", "request", "time"
MEASURES = {"recall@50": "recall_50", "ndcg@10": "ndcg_10"}
FIELDS = ["set", "query", "unknown_share", "seed", "users", "model"]
FIELDS += [*MEASURES.values(), *WHERE]


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument("sets", nargs="*", default=["movielens-100k", "latest-small"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--query", default="user", choices=("user", "history"))
    parser.add_argument("--unknown-share", type=float, default=0.2)
    arguments = command_line.parse(parser, sets=["latest-small"], seeds=[0], epochs=1)
    about = provenance(("tensorflow", "tensorflow-recommenders", "numpy"))
    options = {
        "epochs": arguments.epochs,
        "query": arguments.query,
        "unknown_share": arguments.unknown_share,
    }
    for name in arguments.sets:
        with tempfile.TemporaryDirectory(prefix="new_users.") as folder:
            table = sets.interactions(name, pathlib.Path(folder))
            for seed in arguments.seeds:
                for model, found in measured(table, folder, seed, options).items():
                    row = {"set": name, **options, "seed": seed, "model": model}
                    row |= {field: found[m] for m, field in MEASURES.items()}
                    row = {
                        f: v for f, v in (row | found | about).items() if f in FIELDS
                    }
                    csv_rows.show(row, FIELDS[: -len(WHERE)])
                    csv_rows.append(arguments.output, FIELDS, row)


def measured(table, folder, seed, options):
    """Figures of a tenth of the users, by whether the model knows them."""
    users = np.unique(table.user)
    drawn = np.random.default_rng(seed).permutation(users)[: int(SHARE * len(users))]
    stays = ~np.isin(table.user, drawn)
    columns = {role: role for role in ROLES}
    knows, does_not = (Recommender(seed=seed, **options) for _ in range(2))
    parts = knows.split(Source(table=table), folder)
    knows.evaluate(parts)
    rest = {role: getattr(table, role)[stays] for role in ROLES}
    does_not.evaluate(does_not.split(Source(table=rest, columns=columns), folder))

    training = parts.training
    places = np.flatnonzero(np.isin(training.user_ids[parts.held_out.users], drawn))
    held_out = parts.held_out.of_users(places)
    histories = knows.towers.latest(held_out.users, training.histories)
    asked = {
        "user": tf.constant(training.user_ids[held_out.users]),
        "history": histories,
    }
    found = {}
    for model, recommender in (("trained on", knows), ("never seen", does_not)):
        towers = recommender.towers
        names = [feature.column for feature in towers.user.features]
        queries = towers.user.embed({name: asked[name] for name in names})
        items = _placed(towers, training.item_ids, queries)
        figures = held_out_figures.figures(
            queries, items, held_out, training.item_counts
        )
        found[model] = {**figures, "users": len(held_out.users)}
    return found


def _placed(towers, item_ids, queries):
    """Embeddings of `item_ids` [M, d]; unknown ones are far from all queries."""
    own = towers.training.item_ids
    places = np.minimum(np.searchsorted(own, item_ids), len(own) - 1)
    is_known = own[places] == item_ids
    away = -1e3 * queries.mean(axis=0)
    return np.where(is_known[:, np.newaxis], towers.embed_items()[places], away)


if __name__ == "__main__":
    main()
