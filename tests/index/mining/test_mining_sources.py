import time

import numpy as np
import pytest
import tensorflow as tf
from mining_oracle import eligible, integers, table

from tfrs_negatives.index import BruteForce, RankedPairs, mine_hard_negatives
from tfrs_negatives.index.mining.mining_sources import FunctionSource

ITEMS, QUERIES = integers(0, 40, 5), integers(1, 11, 5)
SCORES = QUERIES.astype(float) @ ITEMS.T.astype(float)
NAMES = np.array([f"item {i}" if i != 3 else "" for i in range(40)])
OPTIONS = {"range_min": 2, "range_max": 12, "sampling": "top", "progress": False}


def search(queries, k):
    """Exact search in NumPy."""
    scores = queries @ ITEMS.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def as_str(ids):
    return [[i.decode() for i in row] for row in ids.to_list()]


POSITIVES = np.random.default_rng(2).integers(0, 40, (11, 6))
EXPECTED = [eligible(SCORES[r], POSITIVES[r], 2, 12) for r in range(11)]


def test_a_function_with_integer_ids():
    ids, scores = mine_hard_negatives(
        search, QUERIES, 4, positives=POSITIVES, batch_size=3, **OPTIONS
    )
    assert ids.to_list() == table(EXPECTED, 4, range(40))
    assert ids.dtype == tf.int64
    expected = np.take_along_axis(SCORES, ids.to_tensor().numpy(), axis=1)
    np.testing.assert_array_equal(scores.to_tensor(), expected)


@pytest.mark.parametrize("kind", [str, bytes, object])
def test_a_function_with_string_ids(kind):
    names = NAMES.astype(kind)

    def named(queries, k):
        scores, order = search(queries, k)
        return scores, names[order]

    # "elsewhere" is in no answer, which a function cannot be asked about.
    positives = [[*NAMES[row], "elsewhere"] for row in POSITIVES]
    ids, _ = mine_hard_negatives(
        named, QUERIES, 4, positives=positives, batch_size=3, **OPTIONS
    )
    assert as_str(ids) == table(EXPECTED, 4, NAMES)


def test_names_of_a_function_are_not_gone_through_for_each_batch():
    """As many names again, all met before, cost a batch nothing."""

    def seconds(num_names):
        source = FunctionSource(None)
        names = np.array([f"name {i}" for i in range(num_names)])
        source._dtype = np.dtype(object)  # As `find` sets it.
        last, first = source.positions(names)[[-1, 0]]
        positions = np.array([[last, first]])
        times = []
        for _ in range(30):
            start = time.perf_counter()
            names = source.ids(positions)
            times.append(time.perf_counter() - start)
        expected = [f"name {num_names - 1}".encode(), b"name 0"]
        assert names.tolist() == [expected]
        return min(times)

    assert seconds(200_000) < 20 * seconds(100)


@pytest.mark.parametrize("scale, shift", [(2**31, 0), (2**57, 0), (2**57, -(2**61))])
def test_a_function_with_large_ids(scale, shift):
    """As hashes are, half of them negative: products with rows do not fit 64 bits."""

    def scaled(queries, k):
        scores, order = search(queries, k)
        return scores, order * scale + shift

    positives = POSITIVES * scale + shift
    ids, _ = mine_hard_negatives(
        scaled, QUERIES, 4, positives=positives, batch_size=3, **OPTIONS
    )
    names = [item * scale + shift for item in range(40)]
    assert ids.to_list() == table(EXPECTED, 4, names)


def test_positives_of_another_type_than_the_function_returns():
    with pytest.raises(ValueError, match="must be of one type, received strings and"):
        mine_hard_negatives(search, QUERIES, 4, positives=NAMES[POSITIVES], **OPTIONS)


@pytest.mark.parametrize("shift", [1, -1000])
def test_a_function_that_finds_little(shift):
    """A score of -inf says that nothing was found, whatever id stands there."""

    def few(queries, k):
        scores, order = search(queries, 5)
        order += shift
        order[:, 4], scores[:, 4] = order[:, 0], -np.inf
        return scores, order

    with pytest.warns(UserWarning, match="11 of 11 rows"):
        ids, scores = mine_hard_negatives(few, QUERIES, 4, **OPTIONS)
    best = np.argsort(-SCORES, axis=1, kind="stable")
    assert ids.to_list() == (best[:, 2:4] + shift).tolist()
    assert np.isfinite(scores.flat_values).all()


