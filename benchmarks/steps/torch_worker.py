"""The same towers and corrections in PyTorch, in a process of its own.

`nn.Embedding(sparse=True)` and `SparseAdam`, which is what `LazyAdam` is. Rows are
indexed from arrays in memory by the batch, without a `DataLoader`, and log Q is known:
no less could be asked of an input pipeline and an estimator.
"""

import sys

import torch

from benchmarks.common import worker
from benchmarks.steps.problem import LEARNING_RATE, TEMPERATURE, Problem


def loss_of(queries, candidates, items, users, log_q):
    """Cross-entropy with same-user mask, accidental hits and log Q: B x (B + K)."""
    rows = queries.shape[0]
    scores = queries @ candidates.T / TEMPERATURE - log_q
    dropped = items[:rows, None] == items
    dropped[:, :rows] |= users[:, None] == users
    positives = torch.arange(rows)
    dropped[positives, positives] = False
    scores = scores.masked_fill(dropped, float("-inf"))
    return torch.nn.functional.cross_entropy(scores, positives, reduction="sum")


class Trainer:
    """Two sparse tables and their optimizer.

    Args:
      problem: `Problem`.
      compiled: Whether `torch.compile` compiles the loss.
    """

    def __init__(self, problem, compiled=False):
        self.tables = [
            torch.nn.Embedding.from_pretrained(
                torch.from_numpy(values), freeze=False, sparse=True
            )
            for values in problem.tables()
        ]
        weights = [table.weight for table in self.tables]
        self._optimizer = torch.optim.SparseAdam(weights, lr=LEARNING_RATE, eps=1e-7)
        self._log_q = torch.from_numpy(problem.log_q())
        self._loss = torch.compile(loss_of) if compiled else loss_of

    def step(self, user, item, negatives):
        """Trains on a batch; returns the loss."""
        items = torch.cat([item, negatives])
        queries, candidates = (
            torch.nn.functional.normalize(table(ids), dim=-1)
            for table, ids in zip(self.tables, (user, items), strict=True)
        )
        self._optimizer.zero_grad()
        loss = self._loss(queries, candidates, items, user, self._log_q[items])
        loss.backward()
        self._optimizer.step()
        return loss.item()


def batches(problem):
    """Batches without end, with negatives."""
    columns = {n: torch.from_numpy(ids) for n, ids in problem.columns().items()}
    for rows in map(torch.from_numpy, problem.batches_of_rows()):
        drawn = torch.randint(problem.items, [problem.negatives])
        yield {**{n: ids[rows] for n, ids in columns.items()}, "negatives": drawn}


def main(way, *sizes):
    problem = Problem(*map(int, sizes))
    trainer, rows = Trainer(problem, compiled=way == "compiled"), batches(problem)
    trainer.step(**next(rows))  # Compiles, and makes the moments.
    worker.answer(lambda: trainer.step(**next(rows)))


if __name__ == "__main__":
    worker.keep_output_clean()
    main(*sys.argv[1:])
