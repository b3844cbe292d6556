"""How often items occur in batches that are made, by the share of pairs that collide.

NumPy alone: benchmarks read it where neither TensorFlow nor the package is.
"""

import numpy as np

_WEIGHTS = {
    # Zipf and Mandelbrot's law over 100,000 items, the top one with 1% of all draws.
    "0.1%": lambda: 1 / np.arange(11, 100_011),
    # Zipf's law with exponent 1.3, the top one with a quarter of all draws: all
    # requests of a batch are of an hour, or one product leads.
    "8%": lambda: np.arange(1.0, 1_000_001) ** -1.3,
}

#: The shares of colliding pairs that there are batches of.
COLLISIONS = tuple(_WEIGHTS)

#: TFRS takes what is less for this.
LEAST_Q = 1e-6


def share_of_draws(collisions):
    """[items], how often each occurs, the most popular first.

    Args:
      collisions: One of `COLLISIONS`.
    """
    weights = _WEIGHTS[collisions]()
    return weights / weights.sum()