def test_a_function_that_finds_nothing():
    def none(queries, k):
        return np.full([len(queries), k], -np.inf), np.zeros([len(queries), k], int)

    with pytest.warns(UserWarning, match="11 of 11 rows"):
        ids, scores = mine_hard_negatives(none, QUERIES, 4, **OPTIONS)
    assert ids.to_list() == scores.to_list() == [[]] * 11


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, i: (i, s), "Is the order right"),
        (lambda s, i: (s[:, 1:], i), "of shape"),
        (lambda s, i: (s[0], i[0]), "of shape"),
        (lambda s, i: (-s, i), "best candidates first"),
        (lambda s, i: (s * np.nan, i), "best candidates first"),
        (lambda s, i: (s, i * 0), "each id once per query"),
    ],
)
def test_bad_functions(change, message):
    with pytest.raises(ValueError, match=message):
        mine_hard_negatives(
            lambda queries, k: change(*search(queries, k)), QUERIES, 4, **OPTIONS
        )


def builder(items):
    scann_ops_pybind = pytest.importorskip("scann").scann_ops_pybind
    return scann_ops_pybind.builder(items, 10, "dot_product")


@pytest.mark.parametrize("kind", ["rows", "ids", "docids"])
@pytest.mark.parametrize("tree", [False, True])
def test_a_searcher_of_scann(tree, kind):
    rng = np.random.default_rng(3)
    items, queries = rng.normal(size=(900, 8)), rng.normal(size=(12, 8))
    items, queries = items.astype(np.float32), queries.astype(np.float32)
    names = [f"n{i}" for i in range(900)]
    built = builder(items)
    # All leaves are searched, and more scored exactly than the searcher would.
    built = (
        built.tree(20, 20).score_ah(2).reorder(20)
        if tree
        else (built.score_brute_force())
    )
    searcher = built.build(**({"docids": list(names)} if kind == "docids" else {}))
    positives = rng.integers(0, 900, (12, 50))
    named = positives if kind == "rows" else np.array(names)[positives]
    ids, _ = mine_hard_negatives(
        searcher,
        queries,
        5,
        positives=named,
        ids=names if kind == "ids" else None,
        **OPTIONS,
    )
    scores = queries.astype(float) @ items.T
    expected = [eligible(scores[r], positives[r], 2, 12) for r in range(12)]
    found = ids.to_list() if kind == "rows" else as_str(ids)
    assert found == table(expected, 5, range(900) if kind == "rows" else names)


def test_a_searcher_of_scann_that_finds_little():
    """One leaf holds fewer items than are asked for."""
    rng = np.random.default_rng(4)
    items = rng.normal(size=(900, 8)).astype(np.float32)
    searcher = builder(items).tree(50, 1).score_ah(2).reorder(20).build()
    with pytest.warns(UserWarning, match="rows"):
        ids, scores = mine_hard_negatives(
            searcher, items[:30], 200, range_max=300, sampling="top", progress=False
        )
    assert min(map(len, ids.to_list())) < 200
    assert np.isfinite(scores.flat_values).all()
    for row in ids.to_list():
        assert len(set(row)) == len(row)


def test_bad_searchers():
    items = np.random.default_rng(5).normal(size=(50, 8)).astype(np.float32)
    ops = pytest.importorskip("scann").scann_ops_pybind
    searcher = ops.builder(items, 10, "squared_l2").score_brute_force().build()
    with pytest.raises(ValueError, match='"dot_product"'):
        mine_hard_negatives(searcher, items, 2)
    searcher = builder(items).score_brute_force().build()
    with pytest.raises(ValueError, match="50 rows, but `identifiers` has 49"):
        mine_hard_negatives(searcher, items, 2, ids=range(49))
    searcher = builder(items).score_brute_force().build(docids=list(range(50)))
    with pytest.raises(ValueError, match="built with docids"):
        mine_hard_negatives(searcher, items, 2, ids=range(50))


