import re
import warnings

import numpy as np
import pytest
import tensorflow as tf
from sampler_oracles import check_distribution, collect, restricted, rows_dataset

from tfrs_negatives.samplers import Mined

TABLE = [[4, 2, 7, 1, 9], [0, 3, 5], [8, 6, 8, 6, 2], []]
# The same as a matrix, in which every entry is an id.
FULL = np.array([[4, 2, 7, 1, 9], [0, 3, 5, 0, 0], [8, 6, 8, 6, 2], [1] * 5])
ITEMS = np.arange(10)


@pytest.fixture(autouse=True)
def quiet():
    """Short rows are the point of many tests; one test is of the warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def attached(sampler, num, num_batches=1, size=4, **options):
    """Elements whose rows are the table's in turn."""
    dataset = rows_dataset(num_batches, size, query=np.arange(4))
    return sampler.attach(dataset, num, per_row=True, **options)


def drawn(sampler, num, num_batches=1, size=4, **options):
    return collect(
        attached(sampler, num, num_batches, size, **options),
        "negatives",
        "negatives_log_q",
        "negatives_mask",
    )


@pytest.mark.parametrize("start, stop", [(0, None), (1, 3), (2, 99)])
def test_single_draws_are_uniform_over_the_range(start, stop):
    sampler = Mined(ITEMS, TABLE, "query", range_min=start, range_max=stop)
    draws, log_q, mask = drawn(sampler, 1, 20, 400, seed=4)
    for row in range(4):
        # A repeat of an item counts at its better rank.
        entries = [
            item
            for rank, item in enumerate(TABLE[row])
            if item not in TABLE[row][:rank]
            and start <= rank < (5 if stop is None else stop)
        ]  # fmt: skip
        here = mask[row::4]
        assert here.all() if entries else not here.any()
        if entries:
            q = np.bincount(entries, minlength=10) / len(entries)
            check_distribution(draws[row::4], q)
            np.testing.assert_allclose(log_q[row::4], -np.log(len(entries)), rtol=1e-6)


def test_a_row_never_repeats_an_item_and_masks_the_rest():
    sampler = Mined({"id": ITEMS, "x": ITEMS * 1.5}, TABLE, "query", id_feature="id")
    sizes = [5, 3, 3, 0]
    for element in attached(sampler, 4, 50):
        negatives = element["negatives"]
        for row, size in enumerate(sizes):
            mask = element["negatives_mask"][row].numpy()
            assert mask.tolist() == [m < size for m in range(4)]
            items = negatives["id"][row].numpy()
            assert len(set(items[mask])) == mask.sum()
            assert set(items[mask]) <= set(TABLE[row])
            np.testing.assert_array_equal(items[~mask], 0)
            expected = np.where(mask, -np.log(max(size, 1)), 0)
            np.testing.assert_allclose(element["negatives_log_q"][row], expected)
    assert sampler.num_padded.numpy() == 50 * (0 + 1 + 1 + 4)


def test_every_order_of_several_draws_is_as_likely():
    sampler = Mined(ITEMS, TABLE, "query")
    draws, _, _ = drawn(sampler, 3, 30, 400, seed=6)
    orders, counts = np.unique(draws[1::4], axis=0, return_counts=True)
    assert len(orders) == 6 and set(orders.ravel()) == {0, 3, 5}
    check_distribution(np.repeat(np.arange(6), counts), np.full(6, 1 / 6))


def test_excluded_items_are_not_drawn():
    known = np.array([[4, 9, 4], [5, 5, 77], [6, 8, 2], [1, 2, 3]])
    sampler = Mined(ITEMS, TABLE, "query")
    dataset = rows_dataset(20, 400, query=np.arange(4), known=known)
    dataset = sampler.attach(dataset, 1, per_row=True, exclude="known", seed=8)
    draws, log_q, mask = collect(
        dataset, "negatives", "negatives_log_q", "negatives_mask"
    )
    for row, left in enumerate([{2, 7, 1}, {0, 3}, set(), set()]):
        assert mask[row::4].all() == bool(left)
        if left:
            q = restricted(np.ones(10), set(range(10)) - left)
            check_distribution(draws[row::4], q)
            np.testing.assert_allclose(log_q[row::4], -np.log(len(left)), rtol=1e-6)


