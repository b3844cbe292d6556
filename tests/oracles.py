"""Slow, obvious float64 versions that share nothing with the package."""

import numpy as np


def dropped_pairs(
    num_rows,
    num_columns,
    ids=None,
    accidental_hits=False,
    row_keys=None,
    column_keys=None,
    shared=False,
    known=None,
    score_mask=None,
):
    """[B, C] bool, True where the pair is not scored.

    row_keys: list of key lists; column_keys: the same, None where a column has none.
    """
    dropped = np.zeros((num_rows, num_columns), bool)
    for i in range(num_rows):
        for k in range(num_columns):
            if k == i:
                continue
            if accidental_hits and ids[k] == ids[i]:
                dropped[i, k] = True
            for keys, others in zip(row_keys or [], column_keys or [], strict=True):
                if others[k] is not None and others[k] == keys[i]:
                    dropped[i, k] = True
                if shared:
                    friends = [j for j in range(num_rows) if keys[j] == keys[i]]
                    if ids[k] in [ids[j] for j in friends]:
                        dropped[i, k] = True
            if known is not None and ids[k] in known[i]:
                dropped[i, k] = True
            if score_mask is not None and not score_mask[i, k]:
                dropped[i, k] = True
    return dropped


def false_negatives(queries, candidates, margin=None, share=None):
    """[B, C] bool, columns that a guide scores above the row's own."""
    found = np.zeros((len(queries), len(candidates)), bool)
    for i, query in enumerate(queries):
        scores = [max(h @ c for h in np.atleast_2d(query)) for c in candidates]
        bound = scores[i] + margin if share is None else scores[i] * share
        for k, score in enumerate(scores):
            found[i, k] = k != i and score > bound
    return found


def row_loss(
    i,
    scores,
    log_q,
    dropped,
    positive,
    num_hard_negatives=None,
    negative_weight=None,
):
    """The loss of row i from its temperature-scaled scores [C]."""
    negatives = [
        scores[k] - (0.0 if log_q is None else log_q[k])
        for k in range(len(scores))
        if k != i and not dropped[i, k]
    ]
    if num_hard_negatives is not None and num_hard_negatives > 0:
        negatives = sorted(negatives, reverse=True)[:num_hard_negatives]
    if not negatives:
        return 0.0
    own = scores[i]
    if positive == "outside":
        rho = 1.0 if negative_weight is None else negative_weight
        return rho * np.logaddexp.reduce(negatives) - own
    if positive == "refined":
        q = np.exp(log_q[i])
        # log sum exp(s_d - log(Q(d) / (1 - Q(p)))).
        log_z = np.logaddexp.reduce(negatives) + np.log(1 - q)
        p = np.exp(own) / (np.exp(own) + np.exp(log_z) / len(negatives))
        return -(1 - p) * (own - log_z)
    if positive == "all" and log_q is not None:
        own = own - log_q[i]
    return np.logaddexp.reduce([own, *negatives]) - own


def row_losses(
    queries,
    candidates,
    *,
    temperature=1.0,
    log_q=None,
    dropped=None,
    positive="all",
    num_hard_negatives=None,
    negative_weight=None,
):
    """[B] losses; queries [B, d] or [B, H, d]."""
    queries = np.asarray(queries, np.float64)
    candidates = np.asarray(candidates, np.float64)
    if dropped is None:
        dropped = np.zeros((len(queries), len(candidates)), bool)
    losses = []
    for i, query in enumerate(queries):
        heads = np.atleast_2d(query)
        scores = np.array([max(h @ c for h in heads) for c in candidates]) / temperature
        losses.append(
            row_loss(
                i,
                scores,
                log_q,
                dropped,
                positive,
                num_hard_negatives,
                negative_weight,
            )
        )
    return np.array(losses)


def numeric_gradient(function, x, step=1e-6):
    """Central differences of a scalar function of an array."""
    x = np.array(x, np.float64)
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        kept = x[place]
        x[place] = kept + step
        above = function(x)
        x[place] = kept - step
        below = function(x)
        x[place] = kept
        gradient[place] = (above - below) / (2 * step)
    return gradient
