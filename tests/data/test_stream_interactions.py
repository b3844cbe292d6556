"""Streams of tables: the same as loaded ones, in bounded memory, from any place."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.data import (
    RequestCounts,
    group_by_request,
    stream_interactions,
    table_sources,
    text_parts,
)

pd = pytest.importorskip("pandas")

NUM_ROWS = 25_000


def table(num_rows=NUM_ROWS):
    rng = np.random.default_rng(0)
    user = np.sort(rng.integers(0, num_rows // 5, num_rows))
    return pd.DataFrame(
        {
            "user": user,
            "item": [f'it,em "{i}"\n' for i in rng.integers(0, 500, num_rows)],
            "basket": user // 3,
            "when": rng.integers(-100_000, 10**9, num_rows),
            "stars": rng.normal(size=num_rows).round(3),
            "name": [None if i % 7 == 0 else f"näme {i}" for i in range(num_rows)],
        }
    )


def write(frame, path, **options):
    if path.suffix == ".parquet":
        frame.to_parquet(path, row_group_size=4_321, **options)
    else:
        separator = "\t" if path.suffix == ".tsv" else ","
        frame.to_csv(path, index=False, sep=separator, **options)
    return path


def columns(dataset):
    batches = list(dataset.as_numpy_iterator())
    return {n: np.concatenate([b[n] for b in batches]) for n in batches[0]}


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("batch_size", [1_000, 10_000])
def test_all_rows_come_in_file_order(tmp_path, ending, batch_size):
    frame = table()
    dataset = stream_interactions(
        write(frame, tmp_path / f"table.{ending}"),
        request="basket",
        time="when",
        label="stars",
        title="name",
        batch_size=batch_size,
    )
    sizes = [len(batch["user"]) for batch in dataset]
    assert sizes[:-1] == [batch_size] * (NUM_ROWS // batch_size - (batch_size < 9_000))
    rows = columns(dataset)
    assert set(rows) == {"user", "item", "request", "time", "label", "title"}
    for role, name in (("user", "user"), ("request", "basket")):
        expected = frame[name].tolist()
        if ending != "parquet":
            expected = [str(value).encode() for value in expected]
        assert rows[role].tolist() == expected
    assert rows["item"].tolist() == [value.encode() for value in frame["item"]]
    assert rows["time"].dtype == rows["label"].dtype == np.float64
    assert rows["time"].tolist() == frame["when"].tolist()
    assert rows["label"].tolist() == frame["stars"].tolist()
    titles = ["" if i % 7 == 0 else f"näme {i}" for i in range(NUM_ROWS)]
    assert [title.decode() for title in rows["title"]] == titles


def test_columns_with_times_as_dates(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("user,item,t\n1,a,1970-01-02\n2,b,1970-01-01T00:00:10Z\n")
    assert columns(stream_interactions(path, time="t"))["time"].tolist() == [86_400, 10]
    when = pd.to_datetime(["1970-01-02 00:00:00.5", "1970-01-03 00:00:00.0"])
    frame = pd.DataFrame({"user": [1, 2], "item": [1, 2], "t": when})
    stream = stream_interactions(write(frame, tmp_path / "t.parquet"), time="t")
    assert columns(stream)["time"].tolist() == [86_400.5, 172_800]


def test_requests_default_to_a_users_day(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("user,item,t\na,1,-1\na,2,0\na,3,86399\nb,4,0\na,5,-86400\n")
    request = columns(stream_interactions(path, time="t"))["request"]
    same = request[:, None] == request
    expected = np.eye(5, dtype=bool)
    expected[0, 4] = expected[4, 0] = expected[1, 2] = expected[2, 1] = True
    assert (same == expected).all()
    rows = columns(stream_interactions(path))
    assert (rows["request"] == rows["user"]).all()


@pytest.mark.slow(reason="reads 100,000 rows, as `interactions` does in its own test")
def test_tfds(data_dir):
    pytest.importorskip("tensorflow_datasets")
    dataset = stream_interactions(
        tfds="movielens/100k-ratings",
        data_dir=data_dir / "tfds",
        label="user_rating",
    )
    rows = columns(dataset)
    assert len(rows["user"]) == 100_000
    assert len(set(rows["user"].tolist())) == 943
    assert len(set(rows["item"].tolist())) == 1_682
    assert set(rows["label"].tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert rows["time"].min() > 8e8


@pytest.mark.parametrize(
    "role, values, message",
    [
        ("time", [1.0, np.nan], "`x` must have a number in every row"),
        ("label", [np.inf, 1.0], "`x` must have a number in every row"),
        ("time", [1.0, 1.6e12], "milliseconds"),
        ("label", ["high", "low"], "`x` must hold numbers, received string"),
    ],
)
def test_tfds_with_bad_numbers(monkeypatch, role, values, message):
    rows = tf.data.Dataset.from_tensor_slices({"u": [1, 2], "i": [3, 4], "x": values})
    names = {"user": "u", "item": "i", role: "x"}
    monkeypatch.setattr(table_sources, "tfds_dataset", lambda *_: (rows, names, "TFDS"))
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=message):
        list(stream_interactions(tfds="some/name"))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_restored_iterator_reads_on(tmp_path, ending):
    path = write(table(), tmp_path / f"table.{ending}")
    dataset = stream_interactions(path, batch_size=700)
    expected = [batch["item"].numpy().tolist() for batch in dataset]
    iterator = iter(dataset)
    for _ in range(20):
        next(iterator)
    saved = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "checkpoint"))
    restored = iter(stream_interactions(path, batch_size=700))
    tf.train.Checkpoint(iterator=restored).restore(saved).assert_consumed()
    assert [batch["item"].numpy().tolist() for batch in restored] == expected[20:]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_iterators_do_not_disturb_each_other(tmp_path, monkeypatch, ending):
    """Also where there are more of them than readers that wait for them."""
    monkeypatch.setattr(text_parts, "_BLOCK", 2**14)
    frame = table(3_000)
    path = tmp_path / f"table.{ending}"
    if ending == "csv.gz":
        frame.to_csv(path, index=False)
    else:
        write(frame, path)
    dataset = stream_interactions(path, batch_size=300)
    iterators = [iter(dataset) for _ in range(text_parts._MAX_WAITING + 2)]
    expected = [item.encode() for item in frame["item"]]
    for start in range(0, 3_000, 300):
        for iterator in iterators:
            batch = next(iterator)
            assert batch["item"].numpy().tolist() == expected[start : start + 300]
    assert all(next(iterator, None) is None for iterator in iterators)


def test_requests_of_a_stream_are_grouped(tmp_path):
    frame = table()
    path = write(frame, tmp_path / "table.parquet")
    counts = RequestCounts()
    dataset = stream_interactions(path, request="basket")
    seen = {}
    for number, batch in enumerate(
        group_by_request(dataset, "request", 512, counts=counts)
    ):
        for key in batch["request"].numpy().tolist():
            seen.setdefault(key, set()).add(number)
    assert counts.rows_in == counts.rows_out == NUM_ROWS
    assert len(seen) == frame["basket"].nunique()
    assert all(len(numbers) == 1 for numbers in seen.values())


def test_an_empty_parquet_file_has_no_rows(tmp_path):
    frame = pd.DataFrame({"user": np.zeros(0, int), "item": np.zeros(0, int)})
    path = write(frame, tmp_path / "table.parquet")
    assert list(stream_interactions(path)) == []


def test_lines_without_fields_and_without_an_end(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbfuser,item\r\n\r\n1,a\r\n\r\n2,b")
    rows = columns(stream_interactions(path))
    assert rows["user"].tolist() == [b"1", b"2"]
    assert rows["item"].tolist() == [b"a", b"b"]


@pytest.mark.slow(reason="files of two sizes, each in a process of its own")
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, ending):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import csv, parquet

    path, num_groups, num_rows = tmp_path / f"table.{ending}", 60, 50_000
    title = arrow.array([f"{i:0200d}" for i in range(num_rows)])
    ids = arrow.array(np.arange(num_rows))
    part = arrow.table({"user": ids, "item": ids, "title": title})
    writer = csv.CSVWriter if ending == "csv" else parquet.ParquetWriter
    with writer(path, part.schema) as open_writer:
        for _ in range(num_groups):
            open_writer.write_table(part)
    result = subprocess.run(
        [
            sys.executable,
            __file__.replace("test_stream_interactions", "stream_memory"),
            path,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    rows, growth = result.stdout.split()
    assert int(rows) == num_groups * num_rows
    # The titles alone are 570 MiB.
    assert float(growth) < 60


RUN_TIME = {
    "nulls": ("user,item\n1,a\n,b\n", {}, "'user'.*1 nulls in 2 rows"),
    "null requests": ("user,item,r\n1,a,\n2,b,3\n", {"request": "r"}, "'r'.*1 nulls"),
    "null labels": ("user,item,y\n1,a,\n2,b,3\n", {"label": "y"}, "'y'.*1 nulls"),
    "a label of words": ("user,item,y\n1,a,good\n", {"label": "y"}, "numbers.*good"),
    "milliseconds": (
        "user,item,t\n1,a,1300000000000\n",
        {"time": "t"},
        "milliseconds",
    ),
    "no dates": ("user,item,t\n1,a,soon\n", {"time": "t"}, "dates.*soon"),
    "too few fields": ("user,item,x\n1,a,b\n2,b\n3,c,d\n", {}, "3 fields, received 2"),
    "too many fields": ("user,item\n1,a\n2,b,c\n", {}, "2 fields, received 3"),
    "cut off in a row": ("user,item,x\n1,a,b\n2,", {}, "3 fields, received 2.*cut off"),
    "cut off in quotes": (
        'user,item\n1,a\n2,"b',
        {},
        "quotation does not end.*cut off",
    ),
}


@pytest.mark.parametrize("name", RUN_TIME)
def test_bad_rows(tmp_path, name):
    text, named, message = RUN_TIME[name]
    path = tmp_path / "table.csv"
    path.write_text(text)
    dataset = stream_interactions(path, **named)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        list(dataset)


def test_text_that_is_not_utf_8(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"user,item\n1,\xe4\n")
    with pytest.raises(tf.errors.InvalidArgumentError, match="UTF-8"):
        list(stream_interactions(path))


def test_batches_before_a_bad_row_have_come(tmp_path, monkeypatch):
    monkeypatch.setattr(text_parts, "_BLOCK", 2**16)
    frame = table(20_000)
    path = write(frame, tmp_path / "table.csv")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    rows = []
    with pytest.raises(tf.errors.InvalidArgumentError, match="cut off"):
        for batch in stream_interactions(path, batch_size=1_000):
            rows += batch["user"].numpy().tolist()
    assert rows == [str(user).encode() for user in frame["user"][: len(rows)]]
    assert 8_000 <= len(rows) < 14_000 and len(rows) % 1_000 == 0


def test_parquet_that_was_cut_off_or_damaged(tmp_path):
    path = write(table(), tmp_path / "table.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read.*Write it again"):
        stream_interactions(path)
    half = len(whole) // 2
    path.write_bytes(whole[:half] + bytes(40_000) + whole[half + 40_000 :])
    dataset = stream_interactions(path, title="name", batch_size=1_000)
    rows = 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="cannot be read"):
        for batch in dataset:
            rows += len(batch["user"])
    assert 0 < rows < NUM_ROWS


def test_floats_and_mixed_values_are_no_ids(tmp_path):
    frame = pd.DataFrame({"user": [1.5, 2.5], "item": [1, 2]})
    path = write(frame, tmp_path / "table.parquet")
    with pytest.raises(tf.errors.InvalidArgumentError, match="'user'.*whole numbers"):
        list(stream_interactions(path))


BUILD_TIME = {
    "no source": ({}, "received none. Pass `path` or `tfds`"),
    "two sources": (dict(path="table.csv", tfds="x"), "received both"),
    "a folder without a name": (dict(path="table.csv", data_dir="x"), "belongs to"),
    "no such file": (dict(path="other.csv"), "which is none"),
    "another format": (
        dict(path="table.json"),
        ".csv, .tsv, .csv.gz, .tsv.gz, .parquet",
    ),
    "no such column": (dict(path="table.csv", time="t"), "'t'.*user, item"),
    "no such user": (dict(path="table.csv", user="who"), "'who'.*user, item"),
    "no header": (dict(path="empty.csv"), "empty file"),
    "no batch": (dict(path="table.csv", batch_size=0), "`batch_size`.*0"),
    "no such data set": (dict(tfds="nothing/at-all", user="u", item="i"), "prepared"),
}


@pytest.mark.parametrize("name", BUILD_TIME)
def test_bad_arguments(tmp_path, monkeypatch, name):
    arguments, message = BUILD_TIME[name]
    if "tfds" in arguments:
        pytest.importorskip("tensorflow_datasets")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("user,item\n1,a\n2,b\n")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match=message):
        stream_interactions(**arguments)
