"""What is found out about an export before it is loaded, and said."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from grids import only_under
from index_oracles import as_list, best, normal
from tensorflow.core.protobuf import saved_model_pb2

from tfrs_negatives.index import BruteForce, ScaNN, export_retrieval, load_retrieval

CANDIDATES = normal(1, 40, 4)
QUERIES = normal(2, 3, 4)
MINOR = int(tf.__version__.split(".")[1])
DESCRIPTION = os.path.join("assets.extra", "tfrs_negatives.json")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "m"
    return export(path, BruteForce)


def export(path, index_class, **options):
    return export_retrieval(
        path,
        tf.identity,
        index_class().index(CANDIDATES),
        query_signature=tf.TensorSpec([None, 4]),
        **options,
    )


@pytest.fixture
def copied(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "m")
    return tmp_path / "m"


def check_answers(model):
    serve = model.signatures["serving_default"]
    found = serve(query=tf.constant(QUERIES), k=tf.constant(5))
    scores, ids = best(QUERIES, CANDIDATES, 5)
    assert as_list(found["ids"]) == ids
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5)


@pytest.mark.parametrize("index_class", [BruteForce, ScaNN])
def test_loads_and_answers(tmp_path, index_class):
    path = export(tmp_path / "m", index_class)
    model = load_retrieval(path)
    check_answers(model)
    assert model.path == path
    assert model.description["candidates"] == 40
    model.release()
    check_answers(model)


@pytest.mark.parametrize("k", [3, 99])
def test_k_is_that_of_the_index_where_it_is_left_out(tmp_path, k):
    index = BruteForce(k=k).index(CANDIDATES)
    spec = tf.TensorSpec([None, 4])
    path = export_retrieval(tmp_path / "m", tf.identity, index, query_signature=spec)
    expected = min(k, 40)
    model = load_retrieval(path)
    assert model.description["k"] == expected
    queries = {"query": tf.constant(QUERIES)}
    found = model.signatures["serving_default"](**queries)
    assert as_list(found["ids"]) == best(QUERIES, CANDIDATES, expected)[1]
    found = model.signatures["serving_default"](**queries, k=tf.constant(2))
    assert as_list(found["ids"]) == best(QUERIES, CANDIDATES, 2)[1]
    gone = [[7, 8], [9, 9], [1, 2]]
    found = model.signatures["with_exclusions"](**queries, exclusions=tf.constant(gone))
    answer = best(QUERIES, CANDIDATES, expected, exclusions=gone)
    assert as_list(found["ids"]) == answer[1]
    assert model.signatures["embed_query"](**queries)["embeddings"].shape == (3, 4)
    # What TensorFlow Serving reads.
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((tmp_path / "m" / "saved_model.pb").read_bytes())
    definitions = saved.meta_graphs[0].signature_def
    assert tf.make_ndarray(definitions["serving_default"].defaults["k"]) == expected
    assert not definitions["embed_query"].defaults


def test_checksums_are_those_of_the_files(exported):
    with open(os.path.join(exported, DESCRIPTION)) as file:
        files = json.load(file)["files"]
    found = {}
    for parent, _, names in os.walk(exported):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                content = file.read()
            digest = hashlib.sha256(content).hexdigest()
            key = os.path.relpath(path, exported)
            found[key] = {"bytes": len(content), "sha256": digest}
    del found[DESCRIPTION]
    assert files == found and "saved_model.pb" in files


def test_the_highest_version_is_loaded(tmp_path):
    for version in (1, 2):
        path = export(tmp_path / "m", BruteForce, versioned=True)
        assert path == str(tmp_path / "m" / str(version))
    assert load_retrieval(tmp_path / "m").path == path
    os.rename(path, tmp_path / "m" / "10")
    assert load_retrieval(tmp_path / "m").path == str(tmp_path / "m" / "10")
    # What an export that was cut off leaves, and folders of other things.
    (tmp_path / "m" / "11").mkdir()
    (tmp_path / "m" / ".12.0123.new").mkdir()
    assert load_retrieval(tmp_path / "m").path == str(tmp_path / "m" / "10")
    # A number that is taken is not given again.
    assert export(tmp_path / "m", BruteForce, versioned=True).endswith("/12")


def test_files_that_others_add_are_left_alone(copied):
    (copied / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"x")
    check_answers(load_retrieval(copied))


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.index", "fingerprint.pb"]
)
def test_files_that_are_not_whole(copied, name):
    path = copied / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    message = rf"truncated or changed: '{name}' must have {len(content)} bytes, but has"
    with pytest.raises(ValueError, match=message):
        load_retrieval(copied)
    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 4])
    path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
    with pytest.raises(ValueError, match=f"corrupted: '{name}' has another SHA-256"):
        load_retrieval(copied)
    path.unlink()
    with pytest.raises(ValueError, match=f"lacks its file '{name}'. Export or copy"):
        load_retrieval(copied)
    path.write_bytes(content)
    check_answers(load_retrieval(copied))


def describe(path, *without, **changes):
    """Changes the description of an export, as if it had been written so."""
    description = json.loads((path / DESCRIPTION).read_text())
    del description["sha256"]
    description |= changes
    for name in without:
        del description[name]
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    description["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (path / DESCRIPTION).write_text(json.dumps(description))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"tensorflow": "2.20.0"}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5000,
        '{"format": [[[[]]]]}',
        '{"format": 3}',
        '{"format": 3, "settings": ' + "[" * 900 + "]" * 900 + "}",
        "\udcff",
    ],
)
def test_a_description_that_is_not_whole(copied, content):
    (copied / DESCRIPTION).write_bytes(content.encode("utf-8", "surrogateescape"))
    message = "is no JSON|of format 3, 4 or 5, received|it lacks 'tfrs_negatives'"
    with pytest.raises(ValueError, match=message):
        load_retrieval(copied)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("candidates", 41),
        ("k", 9),
        ("tensorflow", "2.19.0"),
        ("ids", "int64"),
        ("settings", {"x": 1}),
        ("files", {}),
        ("sha256", "0" * 64),
        ("more", 1),
    ],
)
def test_a_description_that_was_changed(copied, name, value):
    """One number, and it is not the export that was written."""
    path = copied / DESCRIPTION
    description = json.loads(path.read_text())
    path.write_text(json.dumps({**description, name: value}))
    with pytest.raises(ValueError, match="changed or damaged: it has another SHA-256"):
        load_retrieval(copied)
    # Other blanks and another order say the same.
    path.write_text(json.dumps(dict(reversed(description.items()))))
    check_answers(load_retrieval(copied))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": "40"}, "'candidates' should be a whole number of at least 1, "),
        ({"candidates": True}, "'candidates' should be a whole number"),
        ({"k": 0}, "'k' should be a whole number of at least 1, and is 0"),
        ({"dimensions": None}, "'dimensions' should be"),
        ({"tensorflow": 2.20}, "'tensorflow' should be a version"),
        ({"tensorflow": "new"}, "'tensorflow' should be a version"),
        ({"scann": None}, "'scann' should be a version"),
        ({"ids": ""}, "'ids' should be a dtype"),
        ({"query": []}, "'query' should be dtypes and shapes"),
        ({"query": {"user": {"dtype": "string"}}}, "'query' should be"),
        ({"query": {"u": {"dtype": "string", "shape": ["x"]}}}, "'query' should be"),
        ({"payload": {"title": 3}}, "'payload' should be dtypes"),
        ({"settings": 3}, "'settings' should be"),
        ({"files": {"a": {"bytes": 1}}}, "'files' should be bytes and SHA-256"),
        ({"files": {"a": {"bytes": -1, "sha256": "0" * 64}}}, "'files' should be"),
        *(
            ({"files": {name: {"bytes": 1, "sha256": "0" * 64}}}, "'files' should be")
            for name in ("../a", "/a", "..", "a/../../b", "a//b", "", "a\0b", ".")
        ),
    ],
)
def test_what_a_description_must_hold(copied, changes, message):
    describe(copied, **changes)
    with pytest.raises(ValueError, match=message):
        load_retrieval(copied)


def test_what_no_description_may_lack(copied):
    names = list(json.loads((copied / DESCRIPTION).read_text()))
    written = (copied / DESCRIPTION).read_text()
    for name in {*names} - {"format", "sha256", "keras", "tf-keras"}:
        describe(copied, name)
        with pytest.raises(ValueError, match=f"it lacks '{name}', which should be"):
            load_retrieval(copied)
        (copied / DESCRIPTION).write_text(written)
    check_answers(load_retrieval(copied))


def test_nothing_there(tmp_path):
    for path in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        if path.name == "file":
            path.write_text("x")
        with pytest.raises(ValueError, match="that index.export_retrieval wrote, rec"):
            load_retrieval(path)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"format": 1}, ValueError, "format 3, 4 or 5, received .* of format 1"),
        (
            {"tensorflow": f"2.{MINOR + 1}.0"},
            ValueError,
            rf"tensorflow 2.{MINOR + 1}.0, and tensorflow 2.{MINOR}.* is installed",
        ),
        ({"tensorflow": "3.0.0"}, ValueError, "Install tensorflow 3.0.0 or later"),
        pytest.param(
            {"scann": "1.5.0"},
            ValueError,
            "written with scann 1.5.0, and scann 1.4.* is installed",
            marks=pytest.mark.scann,
        ),
    ],
)
def test_versions_are_checked(copied, changes, error, message):
    describe(copied, **changes)
    with pytest.raises(error, match=message):
        load_retrieval(copied)


@pytest.mark.parametrize("version", [f"2.{MINOR - 1}.1", f"2.{MINOR}.9", "1.15.0"])
def test_what_an_older_tensorflow_wrote_is_loaded(copied, version):
    describe(copied, tensorflow=version)
    check_answers(load_retrieval(copied))


def test_scann_is_asked_for_by_name(copied, monkeypatch):
    describe(copied, scann="1.4.2")
    monkeypatch.setitem(sys.modules, "scann.scann_ops.py", None)
    message = (
        r"was written with scann 1.4.2 and Te.*pip install tfrs_negatives\[scann\]"
    )
    with pytest.raises(ImportError, match=message):
        load_retrieval(copied)


@only_under(keras_3=True, reason="a process without Keras, whichever starts it")
def test_loading_imports_no_keras(exported):
    code = (
        "import sys\n"
        "from tfrs_negatives._saved_retrieval import load_retrieval\n"
        f"model = load_retrieval({exported!r})\n"
        "assert 'embed_query' in model.signatures\n"
        "unwanted = {'tensorflow_recommenders', 'tfrs_negatives._keras', 'scann'}\n"
        "assert not unwanted & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("index_class", [BruteForce, ScaNN])
@pytest.mark.parametrize("shift", [1, -1000, -20, "strings"])
def test_answers_do_not_depend_on_what_items_are_called(tmp_path, index_class, shift):
    ids = [f"item {n}" if n else "" for n in range(40)]
    if shift != "strings":
        ids = [n + shift for n in range(40)]
    index = index_class().index(CANDIDATES, ids)
    spec = tf.TensorSpec([None, 4])
    path = export_retrieval(tmp_path / "m", tf.identity, index, query_signature=spec)
    top = best(QUERIES, CANDIDATES, 3, ids)[1]
    gone = [[*top[0], *ids[18:21]], [*ids[:3]] * 2, [top[2][0]] * 6]
    serve = load_retrieval(path).signatures["with_exclusions"]
    found = serve(
        query=tf.constant(QUERIES), k=tf.constant(38), exclusions=tf.constant(gone)
    )
    filler = "" if shift == "strings" else -1
    scores, expected = best(QUERIES, CANDIDATES, 38, ids, gone, filler)
    assert as_list(found["ids"]) == expected
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5)
    assert not np.isfinite(scores).all()
