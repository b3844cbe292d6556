"""Tables of many files: folders as Spark writes them, globs, and remote ones."""

import gzip
import pathlib
import re
import sys

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from tfrs_negatives import audit
from tfrs_negatives.cli import main, train_command
from tfrs_negatives.cli.command_error import CommandError
from tfrs_negatives.data import (
    file_state,
    interactions,
    parquet_parts,
    stream_interactions,
    table_parts,
)
from tfrs_negatives.data.feature_table import read_features
from tfrs_negatives.recommender import Source, time_split

CSV = "user,item\n{},{}\n{},{}\n"


def parquet(path, **columns):
    """Writes a Parquet file, in row groups of 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def rows_of(path, **named):
    table = interactions(path, **named)
    return list(zip(table.user.tolist(), table.item.tolist(), strict=True))


def message_of(path, **named):
    """What `interactions` says of a path; `stream_interactions` says so too."""
    with pytest.raises((ValueError, ImportError)) as caught:
        interactions(path, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def spark(tmp_path):
    """A folder as Spark writes it, of partitions by day; one file has no rows."""
    folder = tmp_path / "events.parquet"
    for number, day in enumerate(("2024-05-02", "2024-05-01")):
        for part in range(2):
            rows = np.arange(3 if part or number else 0) + 10 * number + 3 * part
            name = f"part-0000{part}-8c1.c000.snappy.parquet"
            parquet(folder / f"dt={day}" / name, user=rows, item=rows % 4)
            text(folder / f"dt={day}" / f".{name}.crc", "x")
    text(folder / "_SUCCESS", "")
    text(folder / "_temporary/0/part-0.parquet", "half of a file")
    return folder


SPARK_USERS = [10, 11, 12, 13, 14, 15, 3, 4, 5]


def test_spark_folder(spark):
    table = interactions(spark, time="dt")
    assert table.user.tolist() == SPARK_USERS
    assert table.item.tolist() == [user % 4 for user in SPARK_USERS]
    days = [np.datetime64("2024-05-01")] * 6 + [np.datetime64("2024-05-02")] * 3
    np.testing.assert_array_equal(table.time.astype("datetime64[s]"), days)
    assert table.name == repr(str(spark))
    assert rows_of(f"{spark}/") == rows_of(spark)


def test_folders_as_ids(tmp_path):
    for country, hour in (("de", 7), ("de", 10), ("a%2Fb", 7)):
        path = tmp_path / f"user={country}" / f"_hour={hour}" / "p.parquet"
        parquet(path, item=[1, 2])
    table = interactions(tmp_path, request="_hour")
    assert table.user.tolist() == ["a/b"] * 2 + ["de"] * 4
    # By paths: 10 comes before 7; as values they are numbers.
    assert table.request.tolist() == [7, 7, 10, 10, 7, 7]
    # Of each file, no column but those of its folders.
    table = interactions(tmp_path, item="_hour")
    assert table.item.tolist() == [7, 7, 10, 10, 7, 7]


def test_folders_as_ids_of_text(tmp_path):
    for item in (1, 22):
        text(tmp_path / f"item={item}" / "p.csv", "user,x\n1,\n2,\n")
    assert rows_of(tmp_path) == [(1, 1), (2, 1), (1, 22), (2, 22)]
    assert rows_of(tmp_path, user="item") == [(1, 1), (1, 1), (22, 22), (22, 22)]


def test_folder_without_a_value(tmp_path):
    for value in ("3", "__HIVE_DEFAULT_PARTITION__"):
        parquet(tmp_path / f"item={value}" / "p.parquet", user=[1, 2])
    message = message_of(tmp_path)
    assert "'item'" in message and "2 nulls in 4 rows, the first in" in message
    assert "item=__HIVE_DEFAULT_PARTITION__/p.parquet'" in message


def test_stream_of_a_folder(spark):
    dataset = stream_interactions(spark, time="dt", batch_size=2)
    batches = list(dataset.as_numpy_iterator())
    assert [len(batch["user"]) for batch in batches] == [2, 2, 2, 2, 1]
    assert np.concatenate([b["user"] for b in batches]).tolist() == SPARK_USERS
    whole = interactions(spark, time="dt")
    np.testing.assert_array_equal(
        np.concatenate([b["time"] for b in batches]), whole.time
    )
    # A restored iterator goes on in the right file.
    iterator = iter(dataset)
    for _ in range(3):
        next(iterator)
    checkpoint = tf.train.Checkpoint(iterator=iterator)
    path = checkpoint.save(str(spark.parent / "checkpoint"))
    restored = iter(dataset)
    tf.train.Checkpoint(iterator=restored).restore(path)
    assert next(restored)["user"].numpy().tolist() == SPARK_USERS[6:8]


def test_no_row_group_stays_in_memory(spark):
    parts = Source(spark, columns={}).parts()
    assert sum(len(part["user"]) for part in parts.checked()) == 9
    assert len(parts._files) == 4
    for file in parts._files:
        assert isinstance(file, parquet_parts.ParquetParts)
        assert file._held == (None, None)


GLOBS = {
    "events.parquet/dt=2024-05-01/*.parquet": SPARK_USERS[:6],
    "events.parquet/*/part-00001*": SPARK_USERS[3:],
    "events.parquet/dt=2024-05-0[2]": SPARK_USERS[6:],
    "events.parquet/**/part-*.parquet": SPARK_USERS,
    "events.parquet/**": SPARK_USERS,
    "*.parquet": SPARK_USERS,
}


@pytest.mark.parametrize("pattern", GLOBS)
def test_globs(spark, pattern):
    table = interactions(f"{spark.parent}/{pattern}")
    assert table.user.tolist() == GLOBS[pattern]
    assert interactions(spark.parent / pattern).user.tolist() == GLOBS[pattern]


def test_columns_of_the_folders_behind_a_wildcard(spark):
    table = interactions(f"{spark}/dt=*/*.parquet", request="dt")
    assert set(table.request.tolist()) == {"2024-05-01", "2024-05-02"}
    message = message_of(f"{spark}/dt=2024-05-01/*.parquet", request="dt")
    assert "'dt'" in message and "dt=2024-05-01/part-0" in message


def test_a_name_with_wildcards_is_that_file(tmp_path):
    path = text(tmp_path / "a[1]*.csv", CSV.format(1, "a", 2, "b"))
    text(tmp_path / "a1.csv", CSV.format(5, "a", 6, "b"))
    assert rows_of(path) == [(1, "a"), (2, "b")]


def test_text_files_are_one_table(tmp_path):
    text(tmp_path / "a.csv.gz", CSV.format(1, "x", 2, "y"))
    text(tmp_path / "b.tsv", CSV.replace(",", "\t").format(3, "x", "007", "y"))
    text(tmp_path / "c.csv", "item,more,user\nz,,4\n")
    # One value that is no whole number makes strings of all, as in one file.
    wanted = [("1", "x"), ("2", "y"), ("3", "x"), ("007", "y"), ("4", "z")]
    assert rows_of(tmp_path) == wanted
    (tmp_path / "b.tsv").unlink()
    assert rows_of(tmp_path) == [(1, "x"), (2, "y"), (4, "z")]


def test_types_that_go_together(tmp_path):
    first = dict(user=pa.array([1, 2], pa.int32()), item=["a", "b"])
    parquet(tmp_path / "1.parquet", **first, t=[1.5, 2.0], y=pa.nulls(2))
    second = dict(
        user=pa.array([2**40], pa.int64()), item=pa.array(["c"]).dictionary_encode()
    )
    parquet(tmp_path / "2.parquet", **second, t=[7], y=[1.0])
    third = dict(user=pa.nulls(0), item=pa.array([], pa.large_string()))
    parquet(tmp_path / "3.parquet", **third, t=pa.nulls(0), y=pa.array([], pa.int8()))
    table = interactions(tmp_path, time="t")
    assert table.user.tolist() == [1, 2, 2**40]
    assert table.item.tolist() == ["a", "b", "c"]
    assert table.time.tolist() == [1.5, 2.0, 7.0]
    assert "2 nulls in 3 rows, the first in" in message_of(tmp_path, label="y")
    (batch,) = stream_interactions(tmp_path, time="t").as_numpy_iterator()
    assert batch["user"].tolist() == [1, 2, 2**40]
    assert batch["time"].tolist() == [1.5, 2.0, 7.0]


OTHER_TYPES = {
    "strings for numbers": dict(user=["1", "2"]),
    "numbers with fractions": dict(user=[1.0, 2.0]),
    "one value for a list": dict(item=[1, 2]),
    "another zone": dict(t=pa.array([1, 2], pa.timestamp("us", "UTC"))),
    "numbers for moments": dict(t=[1, 2]),
}


@pytest.mark.parametrize("case", OTHER_TYPES)
def test_types_that_do_not(tmp_path, case):
    moments = pa.array([1, 2], pa.timestamp("us"))
    columns = dict(user=[1, 2], item=[[1], [2, 3]], t=moments)
    for name in "abc":
        parquet(tmp_path / f"{name}.parquet", **columns)
    (role,) = OTHER_TYPES[case]
    parquet(tmp_path / "bb.parquet", **{**columns, **OTHER_TYPES[case]})
    message = message_of(tmp_path, time="t")
    assert re.search(f"column '{role}' of .*a.parquet' holds .*bb.parquet'", message)
    with pytest.raises(ValueError, match=re.escape(message)):
        stream_interactions(tmp_path, time="t")
    # What is not read may be of any type.
    if role == "t":
        assert len(interactions(tmp_path)) == 12


def test_mistakes_name_the_file(tmp_path):
    for name in "ab":
        text(tmp_path / f"{name}.csv", "user,item,t\n1,a,5\n2,b,6\n")
    text(tmp_path / "c.csv", "user,what\n1,a\n")
    assert re.search("c.csv' must have a item column|c.csv' must", message_of(tmp_path))
    text(tmp_path / "c.csv", "user,item,t\n1,a,5\n2\n")
    assert "c.csv'" in message_of(tmp_path) and "3 fields" in message_of(tmp_path)
    text(tmp_path / "c.csv", "user,item,t\n1,a,5\n2,b,soon\n")
    assert re.search("'t' of .*c.csv'.*'soon'", message_of(tmp_path, time="t"))
    text(tmp_path / "c.csv", "user,item,t\n1,a,5\n,b,6\n")
    assert re.search("1 nulls in 6 rows, the first in .*c.csv'", message_of(tmp_path))
    stream = stream_interactions(tmp_path)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"row 1 on.*c.csv'"):
        list(stream)


def test_folders_that_are_no_table(tmp_path):
    folder = tmp_path / "table"
    parquet(folder / "a.parquet", user=[1, 2], item=[1, 2])
    text(folder / "notes.txt", "")
    assert "notes.txt" in message_of(folder)
    (folder / "notes.txt").unlink()
    text(folder / "b.csv", CSV)
    assert "all be Parquet or all text" in message_of(folder)
    (folder / "b.csv").unlink()
    parquet(folder / "x=1/b.parquet", user=[1], item=[1])
    assert re.search("expected none, .*received x for .*x=1", message_of(folder))
    text(folder / "_delta_log/0.json", "{}")
    assert "Delta Lake" in message_of(folder)
    for path in ("nothing/*.csv", "table/*.csv"):
        assert "received none" in message_of(tmp_path / path)
    parquet(tmp_path / "two/user=3/a.parquet", user=[1, 2], item=[1, 2])
    assert "one user column 'user', received 2" in message_of(tmp_path / "two")


def test_features_of_a_folder(spark):
    for day in ("01", "02"):
        for path in (spark / f"dt=2024-05-{day}").glob("*.parquet"):
            table = pq.read_table(path, partitioning=None)
            price = table["user"].cast(pa.float32() if day == "01" else pa.int32())
            pq.write_table(table.append_column("price", price), path)
    features = read_features(spark, None, None, "item", ["price", "dt"])
    found = features.of(np.array([3, 0, 2, 1]), "item")
    assert found["price"].to_pylist() == [11.0, 12.0, 10.0, 13.0]
    assert found["dt"].to_pylist() == ["2024-05-01"] * 4
    source = Source(spark, columns={"request": "dt"})
    assert source.features([], ["price"]).items.of(np.array([3]), "i").num_rows == 1


def test_commands_take_folders(spark, tmp_path, monkeypatch, capsys):
    """What `train` and `audit` read of a glob, and of a folder."""
    taken = []

    def take(table, *_, **__):
        taken.append(table)
        raise CommandError("taken")

    read_rows = time_split.read_rows
    monkeypatch.setattr(time_split, "read_rows", lambda *a: take(read_rows(*a)))
    monkeypatch.setattr(train_command, "_check_environment", lambda: None)
    monkeypatch.setattr(audit, "measure", take)
    output = ["--output", str(tmp_path / "out"), "--verbose", "0"]
    assert main(["train", "--data", f"{spark}/*/*", "--request", "dt", *output]) == 2
    assert main(["audit", "--data", str(spark), "--request", "dt", *output]) == 2
    capsys.readouterr()
    rows, table = taken
    assert rows.users.ids.tolist() == sorted(SPARK_USERS)
    assert rows.requests.ids.tolist() == ["2024-05-01", "2024-05-02"]
    assert table.user_ids[table.user].tolist() == SPARK_USERS
    assert table.num_requests == 2 and table.name == "events.parquet"


@pytest.fixture
def memory():
    """fsspec's file system in memory, empty."""
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def copy(folder, memory, place):
    for path in pathlib.Path(folder).rglob("*"):
        if path.is_file():
            memory.pipe(f"{place}/{path.relative_to(folder)}", path.read_bytes())


