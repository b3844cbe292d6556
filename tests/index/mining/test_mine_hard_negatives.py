import itertools
import warnings

import numpy as np
import pytest
import tensorflow as tf
from mining_oracle import eligible, integers, table

from tfrs_negatives.index import BruteForce, ScaNN, mine_hard_negatives

NUM_ITEMS, NUM_QUERIES = 60, 23
ITEMS, QUERIES = integers(0, NUM_ITEMS, 5), integers(1, NUM_QUERIES, 5)
SCORES = QUERIES.astype(float) @ ITEMS.T.astype(float)
NAMES = [f"item {i}" if i else "" for i in range(NUM_ITEMS)]
SHIFTED = [i - 30 for i in range(NUM_ITEMS)]


def known_positives(seed=2, most=9):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, most + 1, NUM_QUERIES)
    return [rng.choice(NUM_ITEMS, size, replace=False).tolist() for size in sizes]


def mine(index, *args, **kwargs):
    """Lists of ids, after checking the scores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids, scores = mine_hard_negatives(index, *args, progress=False, **kwargs)
    assert scores.dtype == tf.float32
    np.testing.assert_array_equal(ids.row_splits, scores.row_splits)
    assert np.isfinite(scores.flat_values).all()
    rows = [
        [i.decode() if isinstance(i, bytes) else i for i in row]
        for row in ids.to_list()
    ]
    for row, row_scores in zip(rows, scores.to_list(), strict=True):
        assert len(set(row)) == len(row)
        assert (np.diff(row_scores) <= 0).all()
    return rows


RANGES = [(0, None), (0, 5), (3, 12), (10, 1000), (57, 60)]
FILTERS = [
    {},
    {"max_score": 4},
    {"absolute_margin": 2.0},
    {"relative_margin": 0.25},
    {"max_score": 6, "absolute_margin": 1.0, "relative_margin": 0.5},
]


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("with_positives", [False, True])
@pytest.mark.parametrize("ids", [None, SHIFTED, NAMES])
def test_top_is_what_the_oracle_finds(ids, with_positives, filters):
    """Every range, ties (scores are small whole numbers), and short rows."""
    index = BruteForce().index(ITEMS, ids)
    ids = list(range(NUM_ITEMS)) if ids is None else ids
    positives = known_positives() if with_positives else None
    options = dict(filters)
    positive_scores = np.random.default_rng(3).integers(-6, 20, NUM_QUERIES)
    if "absolute_margin" in filters or "relative_margin" in filters:
        options["positive_scores"] = positive_scores
    for (low, high), num_negatives in itertools.product(RANGES, [1, 4]):
        expected = [
            eligible(
                SCORES[row],
                positives[row] if positives else (),
                low,
                low + 100 if high is None else high,
                positive_score=positive_scores[row],
                **filters,
            )
            for row in range(NUM_QUERIES)
        ]
        named = positives and [[ids[i] for i in row] for row in positives]
        found = mine(
            index,
            QUERIES,
            num_negatives,
            positives=named,
            range_min=low,
            range_max=high,
            sampling="top",
            batch_size=7,
            **options,
        )
        assert found == table(expected, num_negatives, ids)


@pytest.mark.parametrize("high", [8, 30])
def test_uniform_draws_from_the_same_range(high):
    index = BruteForce().index(ITEMS)
    positives = known_positives()
    found = mine(
        index, QUERIES, 6, positives=positives, range_min=4, range_max=high, max_score=3
    )
    for row, drawn in enumerate(found):
        allowed = eligible(SCORES[row], positives[row], 4, high, max_score=3)
        assert len(drawn) == min(6, len(allowed))
        # In the order of the ranks, too.
        assert [item for item in allowed if item in drawn] == drawn


def test_uniform_is_uniform():
    """Each of ten ranks is drawn as often; chance of a false alarm 1e-6."""
    num_queries = 4000
    items = np.linspace(1, 0, 30, dtype=np.float32)[:, None]
    index = BruteForce().index(items)
    queries = np.ones([num_queries, 1], np.float32)
    found = np.array(mine(index, queries, 3, range_min=5, range_max=15, seed=4))
    counts = np.bincount(found.ravel(), minlength=30)
    assert counts[:5].sum() == counts[15:].sum() == 0
    expected = num_queries * 3 / 10
    # Without replacement the counts vary less than the chi-square law says.
    chi_square = ((counts[5:15] - expected) ** 2 / expected).sum()
    assert chi_square < 43.5
    pairs = {tuple(row) for row in found.tolist()}
    assert len(pairs) == 120  # 10 choose 3


@pytest.mark.parametrize("sampling", ["uniform", "top"])
def test_results_do_not_depend_on_how_queries_come(sampling):
    index = BruteForce().index(ITEMS)
    options = {"positives": known_positives(), "range_max": 20, "sampling": sampling}
    whole = mine(index, QUERIES, 5, **options)
    assert mine(index, QUERIES, 5, batch_size=4, **options) == whole
    assert mine(index, tf.constant(QUERIES), 5, **options) == whole
    assert mine(index, QUERIES.astype(np.float16), 5, **options) == whole
    assert mine(index, tf.cast(QUERIES, tf.bfloat16), 5, **options) == whole
    dataset = tf.data.Dataset.from_tensor_slices(QUERIES)
    assert mine(index, dataset.batch(6), 5, batch_size=4, **options) == whole
    assert mine(index, dataset.batch(50), 5, **options) == whole


def test_seeds():
    index = BruteForce().index(ITEMS)
    first, again, other = (
        mine(index, QUERIES, 5, range_max=40, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_forms_of_positives():
    index = BruteForce().index(ITEMS, NAMES)
    lists = [[NAMES[i] for i in row] for row in known_positives()]
    expected = mine(index, QUERIES, 5, positives=lists, sampling="top")
    assert expected != mine(index, QUERIES, 5, sampling="top")
    ragged = tf.ragged.constant(lists)
    for form in (ragged, tuple(map(np.array, lists))):
        assert mine(index, QUERIES, 5, positives=form, sampling="top") == expected
    # In a matrix each entry counts: short rows end in repeats, or in "", an id too.
    some = [row or [NAMES[5]] for row in lists]
    dense = [(row * 9)[:9] for row in some]
    empty = [row + [""] * (9 - len(row)) for row in lists]
    for lists, matrix in ((some, dense), (empty, empty)):
        expected = mine(index, QUERIES, 5, positives=lists, sampling="top")
        for form in (tf.constant(matrix), tf.constant(matrix).numpy(), matrix):
            assert mine(index, QUERIES, 5, positives=form, sampling="top") == expected


@pytest.mark.parametrize("names", [None, NAMES])
def test_sequences_of_sequences(names):
    """Every row of its own length, held by whatever pandas and NumPy have."""
    pandas = pytest.importorskip("pandas")
    index = BruteForce().index(ITEMS, names)
    lists = [[names[i] if names else i for i in row] for row in known_positives()]
    expected = mine(index, QUERIES, 5, positives=lists, sampling="top")
    objects = np.empty(len(lists), object)
    objects[:] = lists
    arrays = np.empty(len(lists), object)
    arrays[:] = [np.array(row, dtype=object if names else int) for row in lists]
    for form in (pandas.Series(lists), objects, arrays):
        assert mine(index, QUERIES, 5, positives=form, sampling="top") == expected


def test_positives_of_another_integer_type():
    index = BruteForce().index(ITEMS, np.arange(NUM_ITEMS, dtype=np.int32))
    positives = np.array([[row, 5] for row in range(NUM_QUERIES)], np.int64)
    expected = mine(
        index, QUERIES, 3, positives=positives.astype(np.int32), sampling="top"
    )
    found = mine(index, QUERIES, 3, positives=positives, sampling="top")
    assert found == expected
    assert all(row not in found[row] for row in range(NUM_QUERIES))


def test_item_side():
    """Queries are the items' own embeddings, and each is its own positive."""
    index = BruteForce().index(ITEMS, NAMES)
    scores = ITEMS.astype(float) @ ITEMS.T.astype(float)
    for margin in ({}, {"relative_margin": 0.5, "positive_embeddings": ITEMS}):
        found = mine(index, ITEMS, 4, positives=NAMES, sampling="top", **margin)
        expected = [
            eligible(
                scores[item],
                [item],
                relative_margin=0.5 if margin else None,
                positive_score=scores[item, item],
            )
            for item in range(NUM_ITEMS)
        ]
        assert found == table(expected, 4, NAMES)


