"""The package of a commit or of another checkout."""

import pathlib
import subprocess

import pytest

from benchmarks.common.checkouts import PACKAGE, package_of
from benchmarks.common.provenance import PROJECT, commit_of


def test_package_of_a_commit_stands_alone():
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True
    )
    if head.returncode:
        pytest.skip("needs the repository, to take a commit from")
    with package_of("HEAD") as (folder, name):
        assert head.stdout.startswith(name) and len(name) >= 7
        assert [path.name for path in pathlib.Path(folder).iterdir()] == [PACKAGE]
        version = pathlib.Path(folder, PACKAGE, "version.py")
        assert "__version__" in version.read_text()
    assert not pathlib.Path(folder).exists()


def test_package_of_a_folder_is_what_lies_there():
    with package_of(str(PROJECT)) as (folder, name):
        assert name == commit_of(PROJECT)
        assert [path.name for path in pathlib.Path(folder).iterdir()] == [PACKAGE]
        assert pathlib.Path(folder, PACKAGE).samefile(PROJECT / PACKAGE)
    assert (PROJECT / PACKAGE).is_dir()


def test_no_such_commit():
    with pytest.raises(SystemExit, match="no-such-commit"):
        with package_of("no-such-commit"):
            pass
