"""EASE^R against the ridge regression of each item on all others, in float64."""

import numpy as np
import pytest
import scipy.sparse
import teacher_oracles as oracles

from tfrs_negatives import teachers
from tfrs_negatives.teachers import ease, ridge_inverses

EASE, Histories = teachers.EASE, teachers.Histories

SHAPES = {"more users": (60, 25), "more items": (25, 60), "square": (30, 30)}


def histories_of(matrix):
    users, items = map(np.arange, matrix.shape)
    return Histories(users, items, scipy.sparse.csr_matrix(matrix))


@pytest.fixture(scope="module", params=SHAPES)
def shape(request):
    return SHAPES[request.param]


@pytest.mark.parametrize("weighted", [False, True], ids=["ones", "weights"])
@pytest.mark.parametrize("entries", [1, 200, 2**22])
def test_scores(shape, weighted, entries, monkeypatch):
    for module in (ease, ridge_inverses):
        monkeypatch.setattr(module, "ENTRIES", entries)
    rng = np.random.default_rng(0)
    matrix = oracles.random_matrix(rng, *shape, weighted=weighted)
    weights = oracles.ease_weights(matrix, 2.5)
    teacher = EASE(2.5, threads=3).fit(histories_of(matrix), progress=False)
    new = oracles.random_matrix(rng, 7, shape[1], per_user=3, weighted=True)
    new[2] = 0
    # Fitted, new, and both at once; in any order.
    for rows in (matrix, matrix[::-3], new, np.vstack([new, matrix[5:9], new])):
        scores = teacher.scores(histories_of(rows))
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, rows @ weights, rtol=1e-5, atol=1e-5)
        for exclude in (True, False):
            had = rows > 0 if exclude else np.zeros_like(rows, bool)
            ids, found = teacher.top(
                histories_of(rows), 4, exclude_history=exclude, progress=False
            )
            for row, pairs in enumerate(oracles.top(scores, had, 4)):
                assert ids[row, : len(pairs)].tolist() == [i for i, _ in pairs]
                best = [s for _, s in pairs] + [0] * (4 - len(pairs))
                np.testing.assert_allclose(found[row], best, rtol=1e-6)


def test_what_nobody_had_scores_0(shape):
    matrix = oracles.random_matrix(np.random.default_rng(1), *shape)
    matrix[:, 3] = 0
    histories = histories_of(matrix)
    scores = EASE(5.0).fit(histories, progress=False).scores(histories)
    assert not scores[:, 3].any() and scores.any()


def test_users_who_had_the_same():
    matrix = np.tile(oracles.random_matrix(np.random.default_rng(1), 5, 60), (3, 1))
    weights = oracles.ease_weights(matrix, 2.0)
    histories = histories_of(matrix)
    scores = EASE(2.0).fit(histories, progress=False).scores(histories)
    np.testing.assert_allclose(scores, matrix @ weights, rtol=1e-5, atol=1e-5)


def test_rows_whose_keys_are_one_by_chance_are_told_apart():
    matrix = oracles.random_matrix(np.random.default_rng(1), 20, 40)
    teacher = EASE(2.0).fit(histories_of(matrix), progress=False)
    solution = teacher._solution
    solution._bits = np.zeros_like(solution._bits)
    solution._keys, solution._rows = np.zeros(1, np.uint64), np.array([4])
    found = solution._fitted_rows(histories_of(matrix).matrix)
    assert found.tolist() == [-1] * 4 + [4] + [-1] * 15
    expected = matrix @ oracles.ease_weights(matrix, 2.0)
    np.testing.assert_allclose(
        teacher.scores(histories_of(matrix)), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(300, 40), (40, 300)])
def test_it_says_what_it_would_take_beyond_its_limit(shape):
    matrix = oracles.random_matrix(np.random.default_rng(1), *shape)
    exact = 40 * 40 * 4
    histories = histories_of(matrix)
    teacher = EASE(2.0, max_bytes=exact).fit(histories, progress=False)
    before = teacher.scores(histories)
    more = histories_of(oracles.random_matrix(np.random.default_rng(1), 41, 300))
    with pytest.raises(ValueError) as error:
        teacher.fit(more, progress=False)
    message = str(error.value)
    assert "41 users and 300 items" in message and "ItemNeighbours" in message
    assert "max_bytes" in message
    np.testing.assert_array_equal(teacher.scores(histories), before)


def test_the_limit_comes_before_any_memory():
    million = 1_000_000
    ones = np.arange(million)
    with pytest.raises(ValueError, match="takes 3,725.3 GiB, .* allows 8.0 GiB"):
        EASE(100.0).fit(
            Histories(ones, ones, scipy.sparse.eye(million)), progress=False
        )


def test_what_float32_cannot_invert():
    histories = histories_of(np.full([30, 20], 1e6))
    with pytest.raises(ValueError, match="Raise `l2`"):
        EASE(1e-9).fit(histories, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": 0}, "`l2` must be a finite number above 0, received 0"),
        ({"l2": -3.0}, "above 0, received -3"),
        ({"l2": np.nan}, "above 0, received nan"),
        ({"l2": np.inf}, "above 0, received inf"),
        ({"l2": "100"}, "`l2` must be a number, received '100'"),
        ({"l2": 1, "max_bytes": 0}, "`max_bytes` must be an integer of at least 1"),
        ({"l2": 1, "threads": -1}, "`threads` must be an integer of at least 1"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        EASE(**options)


def test_repr_and_progress(capfd):
    assert repr(EASE(90.0)) == "EASE(l2=90)"
    matrix = oracles.random_matrix(np.random.default_rng(1), 20, 40)
    EASE(2.0).fit(histories_of(matrix))
    assert "20/20" in capfd.readouterr().out
