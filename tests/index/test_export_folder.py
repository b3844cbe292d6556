import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from index_oracles import as_list, best, normal

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


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize(
    "name", ["notes", "assets.extra/tf_serving_warmup_requests", "fingerprint.pb"]
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
    os.makedirs(folder)
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
