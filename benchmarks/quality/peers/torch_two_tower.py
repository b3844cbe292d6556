"""PyTorch, written plainly: in-batch sampled softmax with log-Q from exact counts.

Accidental hits and the other items of the row's user are dropped.
"""

import torch

from benchmarks.quality import in_batch
from benchmarks.quality.rankers import Factors


def fit(train, setting, seed):
    torch.manual_seed(seed)
    users, items = (
        torch.nn.Embedding(size, setting["width"])
        for size in (train.num_users, train.num_items)
    )
    for table in (users, items):
        torch.nn.init.uniform_(table.weight, -0.05, 0.05)
    parameters = [users.weight, items.weight]
    optimizer = torch.optim.Adam(parameters, setting["rate"], fused=True)
    log_q = torch.log(torch.from_numpy(in_batch.probabilities(train)))
    places = torch.arange(setting["batch"])
    steps = in_batch.num_steps(train, setting)
    for step, batch in enumerate(in_batch.batches(train, setting, seed)):
        for group in optimizer.param_groups:
            group["lr"] = in_batch.rate(setting, step, steps)
        user_ids, item_ids = (torch.from_numpy(ids).long() for ids in batch)
        queries = torch.nn.functional.normalize(users(user_ids))
        candidates = torch.nn.functional.normalize(items(item_ids))
        scores = queries @ candidates.T / setting["temperature"] - log_q[item_ids]
        dropped = item_ids[:, None] == item_ids
        dropped |= user_ids[:, None] == user_ids
        dropped[places, places] = False
        scores = scores.masked_fill(dropped, float("-inf"))
        loss = torch.nn.functional.cross_entropy(scores, places)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return Factors(*(torch.nn.functional.normalize(p).numpy() for p in parameters))
