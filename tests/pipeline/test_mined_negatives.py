"""Negatives that many workers mine are those of one index."""

import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from event_tables import bytes_of
from retrieval_oracle import arrays, best_items, embedded, items_of

from tfrs_negatives.data import positives_of
from tfrs_negatives.index import BruteForce, mine_hard_negatives
from tfrs_negatives.index.mining import mining_queries
from tfrs_negatives.pipeline import (
    BeamEngine,
    corpus_shards,
    mine_negatives,
    read_embeddings,
    read_negatives,
)
from tfrs_negatives.samplers import Mined

pytestmark = pytest.mark.usefixtures("beam")

LABEL = {"label": "label"}


@pytest.mark.parametrize("strings", [False, True])
def test_the_best_that_are_no_positives(tmp_path, strings):
    users, items, log, columns = embedded(tmp_path, strings=strings)
    said = []
    mine_negatives(
        users,
        items,
        tmp_path / "out",
        5,
        positives=log,
        columns=LABEL,
        range_min=2,
        sampling="top",
        progress=said.append,
    )
    known = items_of(columns)
    wanted = best_items(arrays(users), arrays(items), known)
    ids, table = read_negatives(tmp_path / "out")
    assert sorted(ids.tolist()) == sorted(wanted) and len(wanted) == 60
    for user, negatives in zip(ids.tolist(), table.to_list(), strict=True):
        assert negatives == [item for item, _ in wanted[user][2:7]]
    scores = [
        row.as_py()
        for path in sorted((tmp_path / "out").glob("*.parquet"))
        for row in pq.read_table(path).column("scores")
    ]
    assert scores == [
        [score for _, score in wanted[user][2:7]] for user in ids.tolist()
    ]
    there = set(arrays(items)[0])
    num_lacking = sum(len(known.get(user, set()) - there) for user in wanted)
    assert num_lacking > 0
    assert f"{num_lacking:,} positives are of items that the corpus lacks" in said


@pytest.mark.parametrize("holds_all", [False, True])
def test_one_machine_mines_the_same(tmp_path, monkeypatch, holds_all):
    if not holds_all:
        monkeypatch.setattr(corpus_shards, "_HELD", 0)
    users, items, log, columns = embedded(tmp_path, strings=True)
    options = dict(range_min=3, range_max=30, max_score=-8.0, seed=5, batch_size=7)
    given = dict(positives=log, columns=LABEL, **options)
    mine_negatives(users, items, tmp_path / "out", 4, **given)
    found_ids, found = read_negatives(tmp_path / "out")
    index = BruteForce().index_from_dataset(read_embeddings(items))
    ids, queries = arrays(users)
    there = np.isin(columns["item"], [i.decode() for i in arrays(items)[0]])
    kept = there & (columns["label"] > 0)
    table = {role: columns[role][kept] for role in ("user", "item")}
    positives = positives_of(table)(tf.constant(ids))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # That rows are short.
        wanted, _ = mine_hard_negatives(
            index, queries, 4, positives=positives, progress=False, **options
        )
    assert found_ids.tolist() == ids
    assert found.to_list() == wanted.to_list()
    assert 0 < sum(len(row) < 4 for row in wanted.to_list()) < len(ids)


def test_a_query_with_many_positives_is_searched_by_itself(tmp_path, monkeypatch):
    users, items, log, _ = embedded(tmp_path)
    given = dict(positives=log, range_max=10, seed=3)
    mine_negatives(users, items, tmp_path / "at once", 4, **given)
    monkeypatch.setattr(mining_queries, "_FOUND", 200)
    sizes, find = [], corpus_shards.CorpusShards.find

    def noted(self, queries, k):
        sizes.append(len(queries) * k)
        return find(self, queries, k)

    monkeypatch.setattr(corpus_shards.CorpusShards, "find", noted)
    mine_negatives(users, items, tmp_path / "in pieces", 4, **given)
    assert max(sizes) <= 200 < sum(sizes)
    found = (read_negatives(tmp_path / name)[1] for name in ("at once", "in pieces"))
    one, other = (table.to_list() for table in found)
    assert one == other


def test_a_sampler_draws_from_what_was_mined(tmp_path):
    users, items, log, columns = embedded(tmp_path)
    mine_negatives(users, items, tmp_path / "out", 3, positives=log, columns=LABEL)
    ids, table = read_negatives(tmp_path / "out")
    sampler = Mined(np.arange(90), table, "user", row_ids=ids)
    rows = tf.data.Dataset.from_tensor_slices({"user": ids[:8]}).batch(8)
    batch = next(iter(sampler.attach(rows, 3, per_row=True)))
    known = items_of(columns)
    for user, drawn, mined in zip(
        batch["user"].numpy().tolist(),
        batch["negatives"].numpy().tolist(),
        table.to_list(),
        strict=False,
    ):
        assert sorted(drawn) == sorted(mined) and len(drawn) == 3
        assert not known.get(user, set()) & set(drawn)


@pytest.mark.slow(reason="starts processes; one is enough to say what they write")
def test_workers_write_the_same_bytes(tmp_path):
    users, items, log, _ = embedded(tmp_path, strings=True)
    for workers in (1, 2):
        engine = BeamEngine(workers=workers)
        output = tmp_path / f"{workers}"
        mine_negatives(users, items, output, 4, positives=log, engine=engine)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")


def test_what_does_not_fit_is_told(tmp_path):
    users, items, log, _ = embedded(tmp_path)
    out = tmp_path / "out"
    for wrong, message in (
        (dict(num_negatives=0), "num_negatives"),
        (dict(range_min=90), "`range_min` must be less than the number of items .90"),
        (dict(range_min=5, range_max=5), "`range_min` must be less than `range_max`"),
        (dict(sampling="best"), "`sampling` must be one of"),
        (dict(items=log), "Expected embeddings that `embed_rows` wrote"),
        (dict(positives=tmp_path / "none"), "Expected a path|Expected a file"),
    ):
        given = {"queries": users, "items": items, "num_negatives": 3, **wrong}
        given = {"positives": log, **given}
        with pytest.raises(ValueError, match=message):
            mine_negatives(output=out, **given)
    (tmp_path / "log.csv").write_text("user,item\n1,2\n")
    with pytest.raises(ValueError, match="must hold integers, as the embeddings in"):
        mine_negatives(users, items, out, 3, positives=tmp_path / "log.csv")
    part = sorted(users.glob("*.parquet"))[0]
    part.rename(part.with_name("part-9.parquet"))
    with pytest.raises(ValueError, match="Expected queries in the shards that `embed_"):
        mine_negatives(users, items, out, 3)
    with pytest.raises(ValueError, match="Expected negatives that `mine_negatives`"):
        read_negatives(items)
    assert not out.exists()