def test_a_score_function_decides_the_order():
    """Among what the index found: range_max and the positives deep."""
    rng = np.random.default_rng(6)
    opinion = rng.integers(0, 9, (11, 40)).astype(float)
    calls = []

    def rescore(rows, ids):
        calls.append(len(rows))
        return [
            [opinion[r, int(i[5:] or 3)] for i in row]
            for r, row in zip(rows, np.char.decode(ids.astype(bytes)), strict=True)
        ]

    index = BruteForce().index(ITEMS, NAMES)
    ids, scores = mine_hard_negatives(
        index,
        QUERIES,
        3,
        positives=NAMES[POSITIVES],
        score_function=rescore,
        max_score=7,
        batch_size=4,
        **OPTIONS,
    )
    assert calls == [4, 4, 3]
    for row in range(11):
        depth = 12 + POSITIVES.shape[1]
        found = np.argsort(-SCORES[row], kind="stable")[:depth].tolist()
        ranked = sorted(found, key=lambda i: (-opinion[row, i], found.index(i)))
        ranked = [i for i in ranked if i not in POSITIVES[row]][:12]
        ranked = [i for i in ranked if opinion[row, i] <= 7][2:5]
        assert as_str(ids)[row] == NAMES[ranked].tolist()
        assert scores[row].numpy().tolist() == opinion[row, ranked].tolist()


@pytest.mark.parametrize("first", [0, 1])
def test_a_score_function_is_asked_for_ids_alone(first):
    """Where the index found fewer, and for a batch in which it found none."""

    def few(queries, k):
        scores, order = search(queries, 4)
        scores[first::2, 2:] = -np.inf
        scores[-1] = -np.inf
        order[np.isneginf(scores)] = 99
        return scores, order

    def score(rows, ids):
        assert ids.max() < 40
        return SCORES[rows[:, None], ids]

    options = {"sampling": "top", "progress": False, "batch_size": 5}
    with pytest.warns(UserWarning, match="rows"):
        ids, _ = mine_hard_negatives(few, QUERIES, 4, score_function=score, **options)
    best = np.argsort(-SCORES, axis=1, kind="stable")[:, :4].tolist()
    lengths = [2 if row % 5 % 2 == first else 4 for row in range(11)]
    for end in (4, 9, 10):
        lengths[end] = 0
    assert ids.to_list() == [b[:n] for b, n in zip(best, lengths, strict=True)]


@pytest.mark.parametrize(
    ("scores", "message"),
    [(lambda ids: np.zeros(3), "of shape"), (lambda ids: ids * np.nan, "NaN")],
)
def test_bad_score_functions(scores, message):
    index = BruteForce().index(ITEMS)
    with pytest.raises(ValueError, match=f"`score_function` must return .*{message}"):
        mine_hard_negatives(
            index, QUERIES, 3, score_function=lambda rows, ids: scores(ids), **OPTIONS
        )


PAIRS = {
    "query": ["a", "a", "b", "a", "b", "a", "a"],
    "item": [1, 2, 3, 4, 1, 5, 2],
    "score": [0.5, 0.9, 0.1, 0.5, 0.3, 0.7, 0.2],
}


def mined(pairs, queries, num_negatives, **options):
    ids, scores = mine_hard_negatives(
        pairs, queries, num_negatives, sampling="top", progress=False, **options
    )
    return ids.to_list(), scores.to_list()


def test_ranked_pairs():
    pairs = RankedPairs(PAIRS)
    ids, scores = mined(pairs, ["a"], 4)
    assert ids == [[2, 5, 1, 4]]
    np.testing.assert_allclose(scores, [[0.9, 0.7, 0.5, 0.5]])
    assert mined(pairs, ["a"], 2, range_min=1)[0] == [[5, 1]]
    # 9 was never scored: no mistake.
    assert mined(pairs, ["a"], 2, positives=[[2, 9]], range_min=1)[0] == [[1, 4]]
    assert mined(pairs, ["a"], 2, max_score=0.5)[0] == [[1, 4]]
    margin = {"relative_margin": 0.25, "positive_scores": [0.9]}
    assert mined(pairs, ["a"], 2, **margin)[0] == [[1, 4]]
    with pytest.warns(UserWarning, match="2 of 3 rows"):
        ids, _ = mined(pairs, ["b", "unheard of", "a"], 3)
    assert ids == [[1, 3], [], [2, 5, 1]]


