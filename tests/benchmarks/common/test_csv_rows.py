"""Rows of CSVs."""

import pytest

from benchmarks.common import csv_rows


def test_rows_are_appended_below_one_header(tmp_path):
    path = tmp_path / "new" / "rows.csv"
    assert csv_rows.read(path) == []
    csv_rows.append(path, ["a", "b"], {"a": 1, "b": "x, y"})
    csv_rows.append(path, ["a", "b"], {"b": "", "a": 2})
    assert path.read_text().splitlines() == ["a,b", '1,"x, y"', "2,"]
    assert csv_rows.read(path) == [{"a": "1", "b": "x, y"}, {"a": "2", "b": ""}]


def test_rows_of_other_columns_are_not_mixed_in(tmp_path):
    path = tmp_path / "rows.csv"
    csv_rows.write(path, ["a", "b"], [{"a": 1, "b": 2}])
    before = path.read_text()
    for fields in (["b", "a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match="write to another file"):
            csv_rows.append(path, fields, dict.fromkeys(fields, 0))
    assert path.read_text() == before


def test_writing_replaces_what_was_there(tmp_path):
    path = tmp_path / "rows.csv"
    csv_rows.write(path, ["a"], [{"a": 1}, {"a": 2}])
    csv_rows.write(path, ["a"], [{"a": 3}])
    assert csv_rows.read(path) == [{"a": "3"}]
