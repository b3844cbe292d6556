"""The split of many workers is that of one machine."""

import collections

import pytest
from event_tables import bytes_of, events, rows_of, write_folder

from tfrs_negatives.audit.held_out import last_interactions
from tfrs_negatives.data import interactions
from tfrs_negatives.pipeline import (
    BeamEngine,
    heavy_users,
    order_by_request,
    shards,
    split_by_time,
)

pytestmark = pytest.mark.usefixtures("beam")

NAMES = ("user", "item", "request", "time")
COLUMNS = {"request": "request", "time": "time", "label": "label"}


def read(folder):
    table = interactions(folder, request="request", time="time")
    found = {name: getattr(table, name).tolist() for name in NAMES}
    return collections.Counter(rows_of(found, NAMES))


def last_rows(columns):
    """By loops: rows of the last fifth of each user's, and the others."""
    by_user = collections.defaultdict(list)
    for number, row in enumerate(rows_of(columns, NAMES)):
        if columns["label"][number] > 0:
            by_user[row[0]].append((row[3], number, row))
    training, held_out = collections.Counter(), collections.Counter()
    for rows in by_user.values():
        rows.sort()
        last = max(1, len(rows) // 5) if len(rows) > 1 else 0
        training.update(row for *_, row in rows[: len(rows) - last])
        held_out.update(row for *_, row in rows[len(rows) - last :])
    return training, held_out


@pytest.mark.parametrize("strings", [False, True])
@pytest.mark.parametrize("heavy_rows", [15, 10_000])
def test_split(tmp_path, heavy_rows, strings):
    columns = events(600, seed=1, strings=strings)
    path = write_folder(tmp_path / "in", columns)
    output = tmp_path / "out"
    split_by_time(path, output, columns=COLUMNS, shards=3, heavy_rows=heavy_rows)
    training, held_out = last_rows(columns)
    assert read(output / "training") == training
    assert read(output / "held_out") == held_out
    assert len(list(output.glob("*/*.parquet"))) == 6


@pytest.mark.parametrize("width", [6.0, -10.0])
def test_users_with_many_rows_are_sampled(tmp_path, monkeypatch, width):
    """If no bracket has the row that is looked for, all rows are taken."""
    monkeypatch.setattr(heavy_users, "_SAMPLE", 40)
    monkeypatch.setattr(heavy_users, "_WIDTH", width)
    calls = []
    first_rows = heavy_users._first_rows

    def find(*arguments):
        calls.append(arguments[-1])
        return first_rows(*arguments)

    monkeypatch.setattr(heavy_users, "_first_rows", find)
    columns = events(2_000, seed=2)
    path = write_folder(tmp_path / "in", columns)
    output = tmp_path / "out"
    split_by_time(path, output, columns=COLUMNS, shards=2, heavy_rows=200)
    training, held_out = last_rows(columns)
    assert read(output / "training") == training
    assert read(output / "held_out") == held_out
    assert len(calls) == (1 if width > 0 else 2)
    assert len(calls[0]) == 1


def test_order_of_the_input_where_there_are_no_times(tmp_path):
    columns = events(400, seed=3)
    path = write_folder(tmp_path / "in", columns)
    split_by_time(path, tmp_path / "out", heavy_rows=50)
    table = interactions(path)
    last = last_interactions(table.user, table.time)
    found = interactions(tmp_path / "out" / "held_out")
    wanted = zip(table.user[last].tolist(), table.item[last].tolist(), strict=True)
    rows = zip(found.user.tolist(), found.item.tolist(), strict=True)
    assert sorted(rows) == sorted(wanted)


@pytest.mark.slow(reason="starts processes; one is enough to say what they write")
def test_workers_write_the_same_bytes(tmp_path):
    path = write_folder(tmp_path / "in", events(2_000, seed=4, strings=True))
    for workers in (1, 2):
        engine = BeamEngine(workers=workers)
        output = tmp_path / f"{workers}"
        given = dict(columns=COLUMNS, shards=2, heavy_rows=100)
        split_by_time(path, output, engine=engine, **given)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")


@pytest.mark.parametrize("step", [split_by_time, order_by_request])
def test_rows_that_a_runner_loses_are_noticed_and_nothing_is_kept(
    tmp_path, monkeypatch, step
):
    """Shards that lack rows must not pass for whole ones when the step is repeated."""
    columns = events(600, seed=1)
    path = write_folder(tmp_path / "in", columns)
    output = tmp_path / "out"
    sent = shards._sent

    def lossy(batch, *arguments):
        return list(sent(batch, *arguments))[1:]

    with monkeypatch.context() as patched:
        patched.setattr(shards, "_sent", lossy)
        with pytest.raises(ValueError, match="Expected .* rows in what was written"):
            step(path, output, columns=COLUMNS, shards=3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]
    step(path, output, columns=COLUMNS, shards=3)
    other = tmp_path / "other"
    step(path, other, columns=COLUMNS, shards=3)
    assert bytes_of(output) == bytes_of(other)