def test_ranked_pairs_of_negative_and_empty_ids():
    pairs = {**PAIRS, "item": [-1, -2, 3, -4, -1, 0, -2]}
    assert mined(RankedPairs(pairs), ["a"], 3, positives=[[-2]])[0] == [[0, -1, -4]]
    pairs["query"] = [-7 if q == "a" else -1 for q in PAIRS["query"]]
    assert mined(RankedPairs(pairs), [-1], 2)[0] == [[-1, 3]]
    pairs["item"] = ["", "b", "c", "d", "", "e", "b"]
    expected = [[b"e", b"", b"d"]]
    assert mined(RankedPairs(pairs), [-7], 3, positives=[["b"]])[0] == expected


@pytest.mark.parametrize("row", [",1,0.5", "a,,0.5"])
def test_an_empty_field_of_a_csv_is_no_id(tmp_path, row):
    pytest.importorskip("pandas")
    path = tmp_path / "pairs.csv"
    path.write_text(f"query,item,score\na,1,0.7\n{row}\n")
    with pytest.raises(ValueError, match="without nulls, received 1 empty fields"):
        RankedPairs(path)


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
def test_ranked_pairs_from_tables(tmp_path, kind):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(PAIRS).rename(columns={"query": "user"})
    pairs = frame
    if kind == "csv":
        pairs = tmp_path / "pairs.csv"
        frame.to_csv(pairs, index=False)
    if kind == "parquet":
        pairs = str(tmp_path / "pairs.parquet")
        frame.to_parquet(pairs)
    assert mined(RankedPairs(pairs, query="user"), ["a"], 4)[0] == [[2, 5, 1, 4]]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["007", "10", "7"], [b"007", b"10", b"7"]),
        (["7", "10", "-0"], [b"7", b"10", b"-0"]),
        (["7", "10", "99999999999999999999"], [b"7", b"10", b"99999999999999999999"]),
        (["7", "10", "9223372036854775807"], [7, 10, 2**63 - 1]),
        (["0", "10", "NA"], [b"0", b"10", b"NA"]),
        (["0", "1.0", "1e3"], [b"0", b"1.0", b"1e3"]),
        (["0", "10", "7"], [0, 10, 7]),
    ],
)
def test_ids_of_a_csv_are_kept_as_they_are_written(tmp_path, items, expected):
    pytest.importorskip("pandas")
    path = tmp_path / "pairs.csv"
    rows = [f"01,{item},{score}" for item, score in zip(items, "987", strict=True)]
    path.write_text("\n".join(["query,item,score", *rows, ""]))
    assert mined(RankedPairs(path), ["01"], 3)[0] == [expected]


def test_ranked_pairs_of_integer_queries_and_string_items():
    pairs = {"query": [7, 8, 7], "item": ["x", "y", "z"], "score": [1, 2, 3]}
    ids, _ = mined(RankedPairs(pairs), np.array([7, 7], np.int32), 2)
    assert ids == [[b"z", b"x"], [b"z", b"x"]]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"query": [1], "item": [2]}, "'score'. are missing"),
        ({"query": [], "item": [], "score": []}, "must have rows"),
        ({"query": [1, 2], "item": [2], "score": [1.0]}, "as many in each column"),
        ({"query": [1], "item": [2], "score": [np.nan]}, "must be finite"),
        ({"query": [1], "item": [2], "score": ["good"]}, "must hold numbers"),
        ({"query": [1], "item": [0.5], "score": [1.0]}, "integers or strings"),
        ({"query": [None], "item": [1], "score": [1.0]}, "integers or strings"),
        ("pairs.txt", "must be a .csv or .parquet file"),
        ("nowhere.csv", "must be a .csv or .parquet file"),
    ],
)
def test_bad_ranked_pairs(pairs, message):
    with pytest.raises(ValueError, match=message):
        RankedPairs(pairs)


def test_queries_that_do_not_fit_ranked_pairs():
    pairs = RankedPairs(PAIRS)
    with pytest.raises(ValueError, match="must be a vector of query ids like b'a'"):
        mine_hard_negatives(pairs, [1, 2], 2, progress=False)
    with pytest.raises(ValueError, match="integers or strings"):
        mine_hard_negatives(pairs, QUERIES, 2, progress=False)
    with pytest.raises(ValueError, match="other scores cannot be compared"):
        mine_hard_negatives(
            pairs, ["a"], 2, absolute_margin=1.0, positive_embeddings=QUERIES[:1]
        )
