"""Which version answers as the folder changes, and that the others leave."""

import asyncio
import gc
import logging
import shutil
import time
import weakref

import numpy as np
import psutil
import pytest
import tensorflow as tf
from grids import some_of
from served_models import INDEXES, expected, export, normal

from tfrs_negatives._saved_retrieval import SavedRetrieval
from tfrs_negatives.index import ScaNN, load_retrieval
from tfrs_negatives.serving import Limits, Service, model_versions
from tfrs_negatives.serving.model_version import ModelVersion
from tfrs_negatives.serving.model_versions import ModelVersions
from tfrs_negatives.serving.request_error import RequestError, without_folders

INPUTS = {
    "user": np.array([b"u3"], object),
    "shift": np.zeros([1, 1], np.float32),
    "k": np.array(3, np.int32),
}


def answered_by(versions):
    """The seed whose candidates are in the answer."""
    ids = versions.current.run("serving_default", INPUTS)["ids"].tolist()
    seed = int(ids[0][0].split(b"-")[0])
    found = [[i.decode() for i in row] for row in ids]
    assert found == expected(seed, ["u3"], [0], 3)[0]
    return seed


def test_an_export_is_version_1_and_is_replaced_in_place(tmp_path):
    export(tmp_path / "m", 5)
    versions = ModelVersions(tmp_path / "m", 4)
    assert (versions.current.number, answered_by(versions)) == (1, 5)
    versions.refresh()
    same = versions.current
    versions.refresh()
    assert versions.current is same
    export(tmp_path / "m", 6, overwrite=True)
    assert answered_by(versions) == 5
    versions.refresh()
    assert (versions.current.number, answered_by(versions)) == (1, 6)
    assert versions.states() == {1: ("AVAILABLE", "")}


def test_the_highest_version_answers(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = tmp_path / "m"
    export(root, 5, versioned=True)
    versions = ModelVersions(root, 4)
    for version in (2, 3):
        path = export(root, 5 + version, versioned=True)
        assert path == str(root / str(version))
    versions.refresh()
    assert (versions.current.number, answered_by(versions)) == (3, 8)
    assert versions.states() == {1: ("END", ""), 3: ("AVAILABLE", "")}
    assert "version 3 answers" in caplog.text
    # Deleted, it gives its place to the one below; the last one stays.
    shutil.rmtree(root / "3")
    versions.refresh()
    assert (versions.current.number, answered_by(versions)) == (2, 7)
    assert versions.states() == {1: ("END", ""), 2: ("AVAILABLE", "")}
    shutil.rmtree(root)
    versions.refresh()
    assert answered_by(versions) == 7
    assert versions.states() == {2: ("AVAILABLE", "")}


def test_a_version_that_arrives_in_parts(tmp_path, caplog):
    """As when it is copied file by file: not whole until the end."""
    root = tmp_path / "m"
    export(root, 5, versioned=True)
    versions = ModelVersions(root, 4)
    whole = export(tmp_path / "elsewhere", 6)
    (root / "2").mkdir()
    versions.refresh()
    assert versions.states() == {1: ("AVAILABLE", "")}
    shutil.copytree(f"{whole}/assets.extra", root / "2" / "assets.extra")
    for _ in range(2):
        caplog.clear()
        versions.refresh()
        assert answered_by(versions) == 5
        state, message = versions.states()[2]
        assert state == "END" and "lacks its file" in message
    # Told once, not with every look.
    assert "cannot be served" not in caplog.text
    shutil.copytree(whole, root / "2", dirs_exist_ok=True)
    versions.refresh()
    assert (versions.current.number, answered_by(versions)) == (2, 6)


def test_a_broken_version_leaves_the_earlier_one_in_place(tmp_path):
    root = tmp_path / "m"
    export(root, 5, versioned=True)
    versions = ModelVersions(root, 4)
    export(root, 6, versioned=True)
    broken = root / "2" / "saved_model.pb"
    content = broken.read_bytes()
    broken.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (error,) = versions.refresh()
    assert "corrupted" in str(error)
    assert answered_by(versions) == 5
    assert versions.states()[2][0] == "END"
    service = Service(root)
    assert service.version("retrieval").number == 1
    service.close()


def loads_failing(monkeypatch, failures):
    """Lets loads fail while there are failures; returns when they were tried."""
    tries = []
    load = ModelVersion.__init__

    def fails_at_first(self, number, *arguments):
        tries.append(number)
        if failures:
            raise failures.pop(0)
        load(self, number, *arguments)

    monkeypatch.setattr(ModelVersion, "__init__", fails_at_first)
    return tries


def test_a_version_that_failed_is_tried_when_its_mode_changes(tmp_path, monkeypatch):
    """As after `chmod`, which changes neither size nor time."""
    root = tmp_path / "m"
    export(root, 5, versioned=True)
    versions = ModelVersions(root, 4)
    export(root, 6, versioned=True)
    tries = loads_failing(monkeypatch, [PermissionError("denied")] * 2)
    for _ in range(16):
        versions.refresh()
    assert tries == [2] and answered_by(versions) == 5
    (root / "2" / "saved_model.pb").chmod(0o600)
    versions.refresh()
    assert tries == [2, 2]
    (root / "2" / "saved_model.pb").chmod(0o644)
    versions.refresh()
    assert (versions.current.number, answered_by(versions)) == (2, 6)


def test_a_version_that_failed_is_tried_again_later(tmp_path, monkeypatch, caplog):
    """After pauses that double, for what made it fail may not be its files."""
    root = tmp_path / "m"
    export(root, 5, versioned=True)
    versions = ModelVersions(root, 4)
    export(root, 6, versioned=True)
    failures = [MemoryError("none left")] * 9
    tries = loads_failing(monkeypatch, failures)
    now = [1000.0]
    monkeypatch.setattr(model_versions.time, "monotonic", lambda: now[0])
    times, start = [], now[0]
    while failures:
        before = len(tries)
        versions.refresh()
        if len(tries) > before:
            times.append(now[0] - start)
        now[0] += 5
    pauses = np.diff(times)
    assert pauses.tolist() == [10, 20, 40, 80, 160, 320, 600, 600]
    assert caplog.text.count("version 2 cannot be served: none left") == 1
    assert versions.states()[2] == ("END", "none left")
    now[0] += 600
    versions.refresh()
    assert (versions.current.number, answered_by(versions)) == (2, 6)
    # What it failed with is forgotten.
    assert versions.states()[2] == ("AVAILABLE", "") and not versions._failed


def test_states_show_no_folders(tmp_path, caplog):
    """The log does, which is not for clients."""
    root = tmp_path / "my models"
    export(root, 5, versioned=True)
    versions = ModelVersions(root, 4)
    path = export(root, 6, versioned=True)
    (root / "2" / "saved_model.pb").write_bytes(b"")
    versions.refresh()
    message = versions.states()[2][1]
    assert "The export '2' is truncated" in message and "saved_model.pb" in message
    assert str(tmp_path) not in message and "my models" not in message
    assert path in caplog.text


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("no /usr/lib/x.so: is it there?", "no x.so: is it there?"),
        ("file '/a/b c/d' (/e/f)", "file 'd' (f)"),
        ("see https://a.b/c/d, 1/2 or ./e/f", "see https://a.b/c/d, 1/2 or ./e/f"),
    ],
)
def test_messages_without_folders(message, expected):
    assert without_folders(message, "/a/b c") == expected


