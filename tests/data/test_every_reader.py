"""Every entry point finds the same rows in a file, or the same mistake."""

import re

import numpy as np
import odd_files
import pytest
import tensorflow as tf

from tfrs_negatives import audit
from tfrs_negatives._ids import as_int64
from tfrs_negatives.cli import main, train_command
from tfrs_negatives.cli.command_error import CommandError
from tfrs_negatives.data import interactions, stream_interactions
from tfrs_negatives.recommender import time_split

ROLES = ("user", "item", "request", "time", "label", "title")


def rows_of(table, named):
    """Rows of `Interactions`."""
    columns = [getattr(table, role) for role in ROLES if role in _roles(named)]
    return [_row(row, named) for row in zip(*map(list, columns), strict=True)]


def rows_of_stream(dataset, named):
    """Rows of a stream whose label is above 0."""
    found = []
    for batch in dataset.as_numpy_iterator():
        columns = [batch[role].tolist() for role in ROLES if role in _roles(named)]
        kept = batch["label"] > 0 if "label" in named else [True] * len(columns[0])
        rows = zip(kept, *columns, strict=True)
        found += [_row(row, named) for keep, *row in rows if keep]
    return found


def rows_of_windows(rows, named):
    """Rows of `InteractionRows`, without labels, which they do not keep."""
    (window,) = rows.windows()
    columns = {
        "user": rows.users.ids[window.user],
        "item": rows.items.ids[window.item],
        "time": window.time,
    }
    if "request" in named:
        columns["request"] = rows.requests.ids[window.request]
    if "title" in named:
        columns["title"] = rows.titles.ids[window.title]
    named = set(named) - {"label"}
    columns = [columns[role].tolist() for role in ROLES if role in _roles(named)]
    return [_row(row, named) for row in zip(*columns, strict=True)]


def without_label(rows, named):
    if "label" not in named:
        return rows
    roles = [role for role in ROLES if role in _roles(named)]
    place = roles.index("label")
    return [row[:place] + row[place + 1 :] for row in rows]


def _roles(named):
    return {"user", "item", *named}


def _row(values, named):
    roles = [role for role in ROLES if role in _roles(named)]
    return tuple(
        float(value) if role in ("time", "label") else _text(value)
        for role, value in zip(roles, values, strict=True)
    )


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def outcome(function):
    """Rows, or the one line of the error."""
    try:
        return function()
    except tf.errors.InvalidArgumentError as error:
        return re.search(r"ValueError: (.*)", str(error)).group(1)
    except (ValueError, CommandError) as error:
        return str(error)


def check_audit(table, expected, named):
    """That an `AuditTable` has the expected rows."""
    roles = [role for role in ROLES if role in _roles(named)]
    columns = dict(zip(roles, zip(*expected, strict=True), strict=True))
    for role in ("user", "item"):
        ids = getattr(table, f"{role}_ids")[getattr(table, role)]
        if role in table.hashed:
            wanted = as_int64("ids", tf.constant(columns[role])).numpy()
        else:
            wanted = np.array(list(map(int, columns[role])))
        np.testing.assert_array_equal(ids, wanted)
    if "request" in named:
        same = table.request[:, None] == table.request
        wanted = np.array(columns["request"])
        np.testing.assert_array_equal(same, wanted[:, None] == wanted)
    if "time" in named and table.time is not None:  # Kept for models alone.
        np.testing.assert_array_equal(table.time, columns["time"])


@pytest.mark.parametrize("case", odd_files.FILES)
def test_same_rows_or_the_same_mistake(tmp_path, monkeypatch, capsys, case):
    odd = odd_files.FILES[case]
    path, named = odd.write(tmp_path), odd.named
    in_audit = {role: name for role, name in named.items() if role != "title"}
    taken = {}

    def take(table, *_, **__):
        taken["table"] = table
        raise CommandError("taken")

    read_rows = time_split.read_rows

    def take_rows(*arguments):
        take(rows_of_windows(read_rows(*arguments), named))

    monkeypatch.setattr(time_split, "read_rows", take_rows)
    monkeypatch.setattr(train_command, "_check_environment", lambda: None)
    monkeypatch.setattr(audit, "measure", take)

    def command(name, arguments):
        """What a command reads, or the mistake it tells."""
        taken.clear()
        flags = [part for r, n in arguments.items() for part in (f"--{r}", n)]
        output = ["--output", str(tmp_path / "out"), "--verbose", "0"]
        capsys.readouterr()
        assert main([name, "--data", str(path), *flags, *output]) == 2
        printed = capsys.readouterr().err
        assert len(printed.splitlines()) == 1
        return taken.get("table", printed.removeprefix("tfrs-negatives: error: "))

    found = outcome(lambda: rows_of(interactions(path, **named), named))
    if isinstance(odd.expected, list):
        assert found == odd.expected
        stream = stream_interactions(path, batch_size=3, **named)
        assert rows_of_stream(stream, named) == odd.expected
        assert command("train", named) == without_label(odd.expected, named)
        table = audit.read_table(path, for_model=True, **in_audit)
        check_audit(table, odd.expected, named)
        check_audit(command("audit", in_audit), odd.expected, named)
        return
    assert re.search(odd.expected, found) and "\n" not in found
    if "title" not in named:
        assert outcome(lambda: audit.read_table(path, **in_audit)) == found
        assert command("audit", in_audit) == " ".join(found.split()) + "\n"
    assert command("train", named) == " ".join(found.split()) + "\n"
    if odd.streams:
        told = outcome(lambda: list(stream_interactions(path, **named)))
        if odd.told_in_stream:
            assert re.search(odd.told_in_stream, told)
        else:
            assert told == found
