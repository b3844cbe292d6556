"""A mixture of negatives from the numbers of a report, row by row."""

from decimal import Decimal

import numpy as np


def gradient_by_row(report, order, size, level, shares, skip, last):
    """Probability of each source's negatives, a mean over the rows."""
    shares = [s / sum(shares) for s in shares]
    which = "unknown" if level == "known_positives" else "all"
    model = report["model"]
    probed = model["in_batch"][order][str(size)][level]
    edges = model["hard"]["edges"]
    first, end = edges.index(skip), edges.index(last)
    negatives = np.zeros(3)

    def weight(logarithm):
        """Of any size: decimal numbers have room for exp(10,000)."""
        return Decimal(0) if logarithm is None else Decimal(logarithm).exp()

    for row in range(model["probes"]):
        hard = sum(
            (edges[i + 1] - edges[i])
            * weight(model["hard"][which][i]["log_mean_weight"][row])
            for i in range(first, end)
        ) / (last - skip)
        counts = probed["columns"][row], size - 1, size - 1
        weights = (
            weight(probed["log_mean_weight"][row]),
            weight(model["uniform"][which]["log_mean_weight"][row]),
            hard,
        )
        masses = [
            Decimal(share) * count * one
            for share, count, one in zip(shares, counts, weights, strict=True)
        ]
        negatives += [float(mass / (1 + sum(masses))) for mass in masses]
    return negatives / model["probes"]
