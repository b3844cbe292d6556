"""What the benchmarks of indexes search: a trained model, and a million items."""

import importlib.util
import os
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
NUM_QUERIES = 3_000


def gowalla(cache):
    """Candidates `[40,981, 64]` and queries of a two-tower model of Gowalla.

    The model is that of `benchmarks/log_q/gowalla.py` with log q learned from the
    stream, seed 0, nine epochs. It is trained when `cache` does not hold it.
    """
    path = pathlib.Path(cache) / "gowalla_towers.npz"
    if not path.exists():
        # Named otherwise: this folder may hold a module of that name one day.
        spec = importlib.util.spec_from_file_location(
            "gowalla_training", HERE.parent / "log_q" / "gowalla.py"
        )
        training = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = training
        spec.loader.exec_module(training)
        folder = pathlib.Path(os.environ["TFRS_NEGATIVES_DATA"])
        data = dict(np.load(folder / "gowalla.npz"))
        towers = training.train(
            data["train_user"],
            data["train_item"],
            training.make_correction("streaming", None),
            seed=0,
            epochs=9,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, queries=towers[0], candidates=towers[1])
    towers = np.load(path)
    rows = np.random.default_rng(0).permutation(len(towers["queries"]))[:NUM_QUERIES]
    return towers["candidates"], towers["queries"][rows]


def clusters(num_rows=1_000_000, width=64):
    """Points around 100 centres, as far from them as these are from each other."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(100, width)).astype(np.float32)

    def draw(count):
        points = rng.standard_normal((count, width), np.float32)
        return points + centres[rng.integers(0, len(centres), count)]

    return draw(num_rows), draw(NUM_QUERIES)


def load(name, cache):
    """Candidates and queries, float32, by name."""
    if name == "gowalla":
        return gowalla(cache)
    if name == "million":
        return clusters()
    raise ValueError(f"`name` must be gowalla or million, received {name!r}.")
