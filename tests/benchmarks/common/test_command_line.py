"""The command line that scripts have alike."""

import os
import pathlib

from benchmarks.common import command_line


def parse(words, rows=pathlib.Path("rows.csv"), **smallest):
    parser = command_line.parser("What it does.", rows, data=True)
    parser.add_argument("--batch", type=int, default=8192)
    return command_line.parse(parser, words, **smallest)


def test_quick_takes_the_smallest_sizes_and_spares_the_rows():
    usual, quick = parse([], batch=64), parse(["--quick"], batch=64)
    assert (usual.batch, usual.output) == (8192, pathlib.Path("rows.csv"))
    assert quick.batch == 64
    assert quick.output.name == "rows.csv" and quick.output.parent.is_dir()
    assert quick.output.parent != pathlib.Path(".")


def test_what_is_given_goes_before_the_smallest_sizes(tmp_path):
    words = ["--quick", "--batch", "100", "--output", str(tmp_path / "mine.csv")]
    found = parse(words, batch=64)
    assert (found.batch, found.output) == (100, tmp_path / "mine.csv")


def test_data_is_told_to_processes_that_are_started(tmp_path, monkeypatch):
    monkeypatch.setenv("TFRS_NEGATIVES_DATA", "before")
    parse([])
    assert os.environ["TFRS_NEGATIVES_DATA"] == "before"
    monkeypatch.chdir(tmp_path.parent)
    parse(["--data", tmp_path.name])
    assert os.environ["TFRS_NEGATIVES_DATA"] == str(tmp_path)
