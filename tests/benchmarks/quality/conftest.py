"""Small data for the quality benchmark."""

import numpy as np
import pytest

from benchmarks.quality import rankers, shared_work, splits


@pytest.fixture(autouse=True)
def shared_folder(tmp_path, monkeypatch):
    """Nothing is taken from earlier runs, nor left for later ones."""
    monkeypatch.setattr(shared_work, "FOLDER", tmp_path / "shared")


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 60, 1500), rng.integers(0, 90, 1500) ** 2 // 90
    pairs = np.unique(np.stack([users, items]), axis=1).astype(np.int32)
    pairs = pairs[:, rng.permutation(pairs.shape[1])]
    train = splits.Interactions(*pairs[:, 300:], num_users=60, num_items=90)
    return splits.Split(train, *pairs[:, :300])


@pytest.fixture
def factors():
    rng = np.random.default_rng(1)
    sizes = (60, 8), (90, 8)
    return rankers.Factors(*(rng.normal(size=s).astype(np.float32) for s in sizes))


@pytest.fixture
def planted():
    """Users who take items of their own third alone, all equally popular."""
    users, items = np.meshgrid(np.arange(60), np.arange(90), indexing="ij")
    kept = (users % 3 == items % 3) & ((users + items // 3) % 2 == 0)
    pairs = np.stack([users[kept], items[kept]]).astype(np.int32)
    pairs = pairs[:, np.random.default_rng(0).permutation(pairs.shape[1])]
    train = splits.Interactions(*pairs[:, 300:], num_users=60, num_items=90)
    return splits.Split(train, *pairs[:, :300])
