"""What times stand for: seconds, dates, and what is neither."""

import numpy as np
import pyarrow as pa
import pytest

from tfrs_negatives.data import interactions, stream_interactions, times
from tfrs_negatives.data.time_range import time_range

DAY = 86_400


def seconds(values):
    column = pa.array(values)
    return times.seconds(column, times.form(column), "t", "a table")


def refused(values):
    with pytest.raises(ValueError) as caught:
        seconds(values)
    message = str(caught.value)
    assert "\n" not in message and "must hold seconds since 1970 or dates" in message
    return message


WRITTEN = {
    "YYYY": [1999, 2024, 2001],
    "YYYYMM": [199912, 202401, 200106],
    "YYYYMMDD": [19991231, 20240131, 20010615],
    "YYYYMMDDHH": [1999123123, 2024013100, 2001061512],
    "YYYYMMDDHHMM": [199912312359, 202401310000, 200106151230],
    "YYYYMMDDHHMMSS": [19991231235959, 20240131000000, 20010615123000],
}


@pytest.mark.parametrize("convert", [list, np.float64, lambda v: list(map(str, v))])
@pytest.mark.parametrize("form", WRITTEN)
def test_dates_written_as_one_number_are_refused(form, convert):
    values = WRITTEN[form]
    message = refused(convert(values))
    assert f"received {values[0]}, a date written {form}." in message
    # 0 often stands for a date that is not known.
    assert f"written {form}." in refused(convert([0, 0, 0, *values]))


@pytest.mark.parametrize("entry", [interactions, stream_interactions])
def test_days_are_refused_in_tfds_as_well(monkeypatch, entry):
    import tensorflow as tf

    from tfrs_negatives.data import table_sources

    columns = {"u": [1, 2], "i": [3, 4], "t": [20240131, 20240201]}
    rows = tf.data.Dataset.from_tensor_slices(columns)
    names = {"user": "u", "item": "i", "time": "t"}
    monkeypatch.setattr(
        table_sources, "tfds_dataset", lambda *_: (rows, names, "TFDS 'x'")
    )
    with pytest.raises(ValueError, match="'t' of TFDS 'x'.*20240131.*YYYYMMDD"):
        entry(tfds="x")


@pytest.mark.parametrize(
    "scale, unit, factor",
    [
        (1e3, "milliseconds", "1,000"),
        (1e6, "microseconds", "1,000,000"),
        (1e9, "nanoseconds", "1,000,000,000"),
    ],
)
@pytest.mark.parametrize("start", [3.2e8, 1.7e9])  # From 1980.
def test_other_units_are_named(scale, unit, factor, start):
    values = (start + np.arange(5)) * scale
    message = refused(values.astype(np.int64))
    assert f"({unit}?). Divide it by {factor}." in message


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).integers(1_990_000, 21_000_000, 200),
        np.random.default_rng(1).integers(0, 300_000, 200),
        np.random.default_rng(2).integers(1_900_000_000, 2_100_000_000, 200),
        [0, 10, 86_399],
        [-1, 1_700_000_000],
    ],
)
def test_seconds_stay_seconds(values):
    """Also where some look like dates, as 20010101 does among seconds of 1970."""
    found = seconds(values)
    assert found.dtype == np.int64 and found.tolist() == list(values)


def test_ranges_in_words():
    assert time_range(0, DAY - 0.5) == (
        "1970-01-01 00:00:00 to 1970-01-01 23:59:59 UTC (all about 1970: are these "
        "seconds?)"
    )
    assert time_range(np.int64(-400 * DAY), np.float64(1_706_659_200.5)) == (
        "1968-11-27 00:00:00 to 2024-01-31 00:00:00 UTC"
    )


@pytest.mark.parametrize(
    "counted",
    [
        45_322,  # Days of a spreadsheet: 31 January 2024.
        19_753,  # Days since 1970.
        474_072,  # Hours.
        28_444_320,  # Minutes.
    ],
)
def test_other_counts_are_asked_about(counted):
    assert "are these seconds?" in time_range(counted - 100, counted)


def test_a_table_tells_its_range(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("user,item,t\n1,a,2024-02-01\n2,b,2024-01-31T12:00:00Z\n")
    table = interactions(path, time="t")
    assert table.time_range == "2024-01-31 12:00:00 to 2024-02-01 00:00:00 UTC"
    assert interactions(path).time_range == "none"
