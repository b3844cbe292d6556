"""Search by ScaNN, and what is newer than what it has."""

import sys

import numpy as np
import pytest
from live_oracle import clustered

from tfrs_negatives.index import LiveIndex
from tfrs_negatives.index.live import approximate_rows, live_search

pytest.importorskip("scann")

ITEMS, WIDTH, K = 12_000, 32, 10


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    vectors = clustered(0, ITEMS)
    path = tmp_path_factory.mktemp("live") / "index"
    attributes = {"share": np.arange(ITEMS) / ITEMS}
    made = LiveIndex.create(
        path, range(ITEMS), vectors, attributes=attributes, automatic=False
    )
    made.vectors, made.shares = (
        dict(enumerate(vectors)),
        dict(enumerate(attributes["share"])),
    )
    yield made
    made.close()


def change(index, rng, size):
    """Replaces, adds and deletes `size` items each."""
    start = max(index.vectors) + 1
    replaced = rng.choice(sorted(index.vectors), size, replace=False).tolist()
    ids = replaced + list(range(start, start + size))
    vectors = clustered(start, 2 * size)
    shares = rng.random(2 * size)
    index.upsert(ids, vectors, attributes={"share": shares})
    index.vectors.update(zip(ids, vectors, strict=True))
    index.shares.update(zip(ids, shares.tolist(), strict=True))
    gone = rng.choice(sorted(index.vectors), size, replace=False).tolist()
    assert index.delete(gone) == size
    for each in gone:
        del index.vectors[each], index.shares[each]


def recall(index, queries, where=None, most=2.0):
    """Recall@10, and that answers are full, distinct, in order and of right scores."""
    answer = index.search(queries, K, where)
    ids = [each for each in index.vectors if index.shares[each] < most]
    matrix = np.array([index.vectors[each] for each in ids])
    scores = queries @ matrix.T
    best = np.sort(scores, axis=1)[:, ::-1][:, : min(K, len(ids))]
    assert answer.ids.shape == best.shape
    place = {each: place for place, each in enumerate(ids)}
    hits = 0
    for row, found in enumerate(answer.ids.tolist()):
        assert len(set(found)) == len(found)
        own = [scores[row, place[each]] for each in found]
        np.testing.assert_allclose(answer.scores[row], own, rtol=1e-4, atol=1e-4)
        assert (np.diff(answer.scores[row]) <= 0).all()
        hits += sum(score >= best[row, -1] - 1e-4 for score in own)
    return hits / best.size


def test_recall_while_the_corpus_changes(index):
    rng, queries = np.random.default_rng(0), clustered(99, 200)
    assert index.statistics()["searched_by_scann"] == ITEMS
    recalls = [recall(index, queries)]
    for size in (400, 2_000, 4_000):
        change(index, rng, size)
        recalls.append(recall(index, queries))
        for most in (0.95, 0.5, 0.1, 0.01, 0.001):
            assert recall(index, queries[:50], f"share < {most}", most) >= 0.95
    index.compact()
    assert index.statistics()["searched_by_scann"] == ITEMS
    recalls.append(recall(index, queries))
    assert min(recalls) >= 0.95
    assert index.search(queries[:1], 11_999).ids.shape == (1, 11_999)
    assert index.search(queries[:0], 5).ids.shape == (0, 5)


def test_never_fewer_than_k_while_k_pass(tmp_path, monkeypatch):
    """A filter lets pass what is far from the queries, where ScaNN does not look."""
    monkeypatch.setattr(live_search, "_FEW_ROWS", 0)
    monkeypatch.setattr(live_search, "_WIDEST", 2.0)
    vectors = clustered(0, 5_000)
    query = vectors[:1]
    order = np.argsort(-(query @ vectors.T)[0])
    rank = np.empty(5_000)
    rank[order] = np.arange(5_000)
    with LiveIndex.create(
        tmp_path, range(5_000), vectors, attributes={"rank": rank}, approximate_from=0
    ) as index:
        for last in (5_000, 4_990, 4_000):
            answer = index.search(query, K, f"rank >= {last - 2 * K}")
            found = [each for each in order.tolist() if rank[each] >= last - 2 * K]
            assert answer.ids[0].tolist() == found[:K]


def test_items_are_scored_exactly_where_there_is_no_scann(tmp_path, monkeypatch):
    monkeypatch.setattr(approximate_rows, "has_scann", lambda: False)
    vectors = clustered(0, 2_000)
    with LiveIndex.create(tmp_path, range(2_000), vectors, approximate_from=0) as index:
        assert index.statistics()["searched_by_scann"] == 0
        answer = index.search(vectors[:3], K)
    best = np.argsort(-(vectors[:3] @ vectors.T), axis=1)[:, :K]
    assert answer.ids.tolist() == best.tolist()


def test_a_scann_of_another_layout_is_none(tmp_path, monkeypatch):
    (tmp_path / "scann").mkdir()
    (tmp_path / "scann" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("scann", "scann_pybind"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match="laid out in another way"):
        approximate_rows.scann_modules.__wrapped__()


@pytest.mark.slow(reason="two indexes, and the speed of this machine")
def test_soar_finds_more(tmp_path):
    """Without structure, where the leaves that are looked into miss many."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=[60_000, WIDTH]).astype(np.float32)
    queries = rng.normal(size=[200, WIDTH]).astype(np.float32)
    best = np.argsort(-queries @ vectors.T, axis=1)[:, :K]
    found = {}
    for soar_lambda in (None, 1.5):
        path = tmp_path / str(soar_lambda)
        LiveIndex.create(
            path, range(len(vectors)), vectors, soar_lambda=soar_lambda
        ).close()
        # The setting is kept.
        with LiveIndex.open(path) as index:
            answer = index.search(queries, K)
            wide = index.search(queries[:20], 1_000).ids.tolist()
        assert all(len(set(row)) == 1_000 for row in wide)
        pairs = zip(answer.ids.tolist(), best.tolist(), strict=True)
        found[soar_lambda] = np.mean([len(set(a) & set(b)) / K for a, b in pairs])
    assert found[1.5] > found[None] + 0.01, found
