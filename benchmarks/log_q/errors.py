"""The error of an estimate of log q, and its mean over seeds."""

import collections

import numpy as np


def error(log_q_hat, log_q, weights):
    """Weighted mean |difference| without its weighted mean, in nats."""
    weights = weights / weights.sum()
    difference = log_q_hat - log_q
    return float(weights @ np.abs(difference - weights @ difference))


def evaluation_ids(stream):
    """Ids that have occurred, with weights that make means q-weighted."""
    if len(stream.q) > 100_000:
        ids = stream.ids(200_000, mark=False)
        ids, weights = np.unique(ids[stream.seen[ids]], return_counts=True)
        return ids, weights.astype(float)
    ids = np.flatnonzero(stream.seen)
    return ids, stream.q[ids]


def averages(rows):
    """{(num_ids, batch, switched, step): {subject: mean error over seeds}}."""
    sums = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in rows:
        key = tuple(int(row[f]) for f in ("num_ids", "batch", "switched", "step"))
        sums[key][row["subject"]].append(float(row["error_nats"]))
    return {
        key: {subject: np.mean(errors) for subject, errors in by_subject.items()}
        for key, by_subject in sorted(sums.items())
    }