def test_damaged_files_of_the_version_that_answers_bring_no_older_one(tmp_path):
    """As when another model is copied over it, file by file."""
    root = tmp_path / "m"
    export(root, 5, versioned=True)
    export(root, 6, versioned=True)
    versions = ModelVersions(root, 4)
    whole = export(tmp_path / "elsewhere", 7)
    shutil.copytree(
        f"{whole}/assets.extra", root / "2" / "assets.extra", dirs_exist_ok=True
    )
    for errors in (1, 0):
        assert len(versions.refresh()) == errors
        assert (versions.current.number, answered_by(versions)) == (2, 6)
        assert versions.states() == {2: ("AVAILABLE", "")}
    shutil.copytree(whole, root / "2", dirs_exist_ok=True)
    versions.refresh()
    assert (versions.current.number, answered_by(versions)) == (2, 7)


def test_a_version_whose_first_run_fails_is_released(tmp_path, monkeypatch):
    export(tmp_path, 5, versioned=True)
    versions = ModelVersions(tmp_path, 4)
    released = []
    monkeypatch.setattr(
        SavedRetrieval, "release", lambda model: released.append(model.path)
    )

    def fail(version, max_batch):
        raise RequestError("no memory left", "INTERNAL")

    monkeypatch.setattr(ModelVersion, "warm_up", fail)
    path = export(tmp_path, 6, versioned=True)
    assert [str(error) for error in versions.refresh()] == ["no memory left"]
    assert released == [path]
    assert answered_by(versions) == 5


def test_the_watch_survives_what_goes_wrong(tmp_path, monkeypatch, caplog):
    export(tmp_path, 5, versioned=True)
    versions = ModelVersions(tmp_path, 4)
    refresh, calls = versions.refresh, []

    def fails_at_first():
        calls.append(None)
        if len(calls) == 1:
            raise OSError("the file system is away")
        return refresh()

    monkeypatch.setattr(versions, "refresh", fails_at_first)
    export(tmp_path, 6, versioned=True)
    versions.watch(0.05)
    until = time.monotonic() + 60
    while versions.current.number == 1 and time.monotonic() < until:
        time.sleep(0.05)
    versions.stop()
    assert answered_by(versions) == 6
    assert "looking for versions failed" in caplog.text


