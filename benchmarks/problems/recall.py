"""Recall of a problem's test queries, and over items of the tail."""

import numpy as np
import tensorflow as tf

TAIL_SHARE = 0.8  # Of items, the least popular ones: those outside the head of a fifth.


def evaluate(
    problem, query_tower, item_embeddings, tops=(20, 100), block=1024, part=slice(None)
):
    """Mean recall over a part of the queries, and over relevant items of the tail.

    Returns:
      {"recall_at_20": ..., "tail_recall_at_20": ..., ...}; the tail's is the share of
      all relevant tail items that are found.
    """
    counts = np.bincount(problem.rows["item"], minlength=problem.num_items)
    tail = np.zeros(problem.num_items, bool)
    tail[np.argsort(counts, kind="stable")[: int(TAIL_SHARE * len(counts))]] = True
    recalls = {k: [] for k in tops}
    found_of_tail, all_of_tail = dict.fromkeys(tops, 0), 0
    for features, seen, relevant in problem.test_blocks(block, part):
        embeddings = query_tower(tf.constant(features)).numpy()
        scores = embeddings @ item_embeddings.T
        for row, items in enumerate(seen):
            scores[row, items] = -np.inf
        best = tf.math.top_k(scores, max(tops)).indices.numpy()
        is_relevant = np.zeros(scores.shape, bool)
        for row, items in enumerate(relevant):
            is_relevant[row, items] = True
        all_of_tail += is_relevant[:, tail].sum()
        sizes = is_relevant.sum(axis=1)
        hits = np.take_along_axis(is_relevant, best, axis=1)
        for k in tops:
            recalls[k].append(hits[:, :k].sum(axis=1) / sizes)
            found_of_tail[k] += (hits & tail[best])[:, :k].sum()
    figures = {f"recall_at_{k}": np.concatenate(recalls[k]).mean() for k in tops}
    for k in tops:
        figures[f"tail_recall_at_{k}"] = found_of_tail[k] / all_of_tail
    return {name: float(value) for name, value in figures.items()}
