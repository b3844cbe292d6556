"""Sums of all metrics of negatives, by loops over pairs in NumPy."""

import numpy as np
from negative_metric_batch import POPULAR, SOURCES, B, C, D, M
from oracles import dropped_pairs


class Oracle:
    """Sums of all metrics over batches, by loops over pairs."""

    def __init__(self, loss, rules, rows=None, temperature=0.5):
        self.loss, self.rules, self.rows = loss, rules, rows
        self.temperature = temperature
        self.sums = {}

    def add(self, name, numerator, denominator):
        old = self.sums.get(name, np.zeros(2))
        self.sums[name] = old + [numerator, denominator]

    def results(self):
        return {n: a / b if b else 0.0 for n, (a, b) in self.sums.items()}

    def columns(self, batch, i, remembered):
        """Of row i: embedding, id, log q, source, whether offered, whether allowed."""
        ids, rules = batch["ids"], self.rules
        lists = [list(batch[k]) for k in ("user", "request") if k in rules]
        shared_known = batch["known"] if "known" in rules else np.full((B, 1), -1)
        old = remembered or {"candidates": np.zeros((0, D)), "ids": []}
        old_keys = [
            list(old[k]) if remembered else []
            for k in ("user", "request")
            if k in rules
        ]
        all_ids = np.concatenate([ids, old["ids"][:B]]).astype(int)
        mask = np.ones((B, len(all_ids)), bool)
        if "score_mask" in rules:
            mask[:, :C] = batch["score_mask"]
        dropped = dropped_pairs(
            B,
            len(all_ids),
            ids=all_ids,
            accidental_hits="accidental" in rules,
            row_keys=lists,
            column_keys=[
                keys + [None] * (C - B) + more
                for keys, more in zip(lists, old_keys, strict=True)
            ],
            shared="shared" in rules,
            known=[k[k >= 0] for k in shared_known],
            score_mask=mask,
        )
        embeddings = np.concatenate([batch["candidates"], old["candidates"][:B]])
        for k, embedding in enumerate(embeddings):
            source = "in_batch" if k < B else "extra" if k < C else "memory"
            q = remembered["q"] if k >= C else batch["q"]
            log_q = np.log(q[all_ids[k]])
            yield embedding, all_ids[k], log_q, source, k != i, not dropped[i, k]
        if "negatives" not in rules:
            return
        for m in range(M):
            item = batch["negative_ids"][i, m]
            offered = batch["negative_mask"][i, m]
            friends = [ids[j] for k in lists for j in range(B) if k[j] == k[i]]
            bad = (
                ("accidental" in rules and item == ids[i])
                or ("known" in rules and item in batch["known"][i])
                or ("shared" in rules and item in friends)
            )
            log_q = np.log(batch["q"][max(item, 0)])
            yield batch["negatives"][i, m], item, log_q, "per_row", offered, not bad

    def masses(self, own, own_log_q, scores, label):
        """Absolute derivatives of the row's loss in the scores of its negatives."""
        scores = np.array(scores)
        if not len(scores):
            return scores
        if self.loss == "sigmoid":
            # Weight 3 of all, hence 3 / n each, and noise 3 q.
            weight = 3.0 / len(scores)
            shift = np.log(3.0) if "log_q" in self.rules else 0.0
            return weight / (1 + np.exp(-(scores - shift)))
        total = np.exp(scores).sum()
        if self.loss == "refined":
            z = total * (1 - np.exp(own_log_q)) / len(scores)
            return (1 - np.exp(own) / (np.exp(own) + z)) * np.exp(scores) / total
        if self.loss == "outside":
            return 1.3 * np.exp(scores) / total
        return np.exp(scores) / (np.exp(own) + total)

    def update(self, batch, remembered=None):
        pairs = []
        rows = range(B) if self.rows is None else self.rows
        weights = batch["weights"] if "weights" in self.rules else np.ones(B)
        for i in rows:
            heads = np.atleast_2d(batch["queries"][i])
            columns = list(self.columns(batch, i, remembered))
            scores = [
                max(h @ c[0] for h in heads) / self.temperature
                - (c[2] if "log_q" in self.rules else 0.0)
                for c in columns
            ]
            own, own_log_q = scores[i], columns[i][2]
            if self.loss in ("negatives", "refined") and "log_q" in self.rules:
                own += own_log_q
            kept = [
                k
                for k, (*_, offered, allowed) in enumerate(columns)
                if offered and allowed
            ]
            if self.loss == "hardest":
                kept = sorted(kept, key=lambda k: -scores[k])[:4]
            masses = self.masses(own, own_log_q, [scores[k] for k in kept], None)
            mass = dict(zip(kept, masses, strict=True))
            truth = "measured" if "measured" in self.rules else "known"
            positives = {*batch[truth][i], batch["ids"][i]} - {-1}
            pairs.append(
                [
                    {
                        "w": weights[i],
                        "source": source,
                        "item": item,
                        "allowed": allowed,
                        "kept": k in mass,
                        "mass": mass.get(k, 0.0),
                        "false": item in positives,
                    }
                    for k, (_, item, _, source, offered, allowed) in enumerate(columns)
                    if offered
                ]
            )
        self.add_all(pairs, weights[list(rows)], batch)

    def add_all(self, rows, weights, batch):
        def total(source, value):
            return sum(
                p["w"] * value(p)
                for row in rows
                for p in row
                if source in (None, p["source"])
            )

        for source in [None, *SOURCES]:
            end = "" if source is None else f"_{source}"

            def add(name, numerator, denominator, source=source, end=end):
                self.add(
                    name + end, total(source, numerator), total(source, denominator)
                )

            add(
                "false_negative_rate",
                lambda p: p["kept"] and p["false"],
                lambda p: p["kept"],
            )
            add("false_negative_rate_before_masks", lambda p: p["false"], lambda p: 1)
            add("mask_rate", lambda p: not p["allowed"], lambda p: 1)
            add(
                "popularity_share",
                lambda p: p["kept"] and p["item"] in POPULAR,
                lambda p: p["kept"],
            )
            add(
                "popularity_share_by_mass",
                lambda p: p["mass"] * (p["item"] in POPULAR),
                lambda p: p["mass"],
            )
            without = [
                not any(p["allowed"] and source in (None, p["source"]) for p in row)
                for row in rows
            ]
            self.add("rows_without_negatives" + end, weights @ without, weights.sum())
            mass = total(None, lambda p: p["mass"])
            if source is None:
                self.add("negative_hardness", mass, weights.sum())
            else:
                self.add(
                    "negative_hardness" + end, total(source, lambda p: p["mass"]), mass
                )
                self.add(
                    "negative_mix" + end,
                    total(source, lambda p: p["kept"]),
                    total(None, lambda p: p["kept"]),
                )
        for key in ("user", "request"):
            self.add(f"distinct_keys_{key}", len(set(batch[key])), 1)
