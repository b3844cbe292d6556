"""Embeddings of many workers are those of the model, one for each id."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from event_tables import bytes_of, write_folder
from item_towers import save_tower, save_whole_numbers

from tfrs_negatives.index import BruteForce
from tfrs_negatives.metrics import CorpusRecall
from tfrs_negatives.pipeline import BeamEngine, embed_rows, read_embeddings, step_folder

pytestmark = pytest.mark.usefixtures("beam")


@pytest.fixture
def tower(tmp_path):
    def embed(kind, price):
        hashed = tf.strings.to_hash_bucket_fast(kind, 5)
        return tf.concat([tf.one_hot(hashed, 5), price[:, tf.newaxis]], axis=1)

    kind, price = (tf.TensorSpec([None], t) for t in (tf.string, tf.float32))
    return save_tower(tmp_path / "tower", embed, kind, price)


def items(num, seed, strings=True):
    """Rows of items, a third of which are there again, with other features."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(num)
    ids = np.append(ids, rng.choice(ids, num // 3))
    columns = {
        "sku": np.array([f"é{n}" for n in ids], object) if strings else ids,
        "kind": np.array([f"k{n}" for n in rng.integers(0, 9, len(ids))], object),
        "price": rng.integers(0, 99, len(ids)) / 4,
    }
    return columns


def first_features(columns):
    """Features of each id's first row, by id."""
    found = {}
    for sku, *features in zip(*columns.values(), strict=True):
        found.setdefault(sku.encode() if isinstance(sku, str) else sku, features)
    return found


def read(folder):
    ids, embeddings = zip(*read_embeddings(folder, 7).as_numpy_iterator(), strict=True)
    return np.concatenate(ids), np.concatenate(embeddings)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("strings", [False, True])
def test_each_id_has_the_embedding_of_its_first_row(tmp_path, tower, kind, strings):
    columns = items(200, seed=1, strings=strings)
    path = write_folder(tmp_path / "in", columns, kind)
    said = []
    given = dict(shards=3, batch_size=16, progress=said.append)
    embed_rows(path, tmp_path / "out", tower, "sku", **given)
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 3
    ids, embeddings = read(tmp_path / "out")
    wanted = first_features(columns)
    if kind == "csv" and not strings:
        wanted = {str(sku).encode(): features for sku, features in wanted.items()}
    assert sorted(ids.tolist()) == sorted(wanted)
    model = tf.saved_model.load(str(tower)).signatures["serving_default"]
    kinds, prices = zip(*(wanted[sku] for sku in ids.tolist()), strict=True)
    expected = model(kind=tf.constant(kinds), price=tf.constant(prices, tf.float32))
    np.testing.assert_array_equal(embeddings, expected["output_0"])
    assert "200 ids; 66 rows repeated one of them" in said


def test_an_index_and_a_metric_are_built_of_shards(tmp_path):
    tower = save_whole_numbers(tmp_path / "tower", key="item")
    table = pa.table({"item": np.arange(100)})
    pq.write_table(table, tmp_path / "items.parquet")
    embed_rows(tmp_path / "items.parquet", tmp_path / "out", tower, "item", shards=4)
    ids, embeddings = read(tmp_path / "out")
    dataset = read_embeddings(tmp_path / "out")
    index = BruteForce().index_from_dataset(dataset)
    scores, found = index(embeddings[:5], k=3)
    exact = embeddings[:5] @ embeddings.T
    np.testing.assert_array_equal(scores, -np.sort(-exact)[:, :3])
    order = np.argsort(-exact, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(found, ids[order])
    recall = CorpusRecall(dataset, [100], measures="recall")
    recall.update_state(embeddings[:5], true_candidate_ids=ids[:5])
    assert float(recall.result()[0]) == 1.0


def test_an_item_in_most_rows_is_sent_once_a_batch(tmp_path, monkeypatch):
    from tfrs_negatives.pipeline import input_rows, shards

    monkeypatch.setattr(input_rows, "_BATCH", 50)
    sent, send = [], shards._sent
    monkeypatch.setattr(
        shards,
        "_sent",
        lambda batch, *rest: sent.append(len(batch)) or send(batch, *rest),
    )
    tower = save_whole_numbers(tmp_path / "tower", key="item")
    column = np.where(np.arange(2_000) % 5, 3, np.arange(2_000))
    path = write_folder(tmp_path / "in", {"item": column})
    embed_rows(path, tmp_path / "out", tower, "item")
    assert sum(sent) <= 2_000 // 5 + 3 * -(-2_000 // 37)
    assert sorted(read(tmp_path / "out")[0]) == sorted(set(column))


def test_an_ended_step_goes_on(tmp_path, monkeypatch, tower):
    path = write_folder(tmp_path / "in", items(90, seed=2))
    given = dict(model=tower, key="sku", shards=5)
    embed_rows(path, tmp_path / "whole", **given)
    write = step_folder.StepFolder.write_table

    def write_some(self, name, table):
        if len(list(tmp_path.glob(".ended.unfinished/*.parquet"))) == 2:
            raise OSError("no room")
        write(self, name, table)

    monkeypatch.setattr(step_folder.StepFolder, "write_table", write_some)
    with pytest.raises(ValueError, match="no room"):
        embed_rows(path, tmp_path / "ended", **given)
    assert not (tmp_path / "ended").exists()
    monkeypatch.setattr(step_folder.StepFolder, "write_table", write)
    embed_rows(path, tmp_path / "ended", **given)
    assert bytes_of(tmp_path / "ended") == bytes_of(tmp_path / "whole")
    # Another model begins anew, and replaces nothing.
    other = save_tower(
        tmp_path / "other",
        lambda price: price[:, None],
        tf.TensorSpec([None], tf.float32),
    )
    with pytest.raises(ValueError, match="Expected a path where nothing is"):
        embed_rows(path, tmp_path / "ended", other, "sku")


@pytest.mark.slow(reason="starts processes; one is enough to say what they write")
def test_workers_write_the_same_bytes(tmp_path, tower):
    path = write_folder(tmp_path / "in", items(3_000, seed=3))
    for workers in (1, 2):
        engine = BeamEngine(workers=workers)
        embed_rows(path, tmp_path / f"{workers}", tower, "sku", shards=4, engine=engine)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")


def test_what_does_not_fit_is_told(tmp_path, tower):
    columns = items(30, seed=4)
    path = write_folder(tmp_path / "in", columns)
    out = tmp_path / "out"
    for wrong, message in (
        (dict(model=tmp_path), "Expected a SavedModel of a tower"),
        (dict(signature="embed"), "must have the signature 'embed', received serving"),
        (
            dict(features={"colour": "kind"}),
            "inputs of the signature .*received colour",
        ),
        (dict(features={"price": "cost"}), "cost"),
        (dict(features={"price": "sku"}), "'sku' of .* must hold float"),
        (dict(key="price"), "must hold ids, integers or strings, received double"),
        (dict(batch_size=0), "batch_size"),
    ):
        given = {"model": tower, "key": "sku", **wrong}
        with pytest.raises(ValueError, match=message):
            embed_rows(path, out, **given)
    table = pa.table(columns)
    prices = pa.array([None, *columns["price"][1:]])
    for place, column, message in (
        ("price", prices, "'price' of .* a value in each row, received 1 nulls"),
        (
            "price",
            pa.array(np.full(40, np.inf)),
            "finite, received NaN or infinity for",
        ),
    ):
        wrong = table.set_column(2, place, column)
        pq.write_table(wrong, tmp_path / "wrong.parquet")
        with pytest.raises(ValueError, match=message) as caught:
            embed_rows(tmp_path / "wrong.parquet", out, tower, "sku")
        assert "\n" not in str(caught.value)
    pq.write_table(table.slice(0, 0), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="must hold rows, received an empty table"):
        embed_rows(tmp_path / "none.parquet", out, tower, "sku")
    part = path / "day=2" / "part-0.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"day=2.*cannot be read"):
        embed_rows(path, out, tower, "sku")
    with pytest.raises(ValueError, match="Expected embeddings that `embed_rows` wrote"):
        read_embeddings(tmp_path / "none.parquet")
    assert not out.exists()
