"""EASE^R on the split of `tfrs-negatives train`, of tables too large for the command.

    python -m benchmarks.recommender.ease_worker SET

Prints its figures, a line of JSON. No seed changes them.
"""

import json
import pathlib
import sys
import tempfile

from benchmarks.recommender import sets
from tfrs_negatives import teachers
from tfrs_negatives.cli import baselines
from tfrs_negatives.cli.train_command import settings_of
from tfrs_negatives.recommender import Recommender

# The best is taken on the training rows, split once more. Gowalla's is that of the
# search in `benchmarks/quality/searches/gowalla.csv`.
GRID = {"gowalla": [90.0]}
OTHERS = [100.0, 200.0, 400.0]


def main():
    name = sys.argv[1]
    grid = GRID.get(name, OTHERS)
    with tempfile.TemporaryDirectory(prefix="ease.") as folder:
        folder = pathlib.Path(folder)
        source = sets.source(name, folder)
        ours = Recommender(settings_of(sets.options(name, folder)))
        if len(grid) > 1:
            inner = ours.split(source, folder, validation=True)
            found = {l2: fit(inner, l2)["recall@50"] for l2 in grid}
            grid = [max(found, key=found.get)]
            print(name, found, file=sys.stderr)
        print(json.dumps(fit(ours.split(source, folder), grid[0])))


def fit(parts, l2):
    """The figures of the held-out pairs, with the seconds that fitting took."""
    return baselines.figures_of(teachers.EASE(l2), parts, progress=False)


if __name__ == "__main__":
    main()
