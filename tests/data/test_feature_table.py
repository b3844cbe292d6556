"""Features of users or items out of tables of any kind."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfrs_negatives.data.feature_table import FeatureTable, read_features

ROWS = {
    "item": ["a", "b", "a", "c"],
    "price": ["1.5", "", "9", "2"],
    "year": ["1999", "2001", "1", "2003"],
    "made": ["2020-01-02", "2021-03-04", "2020-01-01", ""],
    "name": ["Tea, green", "", "tea", "7"],
}


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "items.csv"
    lines = [",".join(ROWS)]
    for row in zip(*ROWS.values(), strict=True):
        lines.append(",".join(f'"{value}"' if value else "" for value in row))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_first_row_of_an_id_counts_and_types_are_of_all_rows(csv):
    names = ["price", "year", "made", "name"]
    found = read_features(csv, None, None, "item", names)
    table = found.of(np.array(["c", "a", "nobody", "b"], object), "item")
    assert table.column_names == ["item", *names]
    assert table["item"].to_pylist() == ["c", "a", "nobody", "b"]
    assert table["price"].to_pylist() == [2.0, 1.5, None, None]
    assert table["year"].to_pylist() == [2003, 1999, None, 2001]
    days = [
        None if one is None else one.isoformat() for one in table["made"].to_pylist()
    ]
    assert days == [None, "2020-01-02T00:00:00", None, "2021-03-04T00:00:00"]
    assert table["name"].to_pylist() == ["7", "Tea, green", None, None]


def test_ids_are_as_the_interactions_have_them(tmp_path):
    path = tmp_path / "users.csv"
    path.write_text("user,age\n7,30\n-3,40\n07,50\n")
    found = read_features(path, None, None, "user", ["age"])
    strings = found.of(np.array(["-3", "07", "7"], object), "who")
    assert strings["age"].to_pylist() == [40, 50, 30]
    assert strings.column_names == ["who", "age"]
    path.write_text("user,age\n7,30\n-3,40\n")
    found = read_features(path, None, None, "user", ["age"])
    assert found.of(np.array([-3, 5, 7]), "user")["age"].to_pylist() == [40, None, 30]
    path.write_text("user,age\n7,30\nx,40\n")
    with pytest.raises(ValueError, match="'user' must hold ids.*whole numbers"):
        read_features(path, None, None, "user", ["age"]).of(np.array([7]), "user")


@pytest.mark.parametrize("kind", ["dict", "arrow", "pandas", "parquet"])
def test_tables_of_any_kind(kind, tmp_path):
    columns = {
        "item": np.array([3, 1, 3]),
        "genres": [["x", "y"], [], ["z"]],
        "size": [1.0, None, 2.0],
    }
    if kind == "pandas":
        table = pytest.importorskip("pandas").DataFrame(columns)
    elif kind in ("arrow", "parquet"):
        table = pa.table({name: pa.array(c) for name, c in columns.items()})
    else:
        table = columns
    names = ["genres", "size"]
    if kind == "parquet":
        pq.write_table(table, tmp_path / "t.parquet")
        found = read_features(tmp_path / "t.parquet", None, None, "item", names)
    else:
        found = FeatureTable(table, "item", names)
    answer = found.of(np.array([1, 2, 3]), "item")
    assert answer["genres"].to_pylist() == [[], None, ["x", "y"]]
    assert answer["size"].to_pylist() == [None, None, 1.0]


def test_rows_without_an_id_are_left_out():
    found = FeatureTable({"item": ["a", None], "size": [1, 2]}, "item", ["size"])
    assert found.of(np.array(["a", "None"], object), "item")["size"].to_pylist() == [
        1,
        None,
    ]


def test_a_column_that_is_not_there(csv):
    with pytest.raises(ValueError, match="'weight'"):
        read_features(csv, None, None, "item", ["weight"])
    with pytest.raises(ValueError, match="'weight'"):
        FeatureTable({"item": [1]}, "item", ["weight"])
