"""Files in a folder change items: in order, once, and not when they are wrong."""

import json
import os
import random
import signal
import time

import filter_oracle
import numpy as np
import pytest
import tensorflow as tf
from live_models import NUM, WIDTH, Held, check, export, items
from served_models import Client, Process, normal

from tfrs_negatives.index import LiveIndex, export_live_retrieval, load_retrieval
from tfrs_negatives.serving.update_folder import UpdateFolder

IDS = [f"é {n}" for n in range(NUM)]


def rows_of(change):
    """An upsert as rows of a file."""
    return [
        {
            "id": each,
            "embedding": change["embeddings"][row],
            "title": change["payload"]["title"][row],
            **{name: values[row] for name, values in change["attributes"].items()},
        }
        for row, each in enumerate(change["ids"])
    ]


def deleted(ids):
    return [{"id": each, "deleted": True} for each in ids]


def put(folder, name, rows):
    """A file that appears whole."""
    text = rows
    if not isinstance(rows, bytes):
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / f".{name}").write_bytes(text)
    (folder / f".{name}").rename(folder / name)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "updates").mkdir()
    return tmp_path / "updates"


@pytest.fixture
def model(tmp_path):
    export(tmp_path / "m", items(1, IDS))
    model = load_retrieval(tmp_path / "m", writable=True)
    yield model
    model.release()


@pytest.fixture
def held():
    held = Held()
    held.upsert(items(1, IDS))
    return held


def check_items(model, held):
    queries = normal(3, 3, WIDTH)
    answer = model.signatures["serving_default"](query=queries, k=NUM + 9)
    answer = {name: value.numpy() for name, value in answer.items()}
    for name in ("ids", "title"):
        answer[name] = [[v.decode() for v in row] for row in answer[name].tolist()]
    check(answer, held, queries, NUM + 9)


def left(folder):
    """Names in the folder, and those that were applied and rejected."""
    return [
        sorted(p.name for p in (folder / part).iterdir() if p.is_file())
        for part in ("", "applied", "rejected")
    ]


def test_files_are_applied_in_order(folder, model, held):
    updates = UpdateFolder(folder, lambda: model)
    assert updates.apply() == 0
    late, early = items(2, IDS[:3]), items(3, IDS[:2])
    put(folder, "b.jsonl", rows_of(late) + deleted(IDS[4:6]))
    put(folder, "a.jsonl", rows_of(early) + deleted(IDS[:1]) + rows_of(items(4, ["n"])))
    put(folder, "c.jsonl", [])
    put(folder, "unfinished.jsonl.part", b"{")
    (folder / ".d.jsonl").write_text("{")
    assert updates.apply() == 3
    for change in (early, items(4, ["n"]), late):
        held.upsert(change)
    del held.items[IDS[4]], held.items[IDS[5]]
    check_items(model, held)
    assert left(folder) == [
        [".d.jsonl", "unfinished.jsonl.part"],
        ["a.jsonl", "b.jsonl", "c.jsonl"],
        [],
    ]
    # An id twice in a file: the last counts.
    first, second = items(5, IDS[:2]), items(6, IDS[1:3])
    put(folder, "a.jsonl", rows_of(first) + rows_of(second))
    assert updates.apply() == 1
    held.upsert(first)
    held.upsert(second)
    check_items(model, held)


def test_parquet(folder, model, held):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    change = items(2, IDS[:3])
    rows = [{**row, "deleted": None} for row in rows_of(change)]
    gone = {name: None for name in rows[0]} | {"id": IDS[7], "deleted": True}
    pq.write_table(pa.Table.from_pylist([*rows, gone]), folder / ".x")
    (folder / ".x").rename(folder / "x.parquet")
    put(folder, "y.parquet", b"no parquet")
    assert UpdateFolder(folder, lambda: model).apply() == 1
    held.upsert(change)
    del held.items[IDS[7]]
    check_items(model, held)
    assert left(folder)[1:] == [["x.parquet"], ["y.parquet", "y.parquet.reason"]]


