import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from index_oracles import as_list, best, normal

from tfrs_negatives import _publish
from tfrs_negatives.index import BruteForce, export_retrieval

QUERIES = tf.constant(normal(0, 3, 4))
OLD, NEW = normal(1, 10, 4), normal(2, 10, 4)


def export(path, candidates, **options):
    return export_retrieval(
        path,
        tf.identity,
        BruteForce().index(candidates),
        query_signature=tf.TensorSpec([None, 4]),
        **options,
    )


def check_answers_from(path, candidates):
    serve = tf.saved_model.load(path).signatures["serving_default"]
    found = serve(query=QUERIES, k=tf.constant(4))["ids"]
    assert as_list(found) == best(QUERIES.numpy(), candidates, 4)[1]


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_parents_are_made_and_nothing_else_is_left(tmp_path, kind):
    export(kind(tmp_path / "a" / "b" / "m"), OLD)
    check_answers_from(tmp_path / "a" / "b" / "m", OLD)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["m"]
    assert (tmp_path / "a" / "b" / "m").stat().st_mode & 0o777 == (
        tmp_path / "a"
    ).stat().st_mode & 0o777


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "m").mkdir()
    export(tmp_path / "m", OLD)
    check_answers_from(tmp_path / "m", OLD)


def test_an_earlier_export_is_replaced_only_when_told(tmp_path):
    export(tmp_path / "m", OLD)
    with pytest.raises(ValueError, match="holds an earlier export. Pass overwrite"):
        export(tmp_path / "m", NEW)
    check_answers_from(tmp_path / "m", OLD)
    export(tmp_path / "m", NEW, overwrite=True)
    check_answers_from(tmp_path / "m", NEW)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_anything_else_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("1")
    with pytest.raises(ValueError, match="something other than an export"):
        export(tmp_path / "thesis", OLD, overwrite=overwrite)
    with pytest.raises(ValueError, match="is a file. Export to another path"):
        export(tmp_path / "thesis" / "chapter", OLD, overwrite=overwrite)
    assert (tmp_path / "thesis" / "chapter").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["thesis"]


@pytest.mark.parametrize(
    "name, when",
    grid(
        ["notes", "assets.extra/tf_serving_warmup_requests", "fingerprint.pb"],
        ["before", "meanwhile"],
    ),
)
def test_files_added_to_an_export_or_changed_are_kept(
    tmp_path, monkeypatch, name, when
):
    path = tmp_path / "m"
    export(path, OLD)
    if when == "before":
        (path / name).write_text("mine")
    else:
        while_saving(monkeypatch, lambda: (path / name).write_text("mine"))
    with pytest.raises(ValueError, match=f"since, '{name}', which are never replaced"):
        export(path, NEW, overwrite=True)
    assert (path / name).read_text() == "mine"
    check_answers_from(path, OLD)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_link_to_an_export_stays_a_link(tmp_path):
    export(tmp_path / "m", OLD)
    os.symlink(tmp_path / "m", tmp_path / "current")
    export(tmp_path / "current", NEW, overwrite=True)
    assert (tmp_path / "current").is_symlink()
    check_answers_from(tmp_path / "m", NEW)


def half_written(module, folder, **kwargs):
    with open(os.path.join(folder, "saved_model.pb"), "w") as file:
        file.write("half")
    raise OSError("No space left on device")


