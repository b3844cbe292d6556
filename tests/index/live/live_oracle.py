"""A dict of items, searched by loops, that shares nothing with the package."""

import numpy as np


class Oracle:
    """What a live index should hold.

    `items` has by id: vector, title and the attributes of `filter_oracle`.
    """

    def __init__(self):
        self.items = {}

    def upsert(self, ids, embeddings, payload, attributes):
        new = sum(each not in self.items for each in ids)
        for row, each in enumerate(ids):
            self.items[each] = {
                "vector": np.float64(embeddings[row]),
                "title": payload["title"][row],
                **{name: values[row] for name, values in attributes.items()},
            }
        return new

    def delete(self, ids):
        return sum(self.items.pop(each, None) is not None for each in ids)

    def best(self, query, k, passes=lambda item: True):
        """(scores, descending; score of each id that passes)."""
        scores = {
            each: float(np.float64(query) @ item["vector"])
            for each, item in self.items.items()
            if passes(item)
        }
        return sorted(scores.values(), reverse=True)[:k], scores


def check(index, oracle, queries, k, where=None, passes=lambda item: True):
    """Asserts that an index answers as the oracle, exactly."""
    answer = index.search(queries, k, where)
    for row, query in enumerate(queries):
        best, scores = oracle.best(query, k, passes)
        ids = answer.ids[row].tolist()
        assert len(ids) == len(best) and len(set(ids)) == len(ids)
        np.testing.assert_allclose(answer.scores[row], best, rtol=1e-5, atol=1e-5)
        # Equal scores may come in any order, so each id is held to its own score.
        own = [scores[each] for each in ids]
        np.testing.assert_allclose(answer.scores[row], own, rtol=1e-5, atol=1e-5)
        titles = [oracle.items[each]["title"] for each in ids]
        assert answer.payload["title"][row].tolist() == titles
    return answer


def clustered(seed, num_rows, width=32, noise=0.4):
    """Points around 100 centres, which are the same for every seed."""
    centres = np.random.default_rng(7).normal(size=(100, width))
    rng = np.random.default_rng(seed)
    points = centres[rng.integers(0, 100, num_rows)]
    return (points + noise * rng.normal(size=points.shape)).astype(np.float32)