def test_more_positives_than_the_range_is_deep():
    index = BruteForce().index(ITEMS)
    best = np.argsort(-SCORES, axis=1, kind="stable")
    found = mine(index, QUERIES, 3, positives=best[:, :40], range_max=3, sampling="top")
    assert found == best[:, 40:43].tolist()
    # All but two items are positives: no more are left.
    found = mine(index, QUERIES, 3, positives=best[:, :58], range_max=3)
    assert found == best[:, 58:].tolist()
    assert mine(index, QUERIES, 3, positives=best) == [[]] * NUM_QUERIES


def test_short_rows_are_counted_once():
    index = BruteForce().index(ITEMS)
    options = {"max_score": 0.0, "range_max": 25, "sampling": "top"}
    rows = [eligible(row, range_max=25, max_score=0.0) for row in SCORES]
    short = sum(len(row) < 5 for row in rows)
    assert 0 < short < NUM_QUERIES
    with pytest.warns(UserWarning) as caught:
        mine_hard_negatives(index, QUERIES, 5, batch_size=4, progress=False, **options)
    (message,) = [str(w.message) for w in caught if w.category is UserWarning]
    assert f"{short} of {NUM_QUERIES} rows ({short / NUM_QUERIES:.1%})" in message


def test_full_rows_are_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine_hard_negatives(BruteForce().index(ITEMS), QUERIES, 5, progress=False)


