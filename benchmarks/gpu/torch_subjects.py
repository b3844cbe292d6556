"""What PyTorch does instead: the same corrections, and fused kernels of others."""

import torch

from benchmarks.gpu.cases import TEMPERATURE


def step_of(name):
    """A function from the subject's inputs to `(loss, gradients)`.

    Raises:
      ImportError: A kernel's package is not installed.
    """
    loss = LOSSES[name]()

    def step(queries, candidates, *others):
        trained = [x.detach().requires_grad_() for x in (queries, candidates)]
        value = loss(*trained, *others)
        return value.detach(), *torch.autograd.grad(value, trained)

    return step


def _corrected(queries, candidates, ids, users, log_q):
    rows = queries.shape[0]
    # As automatic mixed precision does: bfloat16 is multiplied, float32 is normalised.
    scores = (queries @ candidates.T).float() / TEMPERATURE - log_q
    dropped = ids[:rows, None] == ids
    same = users[:, None] == users
    dropped = torch.cat([dropped[:, :rows] | same, dropped[:, rows:]], dim=1)
    positives = torch.arange(rows, device=queries.device)
    others = positives[:, None] != torch.arange(len(candidates), device=queries.device)
    scores = scores.masked_fill(dropped & others, float("-inf"))
    return torch.nn.functional.cross_entropy(scores, positives, reduction="sum")


def _eager():
    return _corrected


def _compiled():
    return torch.compile(_corrected, dynamic=False)


def _liger():
    """Liger-Kernel's fused linear cross-entropy, log q as the bias."""
    from liger_kernel.ops.fused_linear_cross_entropy import (
        LigerFusedLinearCrossEntropyFunction,
    )

    def loss(queries, candidates, log_q):
        targets = torch.arange(len(queries), device=queries.device)
        found = LigerFusedLinearCrossEntropyFunction.apply(
            queries / TEMPERATURE,
            candidates,
            targets,
            -log_q.to(queries.dtype),
            None,  # No weights.
            -100,  # No target is ignored.
            0.0,
            0.0,
            "sum",
        )
        return found[0] if isinstance(found, tuple) else found

    return loss


def _cut_cross_entropy():
    """Apple's Cut Cross-Entropy, which has no bias; no gradient is left out."""
    from cut_cross_entropy import linear_cross_entropy

    def loss(queries, candidates):
        targets = torch.arange(len(queries), device=queries.device)
        return linear_cross_entropy(
            queries / TEMPERATURE,
            candidates,
            targets,
            reduction="sum",
            filter_eps=None,
        )

    return loss


LOSSES = {
    "torch_eager": _eager,
    "torch_compiled": _compiled,
    "liger": _liger,
    "cut_cross_entropy": _cut_cross_entropy,
}