GOOD = rows_of(items(9, ["new"]))[0]
WRONG = {
    "no JSON": ([GOOD], b"{\n", "line 2"),
    "no UTF-8": ([GOOD], b'{"id": "\xff"}\n', "line 2"),
    "no object": ([GOOD, 3], b"", "line 2: expected an object"),
    "no id": ([GOOD, {"deleted": True}], b"", "line 2: expected an object"),
    "an id of another type": ([{**GOOD, "id": 3}], b"", "must all be strings"),
    "an id that is a list": ([{**GOOD, "id": [3]}], b"", "integer or a text"),
    "a column missing": ([{"id": "a", "embedding": [1.0]}], b"", "a row must have"),
    "a column too many": ([{**GOOD, "more": 1}], b"", "a row must have"),
    "another width": ([{**GOOD, "embedding": [1.0]}], b"", "must be 6 wide"),
    "NaN": ([{**GOOD, "embedding": [float("nan")] * WIDTH}], b"", "must be finite"),
    "of another kind": ([{**GOOD, "price": "x"}], b"", "kind 'number'"),
    "deleted, perhaps": ([{"id": "a", "deleted": 1}], b"", "true or false"),
    "popularity": ([{**GOOD, "popularity": -1.0}], b"", "a row must have"),
    "late": ([GOOD] * 1_001 + [3], b"", "line 1,002"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_changes_nothing(folder, model, held, name):
    rows, more, message = WRONG[name]
    text = "".join(json.dumps(row) + "\n" for row in rows).encode() + more
    put(folder, "a.jsonl", text)
    change = items(2, IDS[:3])
    put(folder, "b.jsonl", rows_of(change))
    assert UpdateFolder(folder, lambda: model).apply() == 1
    held.upsert(change)
    check_items(model, held)
    assert left(folder) == [[], ["b.jsonl"], ["a.jsonl", "a.jsonl.reason"]]
    assert message in (folder / "rejected" / "a.jsonl.reason").read_text()
    assert (folder / "rejected" / "a.jsonl").read_bytes() == text


def test_a_file_is_not_applied_twice(folder, model, held, tmp_path, monkeypatch):
    """It was done, and the process killed before it could move the file."""
    change, newer = items(2, IDS[:3]), items(3, IDS[:2])
    put(folder, "a.jsonl", rows_of(change) + deleted(IDS[8:9]))

    def killed(*_):
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(OSError, match="killed"):
            UpdateFolder(folder, lambda: model).apply()
    model.upsert(**newer)
    sequence = model.items.statistics()["sequence"]
    model.release()
    again = load_retrieval(tmp_path / "m", writable=True)
    assert UpdateFolder(folder, lambda: again).apply() == 1
    assert again.items.statistics()["sequence"] == sequence
    held.upsert(change)
    held.upsert(newer)
    del held.items[IDS[8]]
    check_items(again, held)
    # A file of the same name and content that comes later is another.
    put(folder, "a.jsonl", rows_of(change))
    os.utime(folder / "a.jsonl", (1, 1))
    assert UpdateFolder(folder, lambda: again).apply() == 1
    held.upsert(change)
    check_items(again, held)
    again.release()


@pytest.mark.parametrize("compacts", [False, True])
def test_a_file_goes_on_where_it_was_left(folder, model, held, tmp_path, compacts):
    parts = [items(seed, IDS[:3]) for seed in range(2, 6)]
    put(folder, "a.jsonl", [row for part in parts for row in rows_of(part)])
    updates, commit = UpdateFolder(folder, lambda: model), model.items.commit

    def twice(change, source):
        if model.items.statistics()["sequence"] == 2:
            raise OSError("killed")
        return commit(change, source)

    model.items.commit = twice
    with pytest.raises(OSError, match="killed"):
        updates.apply()
    if compacts:
        model.items.compact()
    model.release()
    again = load_retrieval(tmp_path / "m", writable=True)
    assert again.items.source.endswith(" 6")
    assert UpdateFolder(folder, lambda: again).apply() == 1
    assert again.items.statistics()["sequence"] == 4
    assert again.items.source.endswith(" 12")
    for part in parts:
        held.upsert(part)
    check_items(again, held)
    again.release()


def test_popularity_and_ids_that_are_numbers(folder, tmp_path):
    export_live_retrieval(
        tmp_path / "m",
        tf.identity,
        [1, 2],
        np.eye(2),
        query_signature=tf.TensorSpec([None, 2], name="query"),
        popularity=[-1.0, -2.0],
    )
    model = load_retrieval(tmp_path / "m", writable=True)
    put(folder, "a.jsonl", [{"id": 3, "embedding": [5, 0], "popularity": -4.0}])
    put(folder, "b.jsonl", [{"id": 4, "embedding": [5, 0]}])
    assert UpdateFolder(folder, lambda: model).apply() == 1
    serve = model.signatures["serving_default"]
    answer = serve(query=[[1.0, 0.0]], k=1, popularity_discount=0.5)
    assert answer["ids"].numpy().tolist() == [[3]]
    np.testing.assert_allclose(answer["scores"], [[7.0]], rtol=1e-5)
    reason = (folder / "rejected" / "b.jsonl.reason").read_text()
    assert "rows 1 to 1" in reason and "popularity" in reason
    model.release()


def test_what_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="Expected a folder of updates"):
        UpdateFolder(tmp_path / "file", lambda: None)


def test_the_source_of_a_change_is_as_durable_as_it_is(tmp_path):
    index = LiveIndex.create(tmp_path / "i", ["a"], np.eye(1), automatic=False)
    assert index.source is None
    index.upsert(["b"], [[2.0]], source="stream 7")
    index.delete(["a"])
    reader = LiveIndex.open(tmp_path / "i", read_only=True)
    assert index.source == reader.source == "stream 7"
    index.delete(["b"], source="stream 8")
    reader.refresh()
    assert reader.source == "stream 8"
    index.compact()
    index.upsert(["c"], [[1.0]])
    index.close()
    reader.refresh()
    with LiveIndex.open(tmp_path / "i") as again:
        assert again.source == reader.source == "stream 8"
    reader.close()


@pytest.mark.slow(reason="servers in processes of their own, killed")
def test_nothing_is_lost_and_nothing_twice_when_servers_are_killed(tmp_path, folder):
    """Each change has a number, so that one that was made twice would be counted."""
    rng, held = random.Random(1), Held()
    first = items(0, IDS)
    export(tmp_path / "m", first)
    held.upsert(first)
    total, number = 0, 0
    for _ in range(3):
        server = Process(
            tmp_path / "m", "--updates", str(folder), "--poll-seconds", "0.01"
        )
        for _ in range(30):
            number += 1
            rows = []
            for _ in range(10):
                change = items(rng.randrange(2**32), rng.sample(IDS, 3))
                rows += rows_of(change)
                held.upsert(change)
                # Rows whose ids differ are one change.
                gone = rng.sample(IDS, 2)
                rows += deleted(gone)
                for each in gone:
                    held.items.pop(each, None)
                total += 2
            put(folder, f"{number:06d}.jsonl", rows)
        client = Client(server.port)
        request = {"inputs": {"query": normal(0, 1, WIDTH).tolist(), "k": 5}}
        end = time.monotonic() + 0.3 * rng.random()
        while time.monotonic() < end:
            assert client.predict(request)[0] == 200
        client.close()
        server.end(signal.SIGKILL)
    model = load_retrieval(tmp_path / "m", writable=True)
    before = model.items.statistics()["sequence"]
    assert UpdateFolder(folder, lambda: model).apply() > 0
    assert before > 0 and model.items.statistics()["sequence"] == total
    check_items(model, held)
    node = filter_oracle.tree(rng, 2)
    where = filter_oracle.text(rng, node)
    found = model.signatures["serving_default"](
        query=normal(0, 1, WIDTH), k=NUM, where=where
    )
    passing = {e for e, item in held.items.items() if filter_oracle.passes(node, item)}
    filled = np.isfinite(found["scores"].numpy()[0])
    assert {each.decode() for each in found["ids"].numpy()[0][filled]} == passing
    assert left(folder) == [[], [f"{n + 1:06d}.jsonl" for n in range(number)], []]
    model.release()
