"""Ranks that many workers count are those of one machine."""

import json

import numpy as np
import pytest
from event_tables import bytes_of, events, write_folder
from retrieval_oracle import arrays, embedded, items_of, recalls

from tfrs_negatives.data import positives_of
from tfrs_negatives.metrics import CorpusRecall
from tfrs_negatives.pipeline import (
    BeamEngine,
    corpus_recall,
    corpus_shards,
    read_embeddings,
)

pytestmark = pytest.mark.usefixtures("beam")

LABEL = {"label": "label"}
KS = (1, 5, 20)


@pytest.fixture
def given(tmp_path):
    """Users, items, held-out rows, rows of training, and the columns of both."""
    users, items, log, columns = embedded(tmp_path)
    later = {name: column[::7] for name, column in events(400, seed=9).items()}
    later["item"] = np.where(np.arange(len(later["item"])) % 11, later["item"], 95)
    held_out = write_folder(tmp_path / "later", later)
    return users, items, held_out, log, later, columns


@pytest.mark.parametrize("holds_all", [False, True])
def test_means_of_an_oracle(given, tmp_path, monkeypatch, holds_all):
    users, items, held_out, log, later, columns = given
    if not holds_all:
        monkeypatch.setattr(corpus_shards, "_HELD", 0)
    options = dict(columns=LABEL, ks=KS, measures=("recall", "ndcg"))
    found = corpus_recall(
        users, items, held_out, tmp_path / "out", excluded=log, **options
    )
    positives, known = items_of(later), items_of(columns)
    wanted = recalls(arrays(users), arrays(items), positives, known, KS)
    queries = set(arrays(users)[0])
    assert found["queries"] == len(queries & set(positives))
    assert found["users_without_query"] == len(set(positives) - queries) > 0
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=1e-12)
    assert 0 < wanted["corpus/recall@5"] < wanted["corpus/recall@20"] < 1
    assert json.loads((tmp_path / "out" / "recall.json").read_text()) == found
    # Once more: it is there.
    said = []
    again = corpus_recall(
        users,
        items,
        held_out,
        tmp_path / "out",
        excluded=log,
        progress=said.append,
        **options,
    )
    assert again == found and said == ["already done"]


def test_one_machine_measures_the_same(given, tmp_path):
    users, items, held_out, _, later, _ = given
    found = corpus_recall(
        users, items, held_out, tmp_path / "out", ks=KS, measures=["mrr", "hit_rate"]
    )
    ids, queries = arrays(users)
    positives = positives_of({role: later[role] for role in ("user", "item")})
    recall = CorpusRecall(read_embeddings(items), KS, measures=["mrr", "hit_rate"])
    recall.update_state(queries, true_candidate_ids=positives(np.array(ids)))
    for name, value in zip(recall.names, recall.result(), strict=True):
        assert found[name] == pytest.approx(float(value), abs=1e-6)


@pytest.mark.slow(reason="starts processes; one is enough to say what they write")
def test_workers_write_the_same_bytes(given, tmp_path):
    users, items, held_out, log, _, _ = given
    for workers in (1, 2):
        engine = BeamEngine(workers=workers)
        output = tmp_path / f"{workers}"
        corpus_recall(users, items, held_out, output, excluded=log, engine=engine)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")


def test_what_does_not_fit_is_told(given, tmp_path):
    users, items, held_out, log, later, _ = given
    out = tmp_path / "out"
    for wrong, message in (
        (dict(ks=[3, 3]), "`ks` must be distinct"),
        (dict(measures=["auc"]), "`measures` must be one of"),
        (dict(queries=log), "Expected embeddings that `embed_rows` wrote"),
    ):
        asked = {"queries": users, "items": items, "held_out": held_out, **wrong}
        with pytest.raises(ValueError, match=message):
            corpus_recall(output=out, **asked)
    nobody = {**later, "user": later["user"] * 0 + 500}
    path = write_folder(tmp_path / "nobody", nobody)
    with pytest.raises(ValueError, match="Expected held-out rows of users in"):
        corpus_recall(users, items, path, out)
    assert not out.exists()
