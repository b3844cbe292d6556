"""Queries that are searched together."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.index import BruteForce, mine_hard_negatives
from tfrs_negatives.index.mining import mining_queries


@pytest.mark.parametrize("seed", range(5))
def test_pieces_are_all_queries_and_none_is_too_large(monkeypatch, seed):
    monkeypatch.setattr(mining_queries, "_FOUND", 50)
    rng = np.random.default_rng(seed)
    depths = np.where(rng.random(40) < 0.1, 80, rng.integers(1, 30, 40))
    found = [depths[piece] for piece in mining_queries.pieces(depths)]
    assert np.concatenate(found).tolist() == depths.tolist()
    for piece in found:
        assert len(piece) == 1 or len(piece) * piece.max() <= 50
    assert len(found) < 40
    assert list(mining_queries.pieces(depths[:0])) == []


def test_pieces_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    index = BruteForce().index(rng.integers(-3, 4, [50, 4]).astype(np.float32))
    queries = rng.integers(-3, 4, [20, 4]).astype(np.float32)
    positives = [
        rng.choice(50, 30 if n == 7 else 2).astype(np.int32) for n in range(20)
    ]
    lists = tf.ragged.constant([row.tolist() for row in positives], tf.int32)
    given = dict(positives=lists, range_max=10, seed=2, progress=False)
    at_once, _ = mine_hard_negatives(index, queries, 3, **given)
    monkeypatch.setattr(mining_queries, "_FOUND", 60)
    in_pieces, _ = mine_hard_negatives(index, queries, 3, **given)
    assert at_once.to_list() == in_pieces.to_list()
    assert not set(positives[7].tolist()) & set(in_pieces[7].numpy().tolist())
