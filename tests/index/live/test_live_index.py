import random

import filter_oracle
import live_oracle
import numpy as np
import pytest

from tfrs_negatives.index import LiveIndex

WIDTH = 6


def drawn(rng, size):
    """Random embeddings, payload and attributes of `size` items."""
    vectors = np.array([[rng.gauss(0, 1) for _ in range(WIDTH)] for _ in range(size)])
    payload = {"title": [f"title {rng.randrange(99)}" for _ in range(size)]}
    return vectors.astype(np.float32).reshape(size, WIDTH), payload


def change(rng, target, oracle, ids):
    """The same random upsert or delete of both."""
    size = rng.randint(0, 8)
    chosen = rng.sample(ids, size)
    if rng.random() < 0.3:
        assert target.delete(chosen) == oracle.delete(chosen)
        return
    vectors, payload = drawn(rng, size)
    columns = filter_oracle.items(rng, size)
    given = filter_oracle.as_given(columns)
    assert target.upsert(chosen, vectors, payload, given) == oracle.upsert(
        chosen, vectors, payload, columns
    )


def made(rng, path, ids, **options):
    oracle = live_oracle.Oracle()
    vectors, payload = drawn(rng, 10)
    columns = filter_oracle.items(rng, 10)
    oracle.upsert(ids[:10], vectors, payload, columns)
    given = filter_oracle.as_given(columns)
    options.setdefault("kinds", filter_oracle.KINDS)
    return LiveIndex.create(path, ids[:10], vectors, payload, given, **options), oracle


def check_all(rng, index, oracle):
    """Searches of all kinds, one of them for all items."""
    assert len(index) == len(oracle.items)
    queries, _ = drawn(rng, 3)
    live_oracle.check(index, oracle, queries, rng.randint(1, 70))
    node = filter_oracle.tree(rng, rng.randrange(3))
    live_oracle.check(
        index,
        oracle,
        queries,
        rng.randint(1, 20),
        filter_oracle.text(rng, node),
        lambda item: filter_oracle.passes(node, item),
    )


@pytest.mark.parametrize("kind", ["integer", "string"])
@pytest.mark.parametrize("seed", range(3))
def test_random_changes_equal_a_dict(tmp_path, seed, kind):
    rng = random.Random(seed)
    ids = list(range(-30, 30))
    if kind == "string":
        ids = [f"id {each}\0" for each in ids[:-3]] + ["", "Größe", "\ud800"]
    rng.shuffle(ids)
    index, oracle = made(rng, tmp_path / "index", ids)
    for step in range(120):
        change(rng, index, oracle, ids)
        check_all(rng, index, oracle)
        if rng.random() < 0.1:
            index.compact()
            check_all(rng, index, oracle)
        if rng.random() < 0.1:
            index.close()
            index = LiveIndex.open(tmp_path / "index")
            check_all(rng, index, oracle)
        if step == 60:
            assert index.delete(ids) == oracle.delete(ids)
            assert index.search(np.ones([2, WIDTH])).ids.shape == (2, 0)
    index.close()


def test_what_is_stored_comes_back_the_same(tmp_path):
    payload = {
        "title": ["a", "", "é\0"],
        "stock": [-(2**63), 2**63 - 1, 0],
        "rate": [0.1, float("inf"), -0.0],
    }
    index = LiveIndex.create(tmp_path, [3, 1, 2], np.eye(3), payload)
    index.upsert([1], np.eye(3)[1:2], {name: v[1:2] for name, v in payload.items()})
    for _ in range(2):
        answer = index.search([[3.0, 2.0, 1.0]], 3)
        assert answer.ids.tolist() == [[3, 1, 2]] and answer.ids.dtype == np.int64
        assert answer.scores.dtype == np.float32
        assert {n: v[0].tolist() for n, v in answer.payload.items()} == payload
        index.close()
        index = LiveIndex.open(tmp_path)
    index.close()


def test_forms_of_ids_and_columns(tmp_path):
    """Tensors, arrays, bytes and scalars of NumPy are taken as what they hold."""
    tf = pytest.importorskip("tensorflow")
    index = LiveIndex.create(
        tmp_path,
        tf.constant(["a", "b"]),
        tf.eye(2, dtype=tf.bfloat16),
        payload={"n": np.array([1, 2], np.int8), "f": [1, 2.5]},
        attributes={
            "d": np.array(["2024-01-01", "NaT"], "datetime64[ns]"),
            "c": np.array([b"x", b"y"]),
            "s": [np.array(["u"]), ()],
        },
    )
    found = index.search(tf.eye(2), 1, 'd >= "2024-01-01" and c == "x" and "u" in s')
    assert found.ids.tolist() == [["a"], ["a"]]
    assert found.payload["f"].tolist() == [[1.0], [1.0]]
    assert index.delete(np.array([b"a"], object)) == 1
    index.close()


def test_a_number_of_a_date_is_told_by_its_kind(tmp_path):
    with LiveIndex.create(
        tmp_path, [1], [[1.0]], attributes={"at": [0]}, kinds={"at": "date"}
    ) as index:
        assert index.search([[1.0]], 1, 'at < "1970-01-02"').ids.tolist() == [[1]]


def test_compaction_comes_by_itself_and_shrinks(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(2_000, 4))
    index = LiveIndex.create(tmp_path, range(2_000), vectors, rebuild_share=0.5)
    first = tmp_path / "snapshot-00000000000000000000"
    assert first.exists()
    index.upsert(range(999), vectors[:999])
    assert index.statistics()["changed"] == 999
    index.upsert([999], vectors[999:1_000])
    index._compaction.join()
    index.close()
    assert not first.exists()
    assert len(list(tmp_path.glob("snapshot-*"))) == 1
    index = LiveIndex.open(tmp_path)
    assert index.statistics() == {
        "items": 2_000,
        "rows": 2_000,
        "changed": 0,
        "searched_by_scann": 0,
        "sequence": 2,
    }
    index.upsert([1], vectors[:1])
    index.close()
    index = LiveIndex.open(tmp_path, automatic=False)
    assert index.statistics()["changed"] == 1
    index.delete(range(1_999))
    assert index.statistics()["changed"] == 2_000
    index.close()
    assert len(list(tmp_path.glob("log-*"))) == 1


def test_a_compaction_that_fails_is_a_warning_and_loses_nothing(tmp_path, monkeypatch):
    from tfrs_negatives.index.live import live_index

    vectors = np.random.default_rng(0).normal(size=(2_000, 4))
    index = LiveIndex.create(tmp_path, range(2_000), vectors, rebuild_share=0.5)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live_index, "write_snapshot", full)
    with pytest.warns(RuntimeWarning, match="could not be compacted.*No space left"):
        index.delete(range(1_000))
        index._compaction.join()
    index.upsert([0], vectors[:1])
    monkeypatch.undo()
    assert len(index) == 1_001
    index.close()
    index = LiveIndex.open(tmp_path)
    assert len(index) == 1_001
    index.compact()
    assert len(index) == 1_001
    index.close()


def test_tensorflow_is_not_imported():
    import subprocess
    import sys

    code = (
        "import sys, tempfile, numpy as np\n"
        "from tfrs_negatives.index import LiveIndex\n"
        "x = np.random.default_rng(0).normal(size=(2000, 8))\n"
        "with LiveIndex.create(tempfile.mkdtemp(), range(2000), x,\n"
        "                      approximate_from=0) as index:\n"
        "    index.search(x[:2], 3)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
