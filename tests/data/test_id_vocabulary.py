"""Ids that come part by part get the numbers that NumPy gives the whole."""

import numpy as np
import pyarrow as pa
import pytest

from tfrs_negatives.data import arrow_columns, id_vocabulary
from tfrs_negatives.data.id_vocabulary import IdVocabulary

IDS = [
    [5, -(2**63), 5, 2**62, -1],
    ["b", "", "é", "b", "z", "Z", "😀", "\ufffd"],
    ["007", "7", "007"],
    [f"item {n % 37}" for n in range(200)],
    list(np.random.default_rng(0).integers(-50, 50, 300)),
]


def column(ids):
    if isinstance(ids[0], str):
        return arrow_columns.text(pa.array(ids, pa.large_string()), "ids", "a table")
    return np.asarray(ids, np.int64)


@pytest.mark.parametrize("merge", [1, 10, 10**6])
@pytest.mark.parametrize("part", [1, 7, 1000])
@pytest.mark.parametrize("ids", IDS)
def test_numbers_are_those_of_numpy(monkeypatch, ids, part, merge):
    monkeypatch.setattr(id_vocabulary, "_MERGE", merge)
    vocabulary = IdVocabulary(is_text=True)
    starts = range(0, len(ids), part)
    keys = [vocabulary.add(column(ids[start : start + part])) for start in starts]
    found = vocabulary.finish()
    distinct, numbers = np.unique(np.asarray(ids), return_inverse=True)
    assert found.ids.tolist() == distinct.tolist()
    assert len(found) == len(distinct)
    assert found(np.concatenate(keys)).tolist() == numbers.tolist()
    assert all(type(one) in (int, str) for one in found.ids.tolist())


@pytest.mark.parametrize("is_text", [False, True])
def test_text_that_is_whole_numbers(is_text):
    ids = ["10", "9", "-3", "9"]
    vocabulary = IdVocabulary(is_text)
    keys = vocabulary.add(column(ids))
    found = vocabulary.finish()
    expected = [-3, 9, 10] if is_text else ["-3", "10", "9"]
    assert found.ids.tolist() == expected
    wanted = [int(one) if is_text else one for one in ids]
    assert found.ids[found(keys)].tolist() == wanted


def test_values_without_rows_are_no_ids():
    text = column(["a", "b", "c"])[np.array([True, False, True])]
    vocabulary = IdVocabulary()
    vocabulary.add(text)
    assert vocabulary.finish().ids.tolist() == ["a", "c"]


def test_equal_hashes_are_an_error(monkeypatch):
    monkeypatch.setattr(
        id_vocabulary, "hashes_of", lambda values: np.zeros(len(values), np.int64)
    )
    vocabulary = IdVocabulary()
    vocabulary.add(column(["a"]))
    vocabulary.add(column(["b"]))
    with pytest.raises(ValueError, match="one 64-bit hash"):
        vocabulary.finish()


def test_no_ids():
    assert len(IdVocabulary().finish()) == 0
