"""A small export whose items change, what it must answer, and a client that changes
it."""

import random

import filter_oracle
import numpy as np
import tensorflow as tf
from served_models import Client, normal

from tfrs_negatives.index import export_live_retrieval

NUM, WIDTH = 30, 6
TOKEN = "a-token-for-tests-0123"


class ItemsClient(Client):
    """Speaks REST, and names the admin token."""

    def change(self, kind, body, path="", **headers):
        """Status, and the answer's JSON."""
        headers = {"Authorization": f"Bearer {TOKEN}", **headers}
        return self.predict(body, f"{path}:{kind}", **headers)


def items(seed, ids):
    """Random items as an upsert has them in JSON."""
    rng = random.Random(seed)
    return {
        "ids": list(ids),
        "embeddings": normal(seed, len(ids), WIDTH).astype(float).tolist(),
        "payload": {"title": [f"{seed} {each}" for each in ids]},
        "attributes": filter_oracle.items(rng, len(ids)),
    }


def export(path, first, **options):
    """Exports items for queries that are embeddings."""
    return export_live_retrieval(
        path,
        tf.identity,
        first["ids"],
        first["embeddings"],
        query_signature=tf.TensorSpec([None, WIDTH], name="query"),
        payload=first["payload"],
        attributes=first["attributes"],
        kinds=filter_oracle.KINDS,
        **options,
    )


class Held:
    """What a server should hold: items by id, changed and searched by loops."""

    def __init__(self):
        self.items = {}

    def upsert(self, change):
        for row, each in enumerate(change["ids"]):
            self.items[each] = {
                "vector": np.float64(np.float32(change["embeddings"][row])),
                "title": change["payload"]["title"][row],
                **{n: values[row] for n, values in change["attributes"].items()},
            }

    def best(self, query, k, node=None, without=()):
        """Ids, scores and titles of the best that pass a filter, and places left."""
        found = sorted(
            (-float(np.float64(query) @ item["vector"]), each)
            for each, item in self.items.items()
            if each not in without
            and (node is None or filter_oracle.passes(node, item))
        )[:k]
        ids = [each for _, each in found]
        return ids, [-s for s, _ in found], [self.items[i]["title"] for i in ids]


def check(outputs, held, queries, k, nodes=None, without=None):
    """Asserts that columns of an answer are what `held` says, with empty places."""
    for row, query in enumerate(queries):
        node = None if nodes is None else nodes[row]
        gone = () if without is None else without[row]
        ids, scores, titles = held.best(query, k, node, gone)
        given = outputs["scores"][row]
        filled = [score is not None and np.isfinite(score) for score in given]
        assert filled == [place < len(ids) for place in range(k)]
        assert outputs["ids"][row][: len(ids)] == ids
        assert outputs["title"][row][: len(ids)] == titles
        np.testing.assert_allclose(given[: len(ids)], scores, rtol=1e-4, atol=1e-4)