SHIFTS = {
    "plus one": lambda n: n + 1,
    "minus 1000": lambda n: n - 1000,
    "strings": lambda n: "" if n == 4 else f"item {n}",
}


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("form", ["lists", "ragged", "matrix"])
def test_draws_do_not_depend_on_what_items_are_called(shift, form):
    """Any number and any string is an id: of items, of rows, and of exclusions."""
    name = SHIFTS[shift]
    ids = np.array([name(n) for n in range(10)])
    table = FULL.tolist() if form == "matrix" else TABLE
    named = [[name(n) for n in row] for row in table]
    if form != "lists":
        named = tf.ragged.constant(named)
    if form == "matrix":
        named = named.to_tensor()
    known = [[4, 9], [5], [], [1, 2, 4]]

    def draw(items, table, rows, known):
        sampler = Mined(items, table, "query", row_ids=rows)
        elements = {"query": rows, "known": known}
        dataset = tf.data.Dataset.from_tensors(elements).repeat(50)
        options = {"per_row": True, "exclude": "known", "seed": 3}
        names = "negatives", "negatives_log_q", "negatives_mask"
        return *collect(sampler.attach(dataset, 3, **options), *names), sampler

    draws, log_q, mask, sampler = draw(
        ids, named, ids[:4], tf.ragged.constant([[name(n) for n in r] for r in known])
    )
    plain = draw(ITEMS, table, np.arange(4), tf.ragged.constant(known, tf.int64))
    np.testing.assert_array_equal(sampler.table, plain[3].table)
    np.testing.assert_array_equal(mask, plain[2])
    np.testing.assert_allclose(log_q, plain[1])
    expected = [[name(n) for n in row] for row in plain[0].tolist()]
    assert tf.constant(draws).numpy().tolist() == tf.constant(expected).numpy().tolist()
    for row in range(4):
        left = set(table[row]) - set(known[row])
        assert set(plain[0][row::4][plain[2][row::4]]) == left


def test_an_empty_table_is_filled_later():
    sampler = Mined(ITEMS, [[]] * 4, "query", range_min=1)
    assert not drawn(sampler, 2)[2].any()
    sampler.assign(TABLE)
    assert set(drawn(sampler, 9)[0][0]) - {0} == {2, 7, 1, 9}


def test_rows_and_items_are_named_by_ids():
    items = np.array(["i0", "i1", "i2"])
    table = [["i2"], ["i0", "i1"]]
    sampler = Mined(items, table, "query", row_ids=np.array(["u7", "u1"]))
    dataset = rows_dataset(1, 3, query=np.array(["u1", "nobody", "u7"]))
    element = next(iter(sampler.attach(dataset, 2, per_row=True)))
    np.testing.assert_array_equal(
        element["negatives_mask"], [[True, True], [False, False], [True, False]]
    )
    assert set(element["negatives"][0].numpy()) == {b"i0", b"i1"}
    assert element["negatives"][2, 0] == b"i2"


def test_a_running_pipeline_sees_a_new_table_and_range():
    sampler = Mined(ITEMS, [[1, 2], [3, 4]], "query")
    traces = []
    dataset = rows_dataset(200, 2, query=np.arange(2))
    dataset = sampler.attach(dataset, 2, per_row=True)
    iterator = iter(dataset)

    @tf.function
    def step(features):
        traces.append(1)
        return features["negatives"], features["negatives_mask"]

    def after_those_under_way():
        for _ in range(40):
            draws, mask = step(next(iterator))
        return [set(d[m]) for d, m in zip(draws.numpy(), mask.numpy(), strict=True)]

    assert after_those_under_way() == [{1, 2}, {3, 4}]
    sampler.assign([[5, 6, 7], [8, 9]], step=30)
    sampler.range_min.assign(1)
    assert after_those_under_way() == [{6, 7}, {9}]
    assert sampler.refreshed_at.numpy() == 30
    sampler.range_max.assign(2)
    assert after_those_under_way() == [{6}, {9}]
    sampler.range_min.assign(5)
    assert after_those_under_way() == [set(), set()]
    assert len(traces) == 1


def test_a_checkpoint_has_table_range_and_step(tmp_path):
    sampler = Mined(ITEMS, TABLE, "query", range_max=4)
    sampler.assign([row[:3] for row in TABLE], step=12)
    sampler.range_min.assign(2)
    drawn(sampler, 2)
    path = tf.train.Checkpoint(sampler=sampler).save(tmp_path / "sampler")
    other = Mined(ITEMS, TABLE[::-1], "query")
    tf.train.Checkpoint(sampler=other).restore(path).assert_consumed()
    expected = [[4, 2, 7], [0, 3, 5], [8, 6, -1], [-1] * 3]
    np.testing.assert_array_equal(other.table, expected)
    assert other.refreshed_at.numpy() == 12
    assert (other.range_min.numpy(), other.range_max.numpy()) == (2, 4)
    # One entry in range, but for row 2, where it is a repeat, and row 3.
    assert other.num_padded.numpy() == 1 + 1 + 2 + 2


def test_made_within_a_strategy(two_replicas):
    with two_replicas.scope():
        sampler = Mined(ITEMS, TABLE, "query")
    sampler.assign(tf.ragged.constant(TABLE))
    draws, _, mask = drawn(sampler, 5)
    assert set(draws[0][mask[0]]) == set(TABLE[0])
    assert sampler.num_padded.numpy() == 2 + 2 + 5


