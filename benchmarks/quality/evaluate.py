"""Recall@20 and NDCG@20 over all items that are not in the user's training set.

The definitions of LightGCN (He et al., SIGIR 2020) and of the published table: recall
is the share of the user's held-out items that are among the first 20; NDCG's ideal list
has min(20, held-out items) of them in front; both are means over the users who have
any. Measured with `tfrs_negatives.metrics.CorpusRecall`. Head, torso and tail recall
are those of the held-out items among the 20% of items with the most training
interactions, the next 30% and the rest, at the ranks that they have among all.
"""

import numpy as np

from benchmarks.common.grouping import by_group
from benchmarks.quality.rankers import Factors, Indexed, Scores

TOP, BLOCK = 20, 1024
BANDS = "head", "torso", "tail"
MEASURES = ["recall_at_20", "ndcg_at_20", *(f"{b}_recall_at_20" for b in BANDS)]


def evaluate(ranker, split):
    """Measures of a ranker on the held-out interactions, a dict from name to float.

    Args:
      ranker: `Factors`, `Scores` or `Indexed`.
      split: `splits.Split`.
    """
    import tensorflow as tf

    from tfrs_negatives.metrics import CorpusRecall, PopularityBands

    options = {
        "ks": (TOP,),
        "measures": ("recall", "ndcg"),
        "popularity": PopularityBands(split.train.item_counts()),
    }
    if isinstance(ranker, Factors):
        corpus = tf.constant(ranker.items, tf.float32)
        options["candidate_ids"] = np.arange(len(ranker.items))
    elif isinstance(ranker, Indexed):
        corpus = ranker.index
    else:
        corpus = _Retrieving(ranker, split.train)
    metric = CorpusRecall(corpus, **options)
    for users, seen, positives in blocks(split):
        if isinstance(ranker, Scores):
            queries, given = users[:, None], {}
        else:
            queries, given = ranker.users[users], {"excluded_ids": _ragged(seen)}
        metric.update_state(
            tf.constant(queries, tf.float32),
            true_candidate_ids=_ragged(positives),
            **given,
        )
    found = dict(zip(metric.names, map(float, metric.result()), strict=True))
    names = ["corpus/recall@20", "corpus/ndcg@20"]
    names += [f"corpus/{band}/recall@20" for band in BANDS]
    return dict(zip(MEASURES, map(found.get, names), strict=True))


def blocks(split, size=BLOCK):
    """Users with held-out items, their training items and the held-out ones."""
    num_users = split.train.num_users
    seen = by_group(num_users, split.train.users, split.train.items)
    positives = by_group(num_users, split.test_users, split.test_items)
    users = np.flatnonzero([len(items) for items in positives])
    # Of similar lengths together: the ragged rows of a block are filled.
    users = users[np.argsort([len(seen[user]) for user in users], kind="stable")]
    for start in range(0, len(users), size):
        block = users[start : start + size]
        yield block, [seen[u] for u in block], [positives[u] for u in block]


def top_items(ranker, users, seen, k=TOP):
    """The k best items for each user that are not in `seen`, and their scores."""
    if isinstance(ranker, Factors):
        scores = ranker.users[users] @ ranker.items.T
    else:
        scores = np.array(ranker.of(users), np.float32)
    for row, items in enumerate(seen):
        scores[row, items] = -np.inf
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
    best = np.take_along_axis(best, order, 1)
    return best, np.take_along_axis(scores, best, 1)


class _Retrieving:
    """A layer that retrieves for users, as `CorpusRecall` calls one."""

    def __init__(self, ranker, train):
        self._ranker = ranker
        self._seen = by_group(train.num_users, train.users, train.items)

    def __call__(self, queries, k):
        import tensorflow as tf

        def retrieve(queries, k):
            users = queries[:, 0].astype(np.int64)
            seen = [self._seen[user] for user in users]
            best, scores = top_items(self._ranker, users, seen, int(k))
            return scores, best.astype(np.int32)

        types = tf.float32, tf.int32
        scores, ids = tf.numpy_function(retrieve, [queries, k], types)
        shape = [queries.shape[0], k if isinstance(k, int) else None]
        return tf.ensure_shape(scores, shape), tf.ensure_shape(ids, shape)


def _ragged(rows):
    import tensorflow as tf

    lengths = [len(row) for row in rows]
    return tf.RaggedTensor.from_row_lengths(np.concatenate(rows), lengths)
