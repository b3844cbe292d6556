"""Ids that a query's answer leaves out, against loops."""

import random

import filter_oracle
import numpy as np
import pytest
from live_oracle import clustered
from test_live_index import change, drawn, made

from tfrs_negatives.index import LiveIndex


def check(index, oracle, queries, k, exclusions, passes=lambda item: True, where=None):
    answer = index.search(queries, k, where, exclusions=exclusions)
    everything, _ = oracle.best(queries[0], k, passes)
    for row, (query, gone) in enumerate(zip(queries, exclusions, strict=True)):
        _, scores = oracle.best(query, k, passes)
        left = {each: s for each, s in scores.items() if each not in set(gone)}
        best = sorted(left.values(), reverse=True)[:k]
        found = np.isfinite(answer.scores[row])
        assert len(found) == len(everything)
        # What is missing is at the end.
        assert found.tolist() == [place < len(best) for place in range(len(found))]
        ids = answer.ids[row][found].tolist()
        assert len(set(ids)) == len(ids) and not set(ids) & set(gone)
        np.testing.assert_allclose(
            answer.scores[row][found], best, rtol=1e-5, atol=1e-5
        )
        own = [left[each] for each in ids]
        np.testing.assert_allclose(answer.scores[row][found], own, rtol=1e-5, atol=1e-5)
        titles = [oracle.items[each]["title"] for each in ids]
        assert answer.payload["title"][row][found].tolist() == titles
        empty = "" if isinstance(next(iter(oracle.items)), str) else -1
        assert set(answer.ids[row][~found].tolist()) <= {empty}
        assert set(answer.payload["title"][row][~found].tolist()) <= {""}


@pytest.mark.parametrize(
    "kind",
    [
        "integers",
        pytest.param(
            "strings", marks=pytest.mark.slow(reason="the same with other ids")
        ),
    ],
)
def test_random_exclusions_and_filters(tmp_path, kind):
    rng = random.Random(1)
    ids = list(range(-20, 40))
    if kind == "strings":
        ids = [f"item {each}" for each in ids]
    index, oracle = made(rng, tmp_path / "index", ids)
    for _ in range(30):
        change(rng, index, oracle, ids)
        queries, _ = drawn(rng, 3)
        # Some that are not there, and some twice.
        gone = [
            [rng.choice(ids) for _ in range(rng.choice([0, 1, 9, 80]))] for _ in "ab"
        ]
        check(index, oracle, queries, rng.randint(1, 20), [*gone, []])
        node = filter_oracle.tree(rng, 2)
        check(
            index,
            oracle,
            queries,
            rng.randint(1, 20),
            [*gone, ids],
            lambda item, node=node: filter_oracle.passes(node, item),
            filter_oracle.text(rng, node),
        )
    index.close()


def test_scann_looks_for_as_many_more(tmp_path):
    pytest.importorskip("scann")
    vectors = clustered(0, 12_000)
    with LiveIndex.create(tmp_path / "index", range(12_000), vectors) as index:
        assert index.statistics()["searched_by_scann"] == 12_000
        best = index.search(vectors[:4], 40)
        gone = [
            row[:n].tolist() for row, n in zip(best.ids, [0, 5, 30, 1], strict=True)
        ]
        answer = index.search(vectors[:4], 10, exclusions=gone)
        for row, ids in enumerate(gone):
            expected = [each for each in best.ids[row].tolist() if each not in ids][:10]
            assert answer.ids[row].tolist() == expected


@pytest.mark.parametrize(
    ("exclusions", "message"),
    [
        ([[1]], r"a list of ids for each query \(2\), received 1"),
        ([["a"], []], "must be integers like the ids of the index, received 'a'"),
        ([[1.5], []], "received 1.5"),
        (["12", []], "one value for each item, received str"),
        ("ab", "a list of ids for each query, received str"),
        (3, "received int"),
    ],
)
def test_bad_exclusions(tmp_path, exclusions, message):
    with LiveIndex.create(tmp_path / "index", [1, 2], np.eye(2)) as index:
        with pytest.raises(ValueError, match=message):
            index.search(np.eye(2), exclusions=exclusions)
