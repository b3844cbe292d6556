"""What every subject should compute, in float64, by PyTorch on whichever device.

Written from the formulas, block by block, and imports nothing that is measured.
"""

import torch

from benchmarks.gpu.cases import TEMPERATURE
from benchmarks.gpu.problems import HARD_NEGATIVES

# Scores at once: 128 MiB.
_SCORES = 2**24


def reference(computes, inputs):
    """The outputs of a subject.

    Args:
      computes: `cases.Subject.computes`.
      inputs: Tensors on one device, in the subject's order; embeddings in any dtype.

    Returns:
      Tensors in float64: the loss and the gradients, or the floor's two products.
    """
    inputs = [x.double() if x.is_floating_point() else x.long() for x in inputs]
    return _FUNCTIONS[computes](*inputs)


def _floor(queries, candidates):
    first, second = torch.zeros_like(queries), torch.zeros_like(candidates)
    for rows in _blocks(queries, candidates):
        shares = torch.softmax(queries[rows] @ candidates.T, dim=1)
        first[rows] = shares @ candidates
        second += shares.T @ queries[rows]
    return first, second


def _plain(queries, candidates):
    return _softmax(queries, candidates)


def _log_q(queries, candidates, log_q):
    return _softmax(queries, candidates, log_q=log_q)


def _corrected(queries, candidates, ids, users, log_q):
    return _softmax(queries, candidates, ids, users, log_q)


def _mined(queries, candidates, ids, users, log_q):
    return _softmax(queries, candidates, ids, users, log_q, hardest=HARD_NEGATIVES)


def _row_negatives(
    queries, candidates, negatives, ids, users, log_q, negative_ids, negative_log_q
):
    own = negatives, negative_ids, negative_log_q
    return _softmax(queries, candidates, ids, users, log_q, own=own)


def _distinct(queries, candidates, query_rows, candidate_rows, ids, users, log_q):
    loss, d_queries, d_candidates = _softmax(
        queries[query_rows], candidates[candidate_rows], ids, users, log_q
    )
    return (
        loss,
        torch.zeros_like(queries).index_add_(0, query_rows, d_queries),
        torch.zeros_like(candidates).index_add_(0, candidate_rows, d_candidates),
    )


def _softmax(
    queries, candidates, ids=None, users=None, log_q=None, hardest=None, own=None
):
    """Loss and gradients; `own` is embeddings, ids and log q of the rows' negatives."""
    num_rows, num_columns = len(queries), len(candidates)
    loss = torch.zeros((), dtype=torch.float64, device=queries.device)
    gradients = [torch.zeros_like(queries), torch.zeros_like(candidates)]
    if own is not None:
        gradients.append(torch.zeros_like(own[0]))
    for rows in _blocks(queries, candidates):
        numbers = torch.arange(num_rows, device=queries.device)[rows]
        places = torch.arange(len(numbers), device=queries.device)
        scores = queries[rows] @ candidates.T / TEMPERATURE
        if log_q is not None:
            scores -= log_q
        if ids is not None:
            dropped = ids[rows, None] == ids
            dropped[:, :num_rows] |= users[rows, None] == users
            dropped[places, numbers] = False
            scores[dropped] = -torch.inf
        if own is not None:
            negatives, negative_ids, negative_log_q = (x[rows] for x in own)
            more = (negatives @ queries[rows, :, None])[..., 0] / TEMPERATURE
            more -= negative_log_q
            more[negative_ids == ids[rows, None]] = -torch.inf
            scores = torch.cat([scores, more], dim=1)
        positive = scores[places, numbers]
        if hardest is not None:
            scores[places, numbers] = -torch.inf
            kept = scores.topk(hardest, dim=1)
            scores = torch.full_like(scores, -torch.inf)
            scores.scatter_(1, kept.indices, kept.values)
            scores[places, numbers] = positive
        total = torch.logsumexp(scores, dim=1)
        loss += (total - positive).sum()
        slopes = torch.exp(scores - total[:, None])
        slopes[places, numbers] -= 1
        slopes /= TEMPERATURE
        shared = slopes[:, :num_columns]
        gradients[0][rows] = shared @ candidates
        gradients[1] += shared.T @ queries[rows]
        if own is not None:
            alone = slopes[:, num_columns:, None]
            gradients[0][rows] += (alone * negatives).sum(1)
            gradients[2][rows] = alone * queries[rows, None]
    return loss, *gradients


def _blocks(queries, candidates):
    size = max(_SCORES // len(candidates), 1)
    for begin in range(0, len(queries), size):
        yield slice(begin, min(begin + size, len(queries)))


_FUNCTIONS = {
    "corrected": _corrected,
    "distinct": _distinct,
    "floor": _floor,
    "log_q": _log_q,
    "mined": _mined,
    "plain": _plain,
    "row_negatives": _row_negatives,
}
