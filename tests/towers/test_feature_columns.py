"""Columns of any library become int64, float64 or strings, with missing values told."""

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf

from tfrs_negatives._feature_columns import feature_column, feature_values, missing

NAN = float("nan")


@pytest.mark.parametrize(
    "values, expected",
    [
        ([1, -2], [1, -2]),
        (np.array([3, 4], np.uint8), [3, 4]),
        ([True, False], [1, 0]),
        ([1, None], [1.0, NAN]),
        (pd.Series([1, pd.NA], dtype="Int64"), [1.0, NAN]),
        ([1, 2.5, None], [1.0, 2.5, NAN]),
        (np.array([1.5, NAN], np.float32), [1.5, NAN]),
        ([b"a", None, "\u00e9".encode()], ["a", "", "\u00e9"]),
        (["a", NAN, pd.NA], ["a", "", ""]),
        (np.array(["a", "b"]), ["a", "b"]),
        (tf.constant(["a", ""]), ["a", ""]),
        (pd.Series(["x", None]).astype("category"), ["x", ""]),
        ([None, NAN, pd.NaT], [NAN, NAN, NAN]),
        (np.array(["1970-01-02", "NaT"], "M8[D]"), [86400.0, NAN]),
        ([datetime.date(1970, 1, 2), None], [86400.0, NAN]),
        (
            [pd.Timestamp("1970-01-01T01:00", tz="Europe/Berlin"), pd.NaT],
            [0.0, NAN],
        ),
        ([["a"], [], ["b", "c"], None], [["a", ""], ["", ""], ["b", "c"], ["", ""]]),
        (pa.chunked_array([["a", None]]), ["a", ""]),
        (pa.chunked_array([pa.array(["a", None]).dictionary_encode()]), ["a", ""]),
        (pa.chunked_array([[1, None]]), [1.0, NAN]),
        (pa.chunked_array([[datetime.date(1970, 1, 2), None]]), [86400.0, NAN]),
        (pa.chunked_array([[["a"], []]]), [["a"], [""]]),
        (tf.ragged.constant([[1, 2], []]), [[1, 2], [NAN, NAN]]),
    ],
)
def test_one_of_three_kinds(values, expected):
    found = feature_values("x", values)
    expected = np.array(expected)
    if expected.dtype.kind == "U":
        assert found.dtype.kind == "O"
        assert found.tolist() == expected.tolist()
        np.testing.assert_array_equal(missing(found), expected == "")
    else:
        assert found.dtype in (np.int64, np.float64)
        assert found.dtype.kind == expected.dtype.kind
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(missing(found), expected != expected)


@pytest.mark.parametrize(
    "values, message",
    [
        ([1, "a"], "'x' must hold values of one kind.*received int and str"),
        ([datetime.date(2020, 1, 1), 3], "received date and int"),
        ([1 + 2j], "received complex"),
        (np.zeros([2, 2, 2]), r"received shape \(2, 2, 2\)"),
        ([2**60, None], "whole numbers below 2\\^53 where some are missing"),
        (np.array([2**63], np.uint64), "received uint64"),
    ],
)
def test_one_line_says_what_does_not_fit(values, message):
    with pytest.raises(ValueError, match=message) as error:
        feature_values("x", values)
    assert "\n" not in str(error.value)


def test_two_columns_of_one_name():
    frame = pd.DataFrame([[1, 2]], columns=["x", "x"])
    with pytest.raises(ValueError, match="2 columns named 'x'"):
        feature_column(frame, "x")


def test_no_such_column():
    with pytest.raises(ValueError, match="column 'y'"):
        feature_column({"x": [1]}, "y")
