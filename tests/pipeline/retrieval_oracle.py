"""Best items and ranks by loops over all pairs, and the input that steps take."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from event_tables import events, write_folder
from item_towers import save_whole_numbers

from tfrs_negatives.pipeline import embed_rows, read_embeddings


def embedded(folder, num_users=60, num_items=90, strings=False, shards=(3, 4), seed=1):
    """Embeddings of users and items, and a log of events that has a few others.

    Dot products are small whole numbers: exact, with many ties.
    """
    columns = events(800, seed)
    columns["user"] = columns["user"] % (num_users + 5)
    columns["item"] = np.where(
        np.arange(len(columns["item"])) % 97, columns["item"], num_items + 4
    )
    given = {}
    for role, num, files in zip(
        ("user", "item"), (num_users, num_items), shards, strict=True
    ):
        table = {"id": np.arange(num), "number": np.arange(num)}
        if strings:
            table["id"] = np.array([f"é{n}" for n in range(num)], object)
            columns[role] = np.array([f"é{n}" for n in columns[role]], object)
        pq.write_table(pa.table(table), folder / f"{role}.parquet")
        tower = save_whole_numbers(folder / f"{role} tower", key="number")
        output = folder / f"{role}s"
        embed_rows(folder / f"{role}.parquet", output, tower, "id", shards=files)
        given[role] = output
    return given["user"], given["item"], write_folder(folder / "log", columns), columns


def arrays(folder):
    """Ids, a list, and embeddings."""
    ids, embeddings = zip(*read_embeddings(folder).as_numpy_iterator(), strict=True)
    return np.concatenate(ids).tolist(), np.concatenate(embeddings)


def items_of(columns):
    """The items of each user's positive rows, by user."""
    found = {}
    rows = zip(columns["user"], columns["item"], columns["label"], strict=True)
    for user, item, label in rows:
        if label > 0:
            user, item = (v.encode() if isinstance(v, str) else v for v in (user, item))
            found.setdefault(user, set()).add(item)
    return found


def best_items(queries, items, known):
    """For each query all items that are not known, best first, ties by position."""
    (user_ids, users), (item_ids, vectors) = queries, items
    found = {}
    for user, query in zip(user_ids, users, strict=True):
        scores = [float(np.dot(query.astype(float), v)) for v in vectors]
        order = sorted(range(len(item_ids)), key=lambda n: (-scores[n], n))
        out = known.get(user, set())
        found[user] = [
            (item_ids[n], scores[n]) for n in order if item_ids[n] not in out
        ]
    return found


def recalls(queries, items, positives, excluded, ks):
    """Recall and NDCG, means over the queries that have a positive."""
    (user_ids, users), (item_ids, vectors) = queries, items
    found = {f"corpus/{m}@{k}": [] for m in ("recall", "ndcg") for k in ks}
    for user, query in zip(user_ids, users, strict=True):
        own = positives.get(user, set())
        if not own:
            continue
        scores = {
            i: float(np.dot(query.astype(float), v))
            for i, v in zip(item_ids, vectors, strict=True)
        }
        others = [i for i in item_ids if i not in own | excluded.get(user, set())]
        ranks, ahead = [], 0
        for item in sorted((i for i in own if i in scores), key=lambda i: -scores[i]):
            ranks.append(1 + ahead + sum(scores[i] >= scores[item] for i in others))
            ahead += 1
        for k in ks:
            hits = [rank for rank in ranks if rank <= k]
            found[f"corpus/recall@{k}"].append(len(hits) / len(own))
            gain = sum(1 / math.log2(rank + 1) for rank in hits)
            ideal = sum(1 / math.log2(r + 2) for r in range(min(k, len(own))))
            found[f"corpus/ndcg@{k}"].append(gain / ideal)
    return {name: np.mean(values) for name, values in found.items()}