def test_nothing_to_serve(tmp_path):
    with pytest.raises(ValueError, match="which holds none. Export one"):
        ModelVersions(tmp_path, 4)
    export(tmp_path, 5, versioned=True)
    (tmp_path / "1" / "saved_model.pb").unlink()
    with pytest.raises(ValueError, match="lacks its file 'saved_model.pb'"):
        ModelVersions(tmp_path, 4)


@pytest.mark.parametrize("index_class", some_of(INDEXES, [ScaNN]))
def test_an_earlier_version_leaves_after_its_last_request(tmp_path, index_class):
    root = tmp_path / "m"
    export(root, 5, index_class=index_class, versioned=True)
    versions = ModelVersions(root, 4)
    held = versions.current
    gone = weakref.ref(held)
    export(root, 6, index_class=index_class, versioned=True)
    versions.refresh()
    assert answered_by(versions) == 6
    found = held.run("serving_default", INPUTS)["ids"][0, 0]
    assert found.startswith(b"5-")
    del held
    gc.collect()
    assert gone() is None
    assert answered_by(versions) == 6


@pytest.mark.scann
def test_what_scann_keeps_in_the_process_is_released(tmp_path):
    """The searcher is a resource of the process; loading alone would leave it there."""
    model = load_retrieval(export(tmp_path / "m", 5, num=3000, index_class=ScaNN))
    tensors = {name: tf.constant(value) for name, value in INPUTS.items()}
    serve = model.signatures["serving_default"]
    before = serve(**tensors)["ids"].numpy().tolist()
    model.release()
    model.release()
    assert serve(**tensors)["ids"].numpy().tolist() == before
    # Both make, or find, the resource by the same name.
    released = tf.saved_model.load(model.path).release
    names = [
        node.attr["shared_name"].s.rsplit(b"_load_")[0]
        for graph in (serve.graph.as_graph_def(), released.graph.as_graph_def())
        for nodes in (graph.node, *(f.node_def for f in graph.library.function))
        for node in nodes
        if node.op == "Scann>TensorsToScann"
    ]
    assert len(names) >= 2 and len(set(names)) == 1


@pytest.mark.slow(reason="large versions, one after the other")
@pytest.mark.parametrize("index_class", INDEXES)
def test_memory_does_not_grow_with_the_number_of_versions(tmp_path, index_class):
    root = tmp_path / "m"
    num = 100_000
    wholes = [
        export(tmp_path / str(seed), seed, num=num, index_class=index_class)
        for seed in (5, 6)
    ]
    shutil.copytree(wholes[0], root / "1")
    versions = ModelVersions(root, 4)
    process = psutil.Process()
    used = []
    for number in range(2, 32):
        shutil.copytree(wholes[number % 2], root / str(number))
        assert versions.refresh() == []
        shutil.rmtree(root / str(number - 1))
        used.append(process.memory_info().rss / 2**20)
    # The candidates alone have 3 MiB, and 20 more versions come and go.
    assert np.median(used[-5:]) - np.median(used[5:15]) < 15, used


@pytest.mark.parametrize("index_class", INDEXES)
def test_merged_requests_get_the_answers_they_get_alone(tmp_path, index_class):
    """Two signatures, several k and widths of exclusions, all at once."""
    export(tmp_path / "m", 5, num=3000, index_class=index_class)
    requests = []
    rng = np.random.default_rng(0)
    for place in range(60):
        rows, width = int(rng.integers(1, 4)), int(rng.integers(0, 3))
        inputs = {
            "user": np.array([b"u%d" % u for u in rng.integers(0, 100, rows)], object),
            "shift": normal(place, rows, 1),
            "k": np.array([3, 17][place % 2], np.int32),
        }
        signature = "serving_default"
        if place % 3 == 0:
            signature = "with_exclusions"
            ids = [b"5-%d" % n for n in rng.integers(0, 3000, rows * width)]
            inputs["exclusions"] = np.array(ids, object).reshape(rows, width)
        requests.append((signature, inputs))

    def answers(threads, together):
        service = Service(tmp_path / "m", limits=Limits(threads=threads))
        sizes = []
        version = service.versions.current
        run = version.run

        def count(signature, inputs):
            sizes.append(len(inputs["user"]))
            return run(signature, inputs)

        version.run = count

        async def ask():
            asked = [service.predict(version, *request) for request in requests]
            if together:
                return await asyncio.gather(*asked)
            return [await one for one in asked]

        try:
            return asyncio.run(ask()), sizes
        finally:
            service.close()

    alone, sizes = answers(1, together=False)
    assert len(sizes) == len(requests)
    merged, sizes = answers(1, together=True)
    exclusions = 20 if index_class is ScaNN else 3
    assert len(sizes) <= 1 + 2 + 2 * exclusions and max(sizes) > 20
    for one, other in zip(alone, merged, strict=True):
        assert one["ids"].tolist() == other["ids"].tolist()
        np.testing.assert_allclose(one["scores"], other["scores"], rtol=1e-5)
