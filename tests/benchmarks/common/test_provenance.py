"""Where figures come from."""

import subprocess

import numpy as np

from benchmarks.common.provenance import FIELDS, PROJECT, commit_of, provenance


def test_rows_say_device_versions_and_commit():
    found = provenance(["numpy", "no-such-package"])
    assert list(found) == FIELDS == ["device", "versions", "commit"]
    assert found["versions"] == f"numpy {np.__version__}"
    assert found["device"].rpartition(", ")[2].endswith("cores")
    assert found["commit"] == commit_of(PROJECT)


def test_commit_says_whether_python_files_have_changed(tmp_path):
    def git(*words):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        found = subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return found.stdout.strip()

    git("init", "-q")
    for name in ("code.py", "notes.md"):
        (tmp_path / name).write_text("1\n")
    git("add", ".")
    git("commit", "-qm", "First")
    head = git("rev-parse", "--short", "HEAD")
    assert commit_of(tmp_path) == head
    (tmp_path / "notes.md").write_text("2\n")
    (tmp_path / "new.py").write_text("2\n")
    assert commit_of(tmp_path) == head
    (tmp_path / "code.py").write_text("2\n")
    assert commit_of(tmp_path) == f"{head}+"


def test_no_commit_where_there_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) == ""
