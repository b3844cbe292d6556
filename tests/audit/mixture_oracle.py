"""A mixture of negatives from the numbers of a report, row by row."""

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
    for row in range(model["probes"]):
        hard = sum(
            (edges[i + 1] - edges[i])
            * np.exp(model["hard"][which][i]["log_mean_weight"][row])
            for i in range(first, end)
        ) / (last - skip)
        uniform = np.exp(model["uniform"][which]["log_mean_weight"][row])
        own = probed["log_mean_weight"][row]
        masses = np.array(
            [
                shares[0]
                * probed["columns"][row]
                * (0 if own is None else np.exp(own)),
                shares[1] * (size - 1) * uniform,
                shares[2] * (size - 1) * hard,
            ]
        )
        negatives += masses / (1 + masses.sum()) / model["probes"]
    return negatives
