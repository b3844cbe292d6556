"""Blends of teachers against loops."""

import numpy as np
import pytest
import scipy.sparse
import teacher_oracles as oracles

from tfrs_negatives import teachers
from tfrs_negatives.teachers import blended

EASE, Histories, ItemNeighbours = (
    teachers.EASE,
    teachers.Histories,
    teachers.ItemNeighbours,
)
NAMES = np.array([f"item {i}" for i in range(25)])


@pytest.fixture(scope="module")
def matrix():
    return oracles.random_matrix(np.random.default_rng(0), 40, 25, weighted=True)


@pytest.fixture(scope="module")
def histories(matrix):
    return Histories(np.arange(40) * 3, NAMES, scipy.sparse.csr_matrix(matrix))


def shown(table):
    return oracles.dense(table.item_ids, table.weights, NAMES)


@pytest.mark.parametrize("number", [1, 6, 25])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_ready_teachers(matrix, histories, number, sharpness, monkeypatch):
    monkeypatch.setattr(blended, "_USERS", 7)
    both = [t.fit(histories, progress=False) for t in (EASE(2.0), ItemNeighbours(5))]
    table = teachers.blend(both, histories, number, sharpness=sharpness, progress=False)
    answers = [oracles.top(t.scores(histories), matrix > 0, number) for t in both]
    expected = oracles.blended(answers, number, sharpness, 25)
    np.testing.assert_allclose(shown(table), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table.weights.sum(axis=1), 1, rtol=1e-5)
    assert (np.diff(table.weights, axis=1) <= 0).all()
    assert table.item_ids.shape == (40, number)
    np.testing.assert_array_equal(table.user_ids, histories.user_ids)


def test_functions_and_tables_are_teachers(matrix, histories):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=[40, 25])
    scores[4] = -1
    scores[5, 3] = -np.inf
    ids = np.tile(NAMES, (40, 1))
    seen = []

    def function(part, number):
        # In any order, more than asked for, with what the users had.
        rows = part.user_ids // 3
        seen.extend(part.lists())
        return ids[rows][:, ::-1], scores[rows][:, ::-1] * 1e300

    other = np.maximum(rng.normal(size=[40, 25]), 0)
    other_table = teachers.Suggestions(histories.user_ids[:30], ids[:30], other[:30])
    other[30:] = 0  # Users that it lacks.
    found = teachers.blend(
        [function, other_table], histories, 6, sharpness=2.0, progress=False
    )
    answers = [oracles.top(s, matrix > 0, 6) for s in (scores, other)]
    expected = oracles.blended(answers, 6, 2.0, 25)
    np.testing.assert_allclose(shown(found), expected, rtol=1e-4, atol=1e-6)
    assert [own.tolist() for own in seen] == [NAMES[row > 0].tolist() for row in matrix]


def test_rows_of_which_nobody_knows_anything(histories):
    table = teachers.blend(
        [lambda part, number: (np.tile(NAMES[:2], (len(part), 1)),
                               np.zeros([len(part), 2]))],
        histories, 3, progress=False,
    )  # fmt: skip
    assert not table.weights.any() and set(table.item_ids.ravel()) <= set(NAMES)


@pytest.mark.parametrize("kind", ["int", "str", "bytes", "object"])
def test_items_that_nobody_had(kind):
    known, new = {
        "int": ([[1, 2], [2, 3]], [[2**40, 2, -8]] * 2),
        "str": ([["a", "b"], ["b", "c"]], [["new", "b", b"x"]] * 2),
        "bytes": ([[b"a", b"b"], [b"b", b"c"]], [["new", "b", "x"]] * 2),
        "object": (
            [np.array(["a", "b"], object), np.array(["b", "c"], object)],
            [["a longer one", "b", "x"]] * 2,
        ),
    }[kind]
    if kind == "str":  # All of one kind, bytes as TensorFlow has them.
        new = [[b"new", b"b", b"x"]] * 2
    histories = Histories.from_lists(known)
    table = teachers.blend(
        [lambda part, number: (new, [[3.0, 5.0, 1.0]] * 2)],
        histories,
        4,
        progress=False,
    )
    expected = [i.decode() if isinstance(i, bytes) else i for i in new[0]]
    for row in table.item_ids.tolist():
        row = [i.decode() if isinstance(i, bytes) else i for i in row]
        assert row[:2] == [expected[0], expected[2]]
    assert table.weights.tolist() == [[0.75, 0.25, 0, 0]] * 2


def test_repeats_of_an_answer_add_up():
    histories = Histories.from_lists([[1], [2]])
    table = teachers.blend(
        [lambda part, number: ([[7, 8, 7]] * 2, [[1.0, 2.0, 3.0]] * 2)],
        histories, 2, progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(table.weights, [[2 / 3, 1 / 3]] * 2, rtol=1e-6)
    assert table.item_ids.tolist() == [[7, 8]] * 2


def test_progress(histories, capfd):
    teacher = ItemNeighbours().fit(histories, progress=False)
    teachers.blend([teacher], histories, 3)
    assert "40/40" in capfd.readouterr().out
    teachers.blend([teacher], histories, 3, progress=False)
    assert capfd.readouterr().out == ""


def returning(ids, scores):
    return [lambda part, number: (ids, scores)]


ROWS = [["a"]] * 40


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, "at least one teacher"),
        (lambda part, number: None, {}, "a list of at least one"),
        ([3], {}, "must be functions"),
        (returning(ROWS, [[1.0]]), {}, r"teachers\[0\] must return .* \(40, 1\) and"),
        (returning(ROWS[1:], [[1.0]] * 39), {}, r"\[40, m\]"),
        ([lambda part, number: ROWS], {}, "must return a pair, ids and scores"),
        (returning([["a"], ["a", "b"]], [[1], [2, 3]]), {}, "rows of one length"),
        (returning(ROWS, ROWS), {}, "scores, which are numbers"),
        (returning(ROWS, [[np.nan]] * 40), {}, "NaN or infinite"),
        (returning(ROWS, [[np.inf]] * 40), {}, "NaN or infinite"),
        (returning([[5]] * 40, [[1.0]] * 40), {}, "must hold strings"),
        (returning([[0.5]] * 40, [[1.0]] * 40), {}, "must hold ids"),
        (returning(ROWS, ROWS), {"number": 0}, "`number` must be an integer"),
        (returning(ROWS, ROWS), {"sharpness": 0}, "`sharpness` must be a finite"),
        (returning(ROWS, ROWS), {"sharpness": np.nan}, "`sharpness` must be a finite"),
        (returning(ROWS, ROWS), {"sharpness": "2"}, "`sharpness` must be a number"),
        (returning(ROWS, ROWS), {"histories": [[1]]}, "teachers.Histories"),
        ([ItemNeighbours()], {}, "call `fit` first"),
    ],
)
def test_errors(histories, given, options, message):
    options = {"histories": histories, "number": 3, "progress": False, **options}
    with pytest.raises(ValueError, match=message):
        teachers.blend(given, **options)


def test_more_than_a_fitted_teacher_has(histories):
    teacher = ItemNeighbours().fit(histories, progress=False)
    with pytest.raises(ValueError, match="at most the number of items, 25"):
        teachers.blend([teacher], histories, 26, progress=False)
