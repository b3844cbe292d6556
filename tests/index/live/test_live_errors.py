"""Bad input is an error that says so, and changes nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tfrs_negatives.index import LiveIndex
from tfrs_negatives.index.live import live_folder, live_values

GOOD = {
    "ids": ["a", "b"],
    "embeddings": np.eye(2),
    "payload": {"title": ["A", "B"]},
    "attributes": {"price": [1, 2.5], "tags": [["x"], []]},
}


@pytest.fixture
def index(tmp_path):
    with LiveIndex.create(tmp_path / "index", **GOOD) as made:
        yield made


def with_(**changed):
    return {**GOOD, **changed}


BAD_ITEMS = [
    (with_(embeddings=np.eye(3)[:2]), "must be 2 wide .* received 3"),
    (with_(embeddings=np.eye(2)[:1]), r"one row for each id \(2\), received 1"),
    (with_(embeddings=[1.0, 2.0]), r"shape \[items, width\], received \[2\]"),
    (with_(embeddings=[[1.0], [1.0, 2.0]]), "rows of different lengths"),
    (with_(embeddings=[["1", "2"]] * 2), "must be floating-point numbers"),
    (with_(embeddings=[[1, np.nan], [1, 1]]), "finite .* 1 rows .* first in row 0"),
    (with_(embeddings=[[1, 1], [np.inf, 1]]), "finite .* first in row 1"),
    (with_(embeddings=[[1, 1], [1e30, 1]]), r"at most 1e\+15 long"),
    (with_(ids=[1, 2]), "must all be strings like those of the index, received 1"),
    (with_(ids=["a", 2]), "must all be strings .* received 2"),
    (with_(ids=["a", None]), "must all be strings .* received None"),
    (with_(ids=["a", "a"]), "must differ from each other, received 'a' twice"),
    (with_(ids=["a", b"a"]), "received 'a' twice"),
    (with_(ids=["a", b"\xff"]), "must be UTF-8"),
    (with_(ids="ab"), "one value for each item, received str"),
    (with_(ids=[["a", "b"]]), "must all be strings"),
    (with_(ids=np.array([["a", "b"]])), r"received shape \(1, 2\)"),
    (with_(payload=None), r"columns of the index \(title\), received none"),
    (with_(payload={"title": ["A", "B"], "x": [1, 2]}), "received title, x"),
    (with_(payload=[["A", "B"]]), "must be a dict .* received list"),
    (with_(payload={"title": ["A"]}), r"one value for each id \(2\), received 1"),
    (with_(payload={"title": ["A", 2]}), r"payload\['title'\].*'string'.* received 2"),
    (with_(payload={"title": ["A", None]}), "must hold strings, received None"),
    (with_(attributes={"price": [1, 2]}), r"\(price, tags\), received price"),
    (
        with_(attributes={"price": [1, "2"], "tags": [[], []]}),
        "'number' and must hold finite numbers .* received '2'",
    ),
    (with_(attributes={"price": [1, np.inf], "tags": [[], []]}), "received inf"),
    (with_(attributes={"price": [1, True], "tags": [[], []]}), "received True"),
    (with_(attributes={"price": [1, 2**53 + 1], "tags": [[], []]}), "hold exactly"),
    (with_(attributes={"price": [1, 2], "tags": [[], "x"]}), "sets of strings"),
    (with_(attributes={"price": [1, 2], "tags": [[], [1]]}), "sets of strings"),
]


@pytest.mark.parametrize("items, match", BAD_ITEMS)
def test_bad_items_change_nothing(index, tmp_path, items, match):
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.bin")}
    with pytest.raises(ValueError, match=match):
        index.upsert(**items)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.bin")} == before
    assert index.search(np.eye(2), 5).ids.tolist() == [["a", "b"], ["b", "a"]]


@pytest.mark.parametrize("ids", [[1], [1.5], [None], [True], ["a", "a"], "a", 3])
def test_bad_ids_to_delete_change_nothing(index, ids):
    with pytest.raises(ValueError, match="`ids` must"):
        index.delete(ids)
    assert len(index) == 2


@pytest.mark.parametrize("ids", [[2**63], [1.0], [True], ["1"]])
def test_integers_are_of_64_bits(tmp_path, ids):
    with LiveIndex.create(tmp_path, [1], [[1.0]]) as index:
        with pytest.raises(ValueError, match="must all be integers"):
            index.upsert(ids, [[1.0]])


def test_a_call_changes_so_many_items(index, monkeypatch):
    monkeypatch.setattr(live_values, "MAX_ITEMS", 2)
    with pytest.raises(ValueError, match="at most 2 items, received 3. Split it"):
        index.delete(["a", "b", "c"])
    assert len(index) == 2


def test_nothing_to_change_is_no_change(index):
    assert index.delete([]) == 0
    empty = {"title": []}, {"price": [], "tags": []}
    assert index.upsert([], np.empty([0, 2]), *empty) == 0
    assert index.statistics()["sequence"] == 0


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"queries": np.eye(3)}, "`queries` must be 2 wide .* received 3"),
        ({"queries": np.ones(2)}, "must have shape"),
        ({"queries": [[np.nan, 1.0]]}, "must be finite"),
        ({"k": 0}, "`k` must be an integer of at least 1, received 0"),
        ({"k": 2.0}, "received 2.0"),
        ({"k": True}, "received True"),
        ({"where": "colour == 'red'"}, r"attribute of the index \(price, tags\)"),
        ({"where": "price == 'red'"}, "price is a number"),
        ({"where": 5}, "must be a text"),
        ({"where": ["price < 5"]}, "must be a text"),
        ({"where": "(" * 40 + "price < 5" + ")" * 40}, "at most 32 nested"),
        ({"where": "price < 5" + " " * 5_000}, "at most 4,096 characters"),
    ],
)
def test_bad_searches(index, arguments, match):
    with pytest.raises(ValueError, match=match):
        index.search(**{"queries": np.eye(2), **arguments})


@pytest.mark.parametrize(
    "items, match",
    [
        (with_(ids=[], embeddings=np.empty([0, 2])), "at least one item"),
        (with_(ids=[1.5, 2.5]), "must be integers or strings, received 1.5"),
        (with_(ids=[True, False]), "must be integers or strings"),
        (with_(payload={"ids": [1, 2]}), "received 'ids' twice"),
        (with_(payload={"price": [1, 2]}), "received 'price' twice"),
        (with_(payload={3: [1, 2]}), "names that are strings"),
        (with_(payload={"x": [None, None]}), "must be of one of the kinds integer"),
        (with_(attributes={"a b": [1, 2]}), "a filter can hold, .* received 'a b'"),
        (with_(attributes={"in": [1, 2]}), "none of and, in, is"),
        (with_(attributes={"x": [None, None]}), "must be of one of the kinds category"),
        (with_(attributes={"x": [True, False]}), "received True. Convert it"),
        (with_(attributes={"x": [1, "a"]}), "'number' and must hold"),
        (with_(kinds={"price": "set"}), "'set' and must hold lists or sets"),
        (with_(kinds={"price": "money"}), "received 'price': 'money'"),
        (with_(kinds={"size": "number"}), "received 'size': 'number'"),
        (with_(rebuild_share=0), "`rebuild_share` must be a number above 0"),
        (with_(approximate_from=-1), "`approximate_from` must be None or an integer"),
    ],
)
def test_what_cannot_be_created_leaves_nothing(tmp_path, items, match):
    with pytest.raises(ValueError, match=match):
        LiveIndex.create(tmp_path / "index", **items)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_replaced(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ValueError, match="must not be there or be an empty directory"):
        LiveIndex.create(tmp_path, **GOOD)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_create_that_fails_leaves_nothing(tmp_path, monkeypatch):
    from tfrs_negatives.index.live import live_creation

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live_creation, "write_snapshot", full)
    with pytest.raises(OSError, match="No space left"):
        LiveIndex.create(tmp_path / "index", **GOOD)
    assert list(tmp_path.iterdir()) == []


def test_one_writer(index, tmp_path):
    with pytest.raises(ValueError, match="one writer, and process .* writes there"):
        LiveIndex.open(tmp_path / "index")
    code = (
        "import sys\n"
        "from tfrs_negatives.index import LiveIndex\n"
        "LiveIndex.open(sys.argv[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "index"], capture_output=True, text=True
    )
    assert "must have one writer" in done.stderr
    index.close()
    LiveIndex.open(tmp_path / "index").close()


def test_a_closed_index_says_so(index):
    index.close()
    index.close()
    for call in (
        lambda: index.search(np.eye(2)),
        lambda: index.delete(["a"]),
        lambda: index.upsert(**GOOD),
        index.compact,
    ):
        with pytest.raises(ValueError, match="is closed. Open it anew"):
            call()


def changed_manifest(folder, **changes):
    path = folder / live_folder.MANIFEST
    described = json.loads(path.read_text())
    described.update(changes)
    path.write_text(json.dumps(described))


def damage(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "another manifest": (
        lambda folder: changed_manifest(folder, sequence=1),
        "is damaged: its checksum differs",
    ),
    "a later format": (
        lambda folder: changed_manifest(folder, version=2),
        "must be of format 1, received 2, as another release",
    ),
    "something else": (
        lambda folder: changed_manifest(folder, format="zip"),
        "is not of this format",
    ),
    "half a manifest": (
        lambda folder: (folder / "live_index.json").write_text("{"),
        "is damaged",
    ),
    "no manifest": (
        lambda folder: (folder / "live_index.json").unlink(),
        "must be a live index, and has no live_index.json",
    ),
    "no log": (
        lambda folder: next(folder.glob("log-*")).unlink(),
        "lacks 'log-00000000000000000001.bin'",
    ),
    "a file less": (
        lambda folder: next(folder.glob("snapshot-*/0.*")).unlink(),
        "lacks '0.values.npy'",
    ),
    "a changed file": (
        lambda folder: damage(next(folder.glob("snapshot-*/0.*"))),
        "is not as the manifest says",
    ),
    "a changed log": (
        lambda folder: damage(next(folder.glob("log-*")), 50),
        "is damaged at byte 36: changes from number 1 on",
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_damaged_directory_is_an_error(index, tmp_path, what, read_only):
    index.delete(["a"])
    index.delete(["b"])
    index.close()
    change, match = DAMAGES[what]
    change(tmp_path / "index")
    for _ in range(2):  # Nor does an error leave a lock.
        with pytest.raises(ValueError, match=match):
            LiveIndex.open(tmp_path / "index", read_only=read_only)


def test_a_log_between_others_that_is_missing_is_an_error(index, tmp_path, monkeypatch):
    from tfrs_negatives.index.live import live_index

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live_index, "write_snapshot", full)
    # Begins a log for each compaction in vain.
    for each in ("a", "b", "c"):
        index.upsert([each], np.ones([1, 2]), {"title": ["T"]}, attributes_of(1))
        with pytest.raises(OSError, match="No space left"):
            index.compact()
    index.close()
    monkeypatch.undo()
    logs = sorted((tmp_path / "index").glob("log-*"))
    assert len(logs) == 4
    with LiveIndex.open(tmp_path / "index") as again:
        assert len(again) == 3
    logs[1].unlink()
    with pytest.raises(ValueError, match="change number 2, and begins with 3: changes"):
        LiveIndex.open(tmp_path / "index")


def attributes_of(size):
    return {"price": [1] * size, "tags": [[]] * size}
