"""Steps on tables of hundreds of thousands of rows, by one worker and by two."""

import collections

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from event_tables import bytes_of
from item_towers import save_whole_numbers

from tfrs_negatives.audit import measure, read_table
from tfrs_negatives.audit.held_out import last_interactions
from tfrs_negatives.data import (
    count_ids,
    interactions,
    positives_of,
    stream_interactions,
)
from tfrs_negatives.index import BruteForce, mine_hard_negatives
from tfrs_negatives.metrics import CorpusRecall
from tfrs_negatives.pipeline import (
    BeamEngine,
    audit_table,
    corpus_recall,
    count_column,
    embed_rows,
    mine_negatives,
    order_by_request,
    read_counts,
    read_embeddings,
    read_negatives,
    split_by_time,
)

pytestmark = [
    pytest.mark.usefixtures("beam"),
    pytest.mark.slow(reason="hundreds of thousands of rows, two processes"),
]


@pytest.fixture(params=["online_retail", "gowalla"])
def table(request, data_dir, tmp_path):
    """A folder of files, and the names of its columns."""
    folder = tmp_path / "in"
    if request.param == "online_retail":
        whole = pq.read_table(data_dir / "online_retail.parquet")
        named = {"request": "request", "time": "t"}
    else:
        with np.load(data_dir / "gowalla.npz") as file:
            whole = pa.table({r: file[f"train_{r}"] for r in ("user", "item")})
        named = {}
    for number in range(5):
        path = folder / f"part={number}" / "rows.parquet"
        path.parent.mkdir(parents=True)
        start, end = (len(whole) * n // 5 for n in (number, number + 1))
        piece = whole.slice(start, end - start)
        pq.write_table(piece, path, row_group_size=20_000)
    return folder, named


def rows(table):
    columns = (table.user.tolist(), table.item.tolist(), table.time.tolist())
    return collections.Counter(zip(*columns, strict=True))


def test_retrieval(table, tmp_path):
    path, named = table
    whole = interactions(path, **named)
    for role in ("user", "item"):
        ids = np.unique(getattr(whole, role))
        ids = ids[:: len(ids) // 700 if role == "user" else 1]  # Some of the users.
        numbers = {"id": ids, "number": np.arange(len(ids))}
        pq.write_table(pa.table(numbers), tmp_path / f"{role}.parquet")
        tower = save_whole_numbers(tmp_path / f"{role} tower", width=6, key="number")
        for workers in (1, 2):
            output = tmp_path / f"{workers}" / f"{role}s"
            given = dict(shards=3, engine=BeamEngine(workers=workers))
            embed_rows(tmp_path / f"{role}.parquet", output, tower, "id", **given)
    options = dict(range_min=10, range_max=200, seed=4)
    for workers in (1, 2):
        out, engine = tmp_path / f"{workers}", BeamEngine(workers=workers)
        given = dict(columns=named, engine=engine)
        both = tmp_path / "1" / "users", tmp_path / "1" / "items"
        mined = dict(positives=path, **options, **given)
        mine_negatives(*both, out / "mined", 20, **mined)
        figures = corpus_recall(*both, path, out / "recall", ks=[50], **given)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")

    out = tmp_path / "2"
    users, queries = zip(*read_embeddings(out / "users"), strict=True)
    users, queries = tf.concat(users, 0), tf.concat(queries, 0)
    items = read_embeddings(out / "items")
    index = BruteForce().index_from_dataset(items)
    positives = positives_of(whole)(users)
    wanted, _ = mine_hard_negatives(
        index, queries, 20, positives=positives, progress=False, **options
    )
    ids, found = read_negatives(out / "mined")
    assert ids.tolist() == users.numpy().tolist()
    assert found.to_list() == wanted.to_list()
    recall = CorpusRecall(items, [50], measures=["recall", "ndcg"])
    recall.update_state(queries, true_candidate_ids=positives)
    for name, value in zip(recall.names, recall.result(), strict=True):
        assert figures[name] == pytest.approx(float(value), abs=1e-6)
    assert figures["queries"] == len(ids) > 600


def test_audit(table, tmp_path):
    path, named = table
    options = dict(batch_sizes=[256, 4096], orders=["shuffled", "request_sorted"])
    options |= dict(max_batches=20, seed=2)
    for workers in (1, 2):
        given = dict(columns=named, engine=BeamEngine(workers=workers))
        found = audit_table(
            path, tmp_path / f"{workers}", heavy_rows=400, **options, **given
        )
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")
    wanted = measure(read_table(path, **named), progress=False, **options)
    for setting in wanted["settings"]:
        assert setting.pop("tail_items_seen") > 0.5
    for setting in found["settings"]:
        assert setting.pop("tail_items_seen") is None
    assert found["settings"] == wanted["settings"]
    assert found["table"] == wanted["table"]


def test_steps(table, tmp_path):
    path, named = table
    whole = interactions(path, **named)
    for workers in (1, 2):
        engine = BeamEngine(workers=workers)
        out = tmp_path / f"{workers}"
        given = dict(columns=named, engine=engine)
        count_column(path, out / "counts", num_shards=3, **given)
        order_by_request(path, out / "rows", shards=3, heavy_rows=400, **given)
        split_by_time(path, out / "split", shards=3, heavy_rows=1_000, **given)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")

    out = tmp_path / "2"
    wanted = count_ids(stream_interactions(path, **named), "item", progress=False)
    for one, other in zip(read_counts(out / "counts"), wanted, strict=True):
        np.testing.assert_array_equal(one, other)

    names = dict(request="request") | ({"time": "time"} if "time" in named else {})
    ordered = interactions(out / "rows", **names)
    requests = whole.request if "request" in named else whole.user
    is_new = ordered.request[1:] != ordered.request[:-1]
    starts = np.flatnonzero(np.append(True, is_new))
    assert len(starts) == len(np.unique(requests))  # Each is in one place.
    timed = "time" in named
    found = collections.Counter(zip(ordered.user, ordered.item, strict=True))
    assert found == collections.Counter(zip(whole.user, whole.item, strict=True))
    assert not timed or rows(ordered) == rows(whole)

    last = last_interactions(whole.user, whole.time)
    for part, mask in (("training", ~last), ("held_out", last)):
        given = {"time": "time"} if timed else {}
        read = interactions(out / "split" / part, **given)
        found = collections.Counter(zip(read.user, read.item, strict=True))
        kept = zip(whole.user[mask], whole.item[mask], strict=True)
        assert found == collections.Counter(kept)
