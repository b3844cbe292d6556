"""The largest of each row, against sorting."""

import numpy as np
import pytest
import scipy.sparse

from tfrs_negatives.teachers import ranked_rows


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, [40, 12]).astype(np.float32) / 4  # Many are equal.
    values[3] = 0
    values[4] = 1e-30
    values[5, ::2] = 3e38
    return values


def expected(values, number):
    """Lists of (column, value), of the largest above 0 and of equal ones the first."""
    found = []
    for row in values.tolist():
        order = sorted(range(len(row)), key=lambda j: (-row[j], j))
        found.append([(j, row[j]) for j in order if row[j] > 0][:number])
    return found


@pytest.mark.parametrize("number", [1, 5, 12])
def test_sparse(values, number):
    matrix = scipy.sparse.csr_matrix(values)
    columns, found = ranked_rows.largest_of_sparse(matrix, number)
    for row, wanted in enumerate(expected(values, number)):
        pairs = list(zip(columns[row].tolist(), found[row].tolist(), strict=True))
        filler = (wanted[0][0] if wanted else 0, 0.0)
        assert pairs == wanted + [filler] * (number - len(wanted))


@pytest.mark.parametrize("number", [1, 5, 12])
def test_dense(values, number):
    columns, found = ranked_rows.largest_of_dense(values - 0.5, number)
    for row, wanted in enumerate(expected(values - np.float32(0.5), number)):
        # Which of those that equal the last one is open.
        assert found[row].tolist() == [v for _, v in wanted] + [0.0] * (
            number - len(wanted)
        )
        for column, value in zip(columns[row], found[row], strict=True):
            if value > 0:
                assert values[row, column] - np.float32(0.5) == value
        kept = columns[row][found[row] > 0]
        assert len(set(kept)) == len(kept)
        filled = columns[row][found[row] == 0]
        assert set(filled.tolist()) <= {int(kept[0]) if len(kept) else 0}


@pytest.mark.parametrize("number", [1, 5, 12])
def test_keep(values, number):
    matrix = scipy.sparse.csr_matrix(values)
    kept = ranked_rows.keep_largest(matrix, number)
    found = kept.toarray()
    for row, wanted in enumerate(expected(values, number)):
        places = np.flatnonzero(found[row])
        assert places.tolist() == sorted(j for j, _ in wanted)
        assert found[row, places].tolist() == values[row, places].tolist()
    assert kept.has_canonical_format
    assert (matrix.toarray() == values).all()


def test_more_than_there_is():
    columns, values = ranked_rows.largest_of_dense(np.array([[1.0, 2.0]]), 2)
    assert columns.tolist() == [[1, 0]] and values.tolist() == [[2.0, 1.0]]
    empty = scipy.sparse.csr_matrix((2, 3), dtype=np.float32)
    columns, values = ranked_rows.largest_of_sparse(empty, 2)
    assert not columns.any() and not values.any()
