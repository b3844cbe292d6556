"""Implicit ALS on the split of `tfrs-negatives train`.

    python -m benchmarks.recommender.als_worker SET SEED ...

Prints its figures, a line of JSON for each seed.
"""

import json
import pathlib
import sys
import tempfile
import time

import implicit.als
import threadpoolctl

from benchmarks.recommender import sets
from tfrs_negatives.cli import baselines, comparison
from tfrs_negatives.cli.train_command import settings_of
from tfrs_negatives.recommender import Recommender, held_out_figures

WIDTH = 64  # As the towers'.
ITERATIONS = 15
GRID = [
    {"regularization": regularization, "alpha": alpha}
    for regularization in (0.1, 1.0, 10.0)
    for alpha in (1.0, 5.0, 20.0, 80.0)
]


def main():
    name, seeds = sys.argv[1], map(int, sys.argv[2:])
    with tempfile.TemporaryDirectory(prefix="als.") as folder:
        folder = pathlib.Path(folder)
        source = sets.source(name, folder)
        ours = Recommender(settings_of(sets.options(name, folder)))
        inner = ours.split(source, folder, validation=True)
        best = max(GRID, key=lambda setting: fit(inner, setting, 0)["recall@50"])
        print(name, best, file=sys.stderr)
        parts = ours.split(source, folder)
        for seed in seeds:
            print(json.dumps(fit(parts, best, seed)))


def fit(parts, setting, seed):
    """The figures of the held-out pairs, with the seconds that fitting took."""
    matrix = baselines.training_histories(parts).matrix
    start = time.perf_counter()
    # The library has threads of its own.
    with threadpoolctl.threadpool_limits(1, "blas"):
        model = implicit.als.AlternatingLeastSquares(
            WIDTH, **setting, iterations=ITERATIONS, random_state=seed, use_gpu=False
        )
        model.fit(matrix, show_progress=False)
    seconds = time.perf_counter() - start
    found = held_out_figures.figures(
        model.user_factors[parts.held_out.users],
        model.item_factors,
        parts.held_out,
        parts.training.item_counts,
    )
    return {**found, comparison.SECONDS: seconds}


if __name__ == "__main__":
    main()