@pytest.mark.parametrize("failure", ["save", "rename"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_leaves_the_earlier_export_whole(
    tmp_path, monkeypatch, failure, exists
):
    if exists:
        export(tmp_path / "m", OLD)
    if failure == "save":
        monkeypatch.setattr(tf.saved_model, "save", half_written)
    else:
        rename = os.rename

        def refuse(source, target):
            if source.endswith(".new"):
                raise OSError("No space left on device")
            rename(source, target)

        monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="No space left"):
        export(tmp_path / "m", NEW, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["m"] * exists
    if exists:
        check_answers_from(tmp_path / "m", OLD)


def test_payload_of_a_large_corpus_is_not_in_the_graph(tmp_path):
    candidates = normal(3, 20_000, 4)
    export_retrieval(
        tmp_path / "m",
        tf.identity,
        BruteForce().index(candidates),
        query_signature=tf.TensorSpec([None, 4]),
        payload={"vector": np.repeat(candidates, 8, axis=1)},
    )
    # Graphs are limited to 2 GiB; variables are not.
    assert (tmp_path / "m" / "saved_model.pb").stat().st_size < 500_000


def test_versions_follow_one_another(tmp_path):
    root = tmp_path / "m"
    assert export(root, OLD, versioned=True) == str(root / "1")
    assert export(root, NEW, versioned=True) == str(root / "2")
    check_answers_from(root / "1", OLD)
    check_answers_from(root / "2", NEW)
    assert sorted(p.name for p in root.iterdir()) == ["1", "2"]
    with pytest.raises(ValueError, match="`versioned` writes a new version and repla"):
        export(root, NEW, versioned=True, overwrite=True)
    with pytest.raises(ValueError, match="is an export itself. Move it"):
        export(root / "1", NEW, versioned=True)


def while_saving(monkeypatch, event):
    """Lets something happen once, in the middle of the next export."""
    save = tf.saved_model.save

    def slow(*args, **kwargs):
        save(*args, **kwargs)
        monkeypatch.setattr(tf.saved_model, "save", save)
        event()

    monkeypatch.setattr(tf.saved_model, "save", slow)


def test_two_exports_at_a_time_are_two_versions(tmp_path, monkeypatch):
    root = tmp_path / "m"
    while_saving(monkeypatch, lambda: export(root, OLD, versioned=True))
    assert export(root, NEW, versioned=True) == str(root / "2")
    check_answers_from(root / "1", OLD)
    check_answers_from(root / "2", NEW)
    assert sorted(p.name for p in root.iterdir()) == ["1", "2"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_appears_while_an_export_is_written_is_kept(
    tmp_path, monkeypatch, overwrite
):
    def appear():
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "chapter").write_text("1")

    while_saving(monkeypatch, appear)
    with pytest.raises(ValueError, match="something other than an export"):
        export(tmp_path / "m", NEW, overwrite=overwrite)
    assert (tmp_path / "m" / "chapter").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_an_export_that_appears_is_replaced_only_when_told(tmp_path, monkeypatch):
    while_saving(monkeypatch, lambda: export(tmp_path / "m", OLD))
    with pytest.raises(ValueError, match="holds an earlier export. Pass overwrite"):
        export(tmp_path / "m", NEW)
    check_answers_from(tmp_path / "m", OLD)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


FULL_DISK = """
import resource, sys
import numpy as np, tensorflow as tf
from tfrs_negatives.index import BruteForce, export_retrieval
index = BruteForce().index(np.ones([100_000, 8], np.float32))
# A file that grows beyond this fails as it does on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    export_retrieval(
        sys.argv[1], tf.identity, index, overwrite=True,
        query_signature=tf.TensorSpec([None, 8]),
    )
except OSError as error:
    print(error)
else:
    sys.exit("no error")
"""


@pytest.mark.slow(reason="in a process of its own; errors raised by hand are fast")
def test_a_disk_that_is_full(tmp_path):
    """The operating system refuses to write, in the middle of the variables."""
    export(tmp_path / "m", OLD)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "m"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"The export to {str(tmp_path / 'm')!r} cannot be written (" in done.stdout
    assert "What was there is whole. Free space, or export to" in done.stdout
    check_answers_from(tmp_path / "m", OLD)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_folder_that_cannot_be_written():
    # Not `tmp_path`, whose parents are closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        export(os.path.join(folder, "m"), OLD)
        os.chmod(folder, 0o555)
        is_root = os.geteuid() == 0
        if is_root:  # Whom permissions do not stop.
            os.seteuid(65534)
        try:
            message = "cannot be written .*What was there is whole. Free space, or exp"
            with pytest.raises(OSError, match=message):
                export(os.path.join(folder, "m"), NEW, overwrite=True)
            with pytest.raises(OSError, match="cannot be written .*Nothing is there"):
                export(os.path.join(folder, "other"), NEW)
        finally:
            if is_root:
                os.seteuid(0)
            os.chmod(folder, 0o755)
        assert os.listdir(folder) == ["m"]
        check_answers_from(os.path.join(folder, "m"), OLD)


def killed_while_exporting(path, when):
    """Leaves what a process leaves that is killed then."""
    script = f"""
import os, signal, sys
sys.path[:0] = {sys.path!r}
import test_export_folder as tests
from tfrs_negatives import _publish
from tfrs_negatives.index import export_folder
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if {when!r} == "saving":
    export_folder._write_description = die
elif {when!r} == "finished":
    export_folder.publish = die
else:
    exchange = _publish.exchange
    _publish.exchange = lambda *paths: (exchange(*paths), die())
tests.export({str(path)!r}, tests.NEW, overwrite=True)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.slow(reason="kills a process; what a killed run of a command left is fast")
@pytest.mark.parametrize("when", ["saving", "finished", "exchanged"])
def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path, when):
    path = tmp_path / "m"
    export(path, OLD)
    # Named alike, and nobody's.
    for name in (".m.new", f".m.{'0' * 12}.{'0' * 32}.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes").write_text("mine")
    others = set(tmp_path.iterdir())
    killed_while_exporting(path, when)
    (left,) = set(tmp_path.iterdir()) - others
    assert left.name.startswith(".m.") and list(left.iterdir())
    check_answers_from(path, NEW if when == "exchanged" else OLD)
    export(tmp_path / "other", OLD)
    assert set(tmp_path.iterdir()) == others | {tmp_path / "other"}
    assert len(list(tmp_path.glob(".m*/notes"))) == 2


def test_what_another_export_is_writing_is_left(tmp_path, monkeypatch):
    inner = []

    def meanwhile():
        if not inner:
            inner.append(export(tmp_path / "other", NEW))

    while_saving(monkeypatch, meanwhile)
    export(tmp_path / "m", OLD)
    assert inner
    check_answers_from(tmp_path / "m", OLD)
    check_answers_from(tmp_path / "other", NEW)


def test_files_that_came_into_a_killed_export_are_kept(tmp_path):
    """What it had exchanged was an earlier export; somebody still writes there."""
    path = tmp_path / "m"
    export(path, OLD)
    with _publish.locked_folder(str(path)) as new:
        left = tmp_path / os.path.basename(new)
    shutil.copytree(path, left)
    (left / "notes").write_text("mine")
    export(tmp_path / "other", OLD)
    assert (left / "notes").read_text() == "mine"
    (left / "notes").unlink()
    export(tmp_path / "another", OLD)
    assert not left.exists()


def test_an_earlier_export_whose_name_cannot_be_given_back_is_kept(
    tmp_path, monkeypatch
):
    path = tmp_path / "m"
    export(path, OLD)
    exchange, calls = _publish.exchange, []

    def once(*paths):
        calls.append(paths)
        if len(calls) > 1:
            raise OSError("the disk is gone")
        exchange(*paths)
        (tmp_path / os.path.basename(paths[0]) / "notes").write_text("mine")

    monkeypatch.setattr(_publish, "exchange", once)
    with pytest.raises(OSError, match="the disk is gone"):
        export(path, NEW, overwrite=True)
    (kept,) = tmp_path.glob(".m.*.new")
    assert (kept / "notes").read_text() == "mine"
    check_answers_from(kept, OLD)
    check_answers_from(path, NEW)


def test_a_changed_description_is_not_replaced(tmp_path):
    """Nor what it names: it could name files elsewhere."""
    path = tmp_path / "m"
    export(path, OLD)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    marker = path / "assets.extra" / "tfrs_negatives.json"
    description = json.loads(marker.read_text())
    digest = hashlib.sha256(b"mine").hexdigest()
    description["files"]["../precious"] = {"bytes": 4, "sha256": digest}
    marker.write_text(json.dumps(description))
    with pytest.raises(ValueError, match="changed or damaged"):
        export(path, NEW, overwrite=True)
    assert precious.read_text() == "mine" and json.loads(marker.read_text())


def test_all_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    flushed, rename = [], os.rename
    fsync = os.fsync

    def note(file):
        flushed.append(os.fstat(file).st_ino)
        fsync(file)

    def check(source, target):
        for parent, folders, names in os.walk(source):
            for name in [*folders, *names, "."]:
                assert os.stat(os.path.join(parent, name)).st_ino in flushed
        flushed.clear()
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "rename", check)
    export(tmp_path / "m", OLD)
    # The name too.
    assert tmp_path.stat().st_ino in flushed
