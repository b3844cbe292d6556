"""A table that changes while it is read is a mistake that is told, never a part."""

import contextlib
import os

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfrs_negatives import audit
from tfrs_negatives.cli import audit_command, main
from tfrs_negatives.data import (
    interactions,
    stream_interactions,
    table_parts,
    text_parts,
)

CHANGED = "to stay as it is while it is read"


@pytest.fixture(params=["csv", "parquet"])
def path(request, tmp_path, monkeypatch):
    """A file of several parts."""
    monkeypatch.setattr(table_parts, "_PART", 500)
    monkeypatch.setattr(text_parts, "_BLOCK", 2**12)
    path = tmp_path / f"table.{request.param}"
    write(path)
    return path


def write(path, num_rows=3_000):
    frame = pd.DataFrame({"user": np.arange(num_rows) % 99, "item": range(num_rows)})
    if path.suffix == ".parquet":
        frame.to_parquet(path, row_group_size=700)
    else:
        frame.to_csv(path, index=False)


def replace(path):
    """Puts a table with other rows in its place."""
    other = path.with_name("other" + path.suffix)
    write(other, num_rows=2_900)
    os.replace(other, path)


def truncate(path):
    """Cuts the file off at the end of a row of text."""
    whole = path.read_bytes()[:9_000]
    path.write_bytes(whole[: whole.rfind(b"\n") + 1])


def append(path):
    with open(path, "ab") as file:
        file.write(b"1,1\n")


def write_again(path):
    """Leaves the size as it is."""
    status = os.stat(path)
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


CHANGES = [replace, truncate, append, write_again, os.remove]


@pytest.mark.parametrize("change", CHANGES)
def test_all_readers_refuse(path, monkeypatch, change):
    read = table_parts.TableParts._columns
    parts = []

    def read_and_change(self, position, num):
        found = read(self, position, num)
        parts.append(position)
        if len(parts) == 2:
            change(path)
        return found

    monkeypatch.setattr(table_parts.TableParts, "_columns", read_and_change)
    with pytest.raises(ValueError, match=CHANGED):
        interactions(path)
    assert len(parts) == 2
    parts.clear()
    write(path)
    with pytest.raises(ValueError, match=CHANGED):
        audit.read_table(path)
    parts.clear()
    write(path)
    with pytest.raises(tf.errors.InvalidArgumentError, match=CHANGED):
        list(stream_interactions(path, batch_size=100))


def test_a_stream_refuses_a_table_that_changed_between_epochs(path):
    dataset = stream_interactions(path)
    assert sum(len(batch["user"]) for batch in dataset) == 3_000
    replace(path)
    with pytest.raises(tf.errors.InvalidArgumentError, match=CHANGED):
        list(dataset)
    assert sum(len(b["user"]) for b in stream_interactions(path)) == 2_900


@pytest.mark.parametrize("change", [replace, truncate])
def test_the_audit_ends_with_2(path, tmp_path, monkeypatch, capsys, change):
    told = []

    def tell(num_rows):
        told.append(num_rows)
        if len(told) == 2:
            change(path)

    monkeypatch.setattr(
        audit_command, "rows_read", lambda verbose: contextlib.nullcontext(tell)
    )
    code = main(["audit", "--data", str(path), "--output", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert code == 2 and CHANGED in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists() and len(told) == 2