def test_remote_folders(spark, memory):
    copy(spark, memory, "/bucket/events")
    wanted = rows_of(spark)
    assert rows_of("memory://bucket/events") == wanted
    assert rows_of("memory://bucket/events/") == wanted
    assert rows_of("memory://bucket/*/dt=*/*.parquet") == wanted
    table = interactions("memory://bucket/events", time="dt")
    assert table.time.tolist() == interactions(spark, time="dt").time.tolist()
    batches = stream_interactions("memory://bucket/events", batch_size=4)
    users = [batch["user"].tolist() for batch in batches.as_numpy_iterator()]
    assert users == [SPARK_USERS[:4], SPARK_USERS[4:8], SPARK_USERS[8:]]


def test_remote_files(memory):
    content = "user,item\n" + "".join(f"{n},i{n % 7}\n" for n in range(5_000))
    memory.pipe("/table.csv.gz", gzip.compress(content.encode()))
    memory.pipe("/table.csv", content.encode())
    for name in ("table.csv", "table.csv.gz"):
        rows = rows_of(f"memory://{name}")
        assert len(rows) == 5_000 and rows[-1] == (4_999, "i1")
    assert "which is none" in message_of("memory://other.csv")
    memory.pipe("/empty.csv", b"")
    assert "empty file" in message_of("memory://empty.csv")
    assert audit.read_table("memory://table.csv").num_items == 7


def test_remote_files_that_change(memory, monkeypatch):
    monkeypatch.setattr(file_state, "_REMOTE_SECONDS", 0)
    monkeypatch.setattr(table_parts, "_PART", 1_000)
    content = "user,item\n" + "".join(f"{n},{n % 7}\n" for n in range(60_000))
    memory.pipe("/table.csv", content.encode())
    read = table_parts.TableParts._columns
    seen = []

    def read_and_change(self, position, num):
        seen.append(position)
        if len(seen) == 3:
            memory.pipe("/table.csv", content.encode()[:-3])
        return read(self, position, num)

    monkeypatch.setattr(table_parts.TableParts, "_columns", read_and_change)
    assert "to stay as it is while it is read" in message_of("memory://table.csv")
    assert len(seen) == 3


def test_what_reads_a_remote_path_is_missing(monkeypatch):
    message = message_of("s3://bucket/x.csv")
    assert "s3://" in message and "s3fs" in message
    message = message_of("nowhere://bucket/x.csv")
    assert "nowhere" in message and "before `://`" in message
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ImportError, match=r"fsspec.*tfrs_negatives\[remote\]"):
        interactions("s3://bucket/x.csv")
