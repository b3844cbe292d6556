"""Points in clusters, as embeddings of a large catalogue are."""

import numpy as np


def clusters(num_rows, num_queries, width=64):
    """Points around 100 centres, as far from them as these are from each other.

    Returns:
      float32 points of as many rows, and of as many queries.
    """
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(100, width)).astype(np.float32)

    def draw(count):
        points = rng.standard_normal((count, width), np.float32)
        return points + centres[rng.integers(0, len(centres), count)]

    return draw(num_rows), draw(num_queries)