@pytest.mark.scann
def test_scann_finds_the_same_where_it_is_exact():
    items = np.random.default_rng(5).normal(size=(500, 8)).astype(np.float32)
    queries = np.random.default_rng(6).normal(size=(20, 8)).astype(np.float32)
    options = {"range_min": 5, "range_max": 60, "sampling": "top"}
    positives = np.random.default_rng(7).integers(0, 500, (20, 30))
    expected = mine(
        BruteForce().index(items), queries, 9, positives=positives, **options
    )
    found = mine(ScaNN().index(items), queries, 9, positives=positives, **options)
    assert found == expected


def test_progress_is_shown(capsys):
    index = BruteForce().index(ITEMS)
    mine_hard_negatives(index, QUERIES, 2, batch_size=10)
    assert "23/23" in capsys.readouterr().out
    mine_hard_negatives(index, QUERIES, 2, progress=False)
    assert not capsys.readouterr().out


INDEX = BruteForce().index(ITEMS, NAMES)
BAD = {
    "num_negatives": ({"num_negatives": 0}, "`num_negatives` must be an integer"),
    "batch_size": ({"batch_size": 0}, "`batch_size` must be an integer"),
    "range_min": ({"range_min": -1}, "`range_min` must be an integer of at least 0"),
    "range": ({"range_min": 5, "range_max": 5}, "`range_min` must be less than"),
    "no such rank": ({"range_min": 60}, "number of items in the index"),
    "sampling": ({"sampling": "random"}, "`sampling` must be one of"),
    "seed": ({"seed": -1}, "`seed` must be an integer of at least 0"),
    "score_function": (
        {"score_function": 3},
        "`score_function` must be a function from .rows, ids.",
    ),
    "max_score": ({"max_score": np.nan}, "`max_score` must be a number"),
    "negative margin": (
        {"absolute_margin": -1.0, "positive_scores": np.zeros(23)},
        "`absolute_margin` must be a number of at least 0",
    ),
    "margin alone": ({"relative_margin": 0.1}, "Margins refer to the score"),
    "no margin": ({"positive_scores": np.zeros(23)}, "Margins refer to the score"),
    "two references": (
        {
            "absolute_margin": 1.0,
            "positive_scores": np.zeros(23),
            "positive_embeddings": QUERIES,
        },
        "Margins refer to the score",
    ),
    "height of scores": (
        {"absolute_margin": 1.0, "positive_scores": np.zeros(22)},
        r"`positive_scores` must have one row per query \(23\), received 22",
    ),
    "width of embeddings": (
        {"absolute_margin": 1.0, "positive_embeddings": np.zeros([23, 4])},
        "`positive_embeddings` must be as wide",
    ),
    "other scores": (
        {
            "absolute_margin": 1.0,
            "positive_embeddings": QUERIES,
            "score_function": lambda rows, ids: np.zeros(ids.shape),
        },
        "which other scores cannot be compared with",
    ),
    "height of positives": (
        {"positives": [["item 1"]] * 24},
        r"`positives` must have one row per query \(23\), received 24",
    ),
    "absent": (
        {"positives": [["item 1", "item x"]] * 22 + [["item y"]]},
        "2 distinct ids that the index does not have, such as .*item x.*, .*item y",
    ),
    "filled by what is no id": (
        {"positives": [["item 1", "none"]] * 23},
        "ids that the index does not have, such as .none.*are a tf.RaggedTensor",
    ),
    "type of positives": (
        {"positives": np.zeros([23, 1], int)},
        "The index holds string ids, received ids of type int64",
    ),
    "rank of positives": (
        {"positives": np.zeros([23, 1, 1], int)},
        "`positives` must have shape",
    ),
    "no queries": ({"queries": QUERIES[:0]}, "at least one query"),
    "NaN queries": (
        {"queries": np.where(np.arange(23)[:, None] == 3, np.nan, QUERIES)},
        "`queries` must be finite, but 1 rows .* first of them row 3",
    ),
    "rank of queries": ({"queries": QUERIES[0]}, "`queries` must have shape"),
    "width of queries": ({"queries": QUERIES[:, :4]}, "must have width 5"),
    "index": ({"index": "items"}, "`index` must be a BruteForce"),
    "ids": ({"ids": NAMES}, "has ids of its own"),
    "nothing indexed": ({"index": BruteForce()}, "holds no candidates yet"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    changed, message = BAD[case]
    arguments = {"index": INDEX, "queries": QUERIES, "num_negatives": 2, **changed}
    with pytest.raises(ValueError, match=message):
        mine_hard_negatives(**arguments, progress=False)


def test_bad_datasets():
    dataset = tf.data.Dataset.from_tensor_slices(QUERIES).batch(10)
    for bad, message in (
        (dataset.repeat(), "must be finite"),
        (dataset.map(lambda q: (q, q)), "Map it first"),
        (dataset.take(0), "at least one query"),
    ):
        with pytest.raises(ValueError, match=message):
            mine_hard_negatives(INDEX, bad, 2, progress=False)
    for height in (22, 24):
        with pytest.raises(
            ValueError, match=f"one row per query .*, received {height}"
        ):
            positives = [["item 1"]] * height
            mine_hard_negatives(INDEX, dataset, 2, positives=positives, progress=False)
