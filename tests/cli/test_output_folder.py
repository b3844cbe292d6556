"""Output appears whole or not at all, and replaces only earlier output."""

import json
import os

import pytest

from tfrs_negatives.cli.output_folder import COMMAND, FIGURES, OutputFolder


def write(folder, text):
    with open(os.path.join(folder, FIGURES), "w") as file:
        json.dump({"command": COMMAND, "text": text}, file)


def everything(path):
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*"))


@pytest.mark.parametrize("name", ["new", "deep/er/new"])
def test_appears_at_the_end(tmp_path, name):
    with OutputFolder(tmp_path / name) as folder:
        write(folder, "one")
        assert not (tmp_path / name.split("/")[0]).exists()
    assert json.loads((tmp_path / name / FIGURES).read_text())["text"] == "one"
    assert not [p for p in everything(tmp_path) if p.startswith(".")]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_when_it_fails(tmp_path, error):
    with pytest.raises(error):
        with OutputFolder(tmp_path / "deep" / "new") as folder:
            write(folder, "one")
            raise error
    assert everything(tmp_path) == []


def test_replaces_an_earlier_output_whole(tmp_path):
    with OutputFolder(tmp_path / "out") as folder:
        write(folder, "one")
        open(os.path.join(folder, "extra"), "w").close()
    with OutputFolder(tmp_path / "out") as folder:
        write(folder, "two")
    assert everything(tmp_path) == ["out", f"out/{FIGURES}"]
    assert json.loads((tmp_path / "out" / FIGURES).read_text())["text"] == "two"


def test_an_earlier_output_survives_a_failure(tmp_path):
    with OutputFolder(tmp_path / "out") as folder:
        write(folder, "one")
    with pytest.raises(ZeroDivisionError):
        with OutputFolder(tmp_path / "out"):
            raise ZeroDivisionError
    assert json.loads((tmp_path / "out" / FIGURES).read_text())["text"] == "one"
    assert everything(tmp_path) == ["out", f"out/{FIGURES}"]


def test_an_earlier_output_survives_a_failing_rename(tmp_path, monkeypatch):
    with OutputFolder(tmp_path / "out") as folder:
        write(folder, "one")
    rename = os.rename

    def failing(source, target):
        if str(source).endswith(".new"):
            raise OSError("no space left")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="no space"):
        with OutputFolder(tmp_path / "out") as folder:
            write(folder, "two")
    assert json.loads((tmp_path / "out" / FIGURES).read_text())["text"] == "one"
    assert everything(tmp_path) == ["out", f"out/{FIGURES}"]


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "out").mkdir()
    with OutputFolder(tmp_path / "out") as folder:
        write(folder, "one")
    assert everything(tmp_path) == ["out", f"out/{FIGURES}"]


@pytest.mark.parametrize("content", ["{}", "[]", "not json", '{"command": "other"}'])
def test_anything_else_is_never_touched(tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / FIGURES).write_text(content)
    with pytest.raises(ValueError, match="something else"):
        OutputFolder(tmp_path / "out")
    assert (tmp_path / "out" / FIGURES).read_text() == content


def test_a_file_is_never_touched(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(ValueError, match="which is a file"):
        OutputFolder(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match="can be written"):
        OutputFolder(tmp_path / "out")