def test_short_rows_are_told_before_training():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sampler = Mined(ITEMS, TABLE, "query", range_max=4)
        attached(sampler, 3)
        assert [str(w.message)[:40] for w in caught] == [
            "2 of the mined table's 4 rows (50.0%) ha"
        ]
        assert "fewer than the 3 negatives" in str(caught[0].message)
        assert "from 0 up to 4" in str(caught[0].message)
        full = np.arange(12).reshape(4, 3) % 10
        sampler.assign(full)
        assert len(caught) == 1
        sampler.assign(np.array([[1, 2]] * 4))
        assert "4 of the mined table's 4 rows (100.0%)" in str(caught[1].message)


def test_a_warning_made_an_error_changes_nothing():
    sampler = Mined(ITEMS, TABLE[:2], "query")
    sampler.assign([[1, 2], [3, 4]], step=1)
    rows = rows_dataset(1, 2, query=np.arange(2))
    sampler.attach(rows, 2, per_row=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="1 of the mined table's 2 rows"):
            sampler.assign([[1], [2, 5]], step=5)
    np.testing.assert_array_equal(sampler.table, [[1, 2], [3, 4]])
    assert sampler.refreshed_at.numpy() == 1


@pytest.mark.parametrize(
    "start, stop, message",
    [
        (7, 9, r"2 of the batch's 2 rows \(100.0%\).*fewer than the 2.* 7 up to 9"),
        (3, 9, r"2 of the batch's 2 rows"),
        (2, 4, r"1 of the batch's 2 rows \(50.0%\)"),
        (1, 3, None),
    ],
)
def test_a_range_that_moves_to_where_rows_are_short_is_told_once(start, stop, message):
    table = [[1, 2, 3, 4], [5, 6, 7]]
    rows = rows_dataset(300, 3, query=np.array([0, 99, 1]))
    sampler = Mined(ITEMS, table, "query", range_max=2)
    iterator = iter(sampler.attach(rows, 2, per_row=True))
    for _ in range(3):
        next(iterator)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sampler.range_max.assign(stop)
        sampler.range_min.assign(start)
        for _ in range(60):
            next(iterator)
        found = [str(w.message) for w in caught if "negatives asked" in str(w.message)]
        # While the two are assigned, one pair that nobody meant may be met.
        if message is None:
            assert not found
        else:
            assert len(found) <= 2 and re.search(message, found[-1])


@pytest.mark.parametrize(
    "table, message",
    [
        ([1, 2, 3, 4], r"must have shape \[rows, ids\], received \(4,\)"),
        ([[[1]]] * 4, r"sequence of vectors"),
        (np.zeros((0, 3), int), "one row of ids.*received none"),
        (TABLE[:3], "expected 4 rows, received 3"),
        (np.where(FULL == 9, 19, FULL), "1 entries.*: 19"),
        (np.where(FULL == 7, -1, FULL), "1 entries.*: -1.*tf.RaggedTensor"),
        (np.array([["a"]] * 4), "`table` must hold integers.*string"),
        (FULL * 1.0, "must be integers or strings, received float64"),
        (FULL[:, :1], "wider than `range_min`.*more than 1.*received 1"),
    ],
)
def test_a_bad_table_changes_nothing(table, message):
    sampler = Mined(ITEMS, TABLE, "query", row_ids=np.arange(4), range_min=1)
    before = sampler.table.numpy()
    with pytest.raises(ValueError, match=message):
        sampler.assign(table, step=3)
    np.testing.assert_array_equal(sampler.table, before)
    assert sampler.refreshed_at.numpy() == 0
    with pytest.raises(ValueError, match=message):
        Mined(ITEMS, table, "query", row_ids=np.arange(4), range_min=1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"range_min": 3, "range_max": 3}, "range_min < range_max.*3 and 3"),
        ({"range_min": -1}, "`range_min`.*at least 0.*-1"),
        ({"row_ids": [1, 2, 3]}, "expected 3 rows, received 4"),
        ({"row_ids": [1, 2, 3, 1]}, "`row_ids` must hold each id once.*1 are repeats"),
        ({"id_feature": "id"}, "`id_feature`.*'id'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Mined(ITEMS, TABLE, "query", **options)


def test_draws_belong_to_rows():
    sampler = Mined(ITEMS, TABLE, "query")
    with pytest.raises(ValueError, match="expected `per_row=True`"):
        sampler.attach(rows_dataset(query=np.arange(4)), 2)
    with pytest.raises(ValueError, match=r"expected 'query', received \['row'\]"):
        sampler.attach(rows_dataset(), 2, per_row=True)
    with pytest.raises(ValueError, match="belongs to one row"):
        sampler.log_q  # noqa: B018
    with pytest.raises(ValueError, match="`query` must hold integers"):
        sampler.attach(rows_dataset(query=np.array(["a"])), 2, per_row=True)
