"""Item neighbours against loops."""

import numpy as np
import pytest
import scipy.sparse
import teacher_oracles as oracles

from tfrs_negatives import teachers
from tfrs_negatives.teachers import item_neighbours

Histories, ItemNeighbours = teachers.Histories, teachers.ItemNeighbours


def histories_of(matrix, item_ids=None):
    items = np.arange(matrix.shape[1]) if item_ids is None else item_ids
    users = np.arange(len(matrix))
    return Histories(users, items, scipy.sparse.csr_matrix(matrix))


@pytest.fixture(scope="module", params=[False, True], ids=["ones", "weights"])
def matrix(request):
    rng = np.random.default_rng(0)
    return oracles.random_matrix(rng, 40, 25, weighted=request.param)


@pytest.mark.parametrize("neighbours", [1, 4, 100])
@pytest.mark.parametrize("products", [1, 300, 2**21])
def test_scores(matrix, neighbours, products, monkeypatch):
    monkeypatch.setattr(item_neighbours, "_PRODUCTS", products)
    histories = histories_of(matrix)
    teacher = ItemNeighbours(neighbours, threads=3).fit(histories, progress=False)
    weights = oracles.neighbour_weights(matrix, neighbours)
    expected = matrix @ weights
    scores = teacher.scores(histories)
    assert scores.dtype == np.float32
    # Rounding decides which of equal neighbours is kept.
    tied = neighbours < 25 and (matrix.max() == 1)
    close = np.isclose(scores, expected, rtol=1e-5, atol=1e-6)
    assert close.all() or (tied and close.mean() > 0.9)
    for number in (1, 3, 25):
        for exclude in (True, False):
            ids, found = teacher.top(
                histories, number, exclude_history=exclude, progress=False
            )
            had = matrix > 0 if exclude else np.zeros_like(matrix, bool)
            wanted = oracles.top(scores, had, number)
            for row, pairs in enumerate(wanted):
                assert ids[row, : len(pairs)].tolist() == [i for i, _ in pairs]
                np.testing.assert_allclose(
                    found[row], [s for _, s in pairs] + [0] * (number - len(pairs))
                )


def test_the_number_of_threads_changes_nothing(matrix, monkeypatch):
    monkeypatch.setattr(item_neighbours, "_PRODUCTS", 50)
    histories = histories_of(matrix)
    found = [
        ItemNeighbours(3, threads=threads)
        .fit(histories, progress=False)
        .top(histories, 7, progress=False)
        for threads in (1, 4, None)
    ]
    for ids, scores in found[1:]:
        np.testing.assert_array_equal(ids, found[0][0])
        np.testing.assert_array_equal(scores, found[0][1])


def test_of_equal_neighbours_the_first_are_kept():
    histories = histories_of(np.ones([2, 6]))
    teacher = ItemNeighbours(2).fit(histories, progress=False)
    scores = teacher.scores(histories_of(np.eye(6)))
    assert [np.flatnonzero(row).tolist() for row in scores] == [
        [1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]
    ]  # fmt: skip


def test_new_histories_of_other_items(matrix):
    names = np.array([f"item {i}" for i in range(25)])
    teacher = ItemNeighbours(5).fit(histories_of(matrix, names), progress=False)
    lists = [["item 3", "unknown", "item 11"], [], ["nobody's"]]
    scores = teacher.scores(Histories.from_lists(lists))
    one = np.eye(25)
    expected = teacher.scores(histories_of(one[[3]] + one[[11]], names))
    np.testing.assert_allclose(scores[0], expected[0], rtol=1e-6)
    assert not scores[1:].any()
    ids, found = teacher.top(Histories.from_lists(lists), 4, progress=False)
    assert ids[1:].ravel().tolist() == ["item 0"] * 8 and not found[1:].any()
    assert not {"item 3", "item 11"} & set(ids[0][found[0] > 0].tolist())


def test_items_without_interactions_are_never_suggested(matrix):
    wider = np.hstack([matrix, np.zeros([40, 3])])
    teacher = ItemNeighbours(50).fit(histories_of(wider), progress=False)
    assert not teacher.scores(histories_of(wider))[:, 25:].any()


def test_progress(matrix, capfd):
    teacher = ItemNeighbours(5).fit(histories_of(matrix))
    assert "25/25" in capfd.readouterr().out
    teacher.top(histories_of(matrix), 2)
    assert "40/40" in capfd.readouterr().out
    teacher.fit(histories_of(matrix), progress=False)
    teacher.top(histories_of(matrix), 2, progress=False)
    teacher(histories_of(matrix), 2)
    assert capfd.readouterr().out == ""


def test_repr():
    assert repr(ItemNeighbours()) == "ItemNeighbours()"
    assert (
        repr(ItemNeighbours(7, threads=2)) == "ItemNeighbours(neighbours=7, threads=2)"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t, h: ItemNeighbours(0), "`neighbours` must be an integer of at least"),
        (lambda t, h: ItemNeighbours(2.5), "`neighbours` must be an integer"),
        (lambda t, h: ItemNeighbours(threads=0), "`threads` must be an integer"),
        (lambda t, h: ItemNeighbours().top(h, 1), "call `fit` first"),
        (lambda t, h: ItemNeighbours().item_ids, "call `fit` first"),
        (lambda t, h: t.top(h, 0), "`number` must be an integer of at least 1"),
        (lambda t, h: t.top(h, 26), "at most the number of items, 25, received 26"),
        (lambda t, h: t.top([[1]], 1), "must be `teachers.Histories`"),
        (lambda t, h: t.fit({"user": [1], "item": [2]}), "Histories.from_table"),
        (lambda t, h: t.scores(Histories.from_lists([["a"]])), "must hold integers"),
        (lambda t, h: t.fit(histories_of(np.ones([3, 1]))), "at least two items"),
        (
            lambda t, h: t.fit(histories_of(np.zeros([3, 2]))),
            "at least one interaction",
        ),
    ],
)
def test_errors_leave_what_was_fitted(matrix, call, message):
    histories = histories_of(matrix)
    teacher = ItemNeighbours(4).fit(histories, progress=False)
    before = teacher.scores(histories)
    with pytest.raises(ValueError, match=message):
        call(teacher, histories)
    np.testing.assert_array_equal(teacher.scores(histories), before)
