import random
import uuid

import numpy as np
import pytest

from tfrs_negatives.index.live import change_log
from tfrs_negatives.index.live.change_log import ChangeLog, LogReader, log_name
from tfrs_negatives.index.live.live_changes import Delete, Upsert

ID = uuid.UUID(int=7)


def upsert(seed):
    vectors = np.random.default_rng(seed).normal(size=(2, 3)).astype(np.float32)
    return Upsert([seed, -seed], vectors, {"title": ["a", "\ud800"]}, {"n": [0.1, 2.0]})


def same(first, second):
    if isinstance(first, Delete):
        return first == second
    return (
        first.ids == second.ids
        and np.array_equal(first.embeddings, second.embeddings)
        and (first.payload, first.attributes) == (second.payload, second.attributes)
    )


def written(folder):
    """A log of three frames, its path and where frames end."""
    log = ChangeLog.create(str(folder), ID, 5)
    path = folder / log_name(5)
    ends = [path.stat().st_size]
    for first, changes in (
        (5, [upsert(1)]),
        (6, [Delete(["a", "b"]), upsert(2)]),
        (8, [upsert(3)]),
    ):
        log.append(first, changes)
        ends.append(path.stat().st_size)
    log.close()
    return path, ends


def read(path):
    reader = LogReader(str(path), ID, 5)
    return reader, list(reader.read())


def test_changes_come_back(tmp_path):
    path, ends = written(tmp_path)
    reader, found = read(path)
    expected = [upsert(1), Delete(["a", "b"]), upsert(2), upsert(3)]
    assert [number for number, _ in found] == [5, 6, 7, 8]
    assert all(same(a, b) for (_, a), b in zip(found, expected, strict=True))
    assert (reader.end, reader.next) == (ends[-1], 9)
    log = ChangeLog(str(path), reader.end)
    log.append(9, [Delete([1])])
    assert list(reader.read()) == [(9, Delete([1]))]
    assert list(reader.read()) == []
    log.close()


def test_a_log_cut_anywhere_keeps_its_whole_frames(tmp_path):
    path, ends = written(tmp_path)
    data = path.read_bytes()
    counts = [0, 1, 3, 4]
    for size in range(ends[0], len(data) + 1):
        path.write_bytes(data[:size])
        whole = max(place for place, end in enumerate(ends) if end <= size)
        reader, found = read(path)
        assert len(found) == counts[whole] and reader.end == ends[whole]
    # What is behind is cut off before more is appended.
    path.write_bytes(data[: ends[2] + 9])
    reader, _ = read(path)
    ChangeLog(str(path), reader.end).close()
    assert path.stat().st_size == ends[2]


@pytest.mark.parametrize(
    "tail", [b"\0" * 300, b"\xf3TNf" * 99, random.Random(0).randbytes(300)]
)
def test_what_a_power_cut_leaves_at_the_end_is_dropped(tmp_path, tail):
    path, ends = written(tmp_path)
    path.write_bytes(path.read_bytes()[: ends[2]] + tail)
    reader, found = read(path)
    assert len(found) == 3 and reader.end == ends[2]


def test_every_damaged_byte_before_the_last_frame_is_an_error(tmp_path):
    path, ends = written(tmp_path)
    data = path.read_bytes()
    for place in range(ends[2]):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged|header of this index's log"):
            read(path)


def test_a_damaged_last_frame_is_dropped(tmp_path):
    path, ends = written(tmp_path)
    data = path.read_bytes()
    for place in range(ends[2], ends[3]):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        assert len(read(path)[1]) == 3


def test_a_log_of_another_index_is_an_error(tmp_path):
    path, _ = written(tmp_path)
    with pytest.raises(ValueError, match="of another index or of a later format"):
        LogReader(str(path), uuid.UUID(int=8), 5)
    with pytest.raises(ValueError, match="Restore the whole directory"):
        LogReader(str(path), ID, 6)


def test_a_write_that_fails_leaves_nothing_and_stops_the_log(tmp_path, monkeypatch):
    path, ends = written(tmp_path)
    log = ChangeLog(str(path), ends[-1])

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(change_log, "_sync", full)
    with pytest.raises(OSError, match="No space left"):
        log.append(9, [Delete([1])])
    monkeypatch.undo()
    assert path.stat().st_size == ends[-1]
    with pytest.raises(OSError, match="takes no more changes .* open it anew"):
        log.append(9, [Delete([1])])
    log.close()
