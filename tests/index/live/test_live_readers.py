"""Searches go on while items change, in other threads and other processes."""

import threading

import numpy as np
import pytest
from grids import some_of

from tfrs_negatives.index import LiveIndex

WIDTH, ITEMS = 4, 60


def vectors(number, size):
    """All of one change: a search must never see two of them at once."""
    return np.full([size, WIDTH], 1.0 + number, np.float32)


@pytest.mark.parametrize("approximate_from", some_of([None, 0], [0]))
def test_readers_see_one_moment(tmp_path, approximate_from, monkeypatch):
    from tfrs_negatives.index.live import approximate_rows, live_search

    if approximate_from == 0:
        monkeypatch.setattr(approximate_rows, "_FEWEST_ROWS", 20)
        monkeypatch.setattr(live_search, "_FEW_ROWS", 0)
        monkeypatch.setattr(live_search, "_WIDEST", 2.0)
    index = LiveIndex.create(
        tmp_path,
        range(ITEMS),
        vectors(0, ITEMS),
        {"number": [0] * ITEMS},
        {"parity": ["even"] * ITEMS},
        approximate_from=approximate_from,
        automatic=False,
    )
    stop, failures, searches = threading.Event(), [], []

    def read():
        last, count = 0, 0
        try:
            while not stop.is_set():
                answer = index.search(np.ones([1, WIDTH]), ITEMS)
                numbers = set(answer.payload["number"][0].tolist())
                assert len(numbers) == 1 and answer.ids.shape == (1, ITEMS)
                assert len(set(answer.ids[0].tolist())) == ITEMS
                (number,) = numbers
                assert number >= last  # Nor an earlier one again.
                assert answer.scores[0, 0] == WIDTH * (1.0 + number)
                last, count = number, count + 1
                some = index.search(np.ones([1, WIDTH]), 5, 'parity == "odd"')
                assert some.ids.shape[1] in (0, 5)
        except BaseException as error:
            failures.append(error)
        searches.append(count)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(1, 150):
        parity = ["odd" if number % 2 else "even"] * ITEMS
        index.upsert(
            range(ITEMS),
            vectors(number, ITEMS),
            {"number": [number] * ITEMS},
            {"parity": parity},
        )
        if number % 40 == 0:
            index.compact()
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures, failures[0]
    assert min(searches) > 0
    index.close()


def test_writers_of_many_threads_lose_nothing(tmp_path):
    index = LiveIndex.create(tmp_path, [-1], [[0.0]], rebuild_share=0.01)
    errors = []

    def write(thread):
        try:
            for step in range(60):
                ids = [thread * 10_000 + step * 10 + place for place in range(10)]
                assert index.upsert(ids, np.ones([10, 1])) == 10
                assert index.delete(ids[:3] + [-5]) == 3
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=[t]) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    expected = {-1} | {
        t * 10_000 + s * 10 + p
        for t in range(8)
        for s in range(60)
        for p in range(3, 10)
    }
    for _ in range(2):
        assert len(index) == len(expected)
        assert set(index.search([[1.0]], 10**6).ids[0].tolist()) == expected
        index.close()
        index = LiveIndex.open(tmp_path)
    index.close()


def test_a_reader_follows_a_writer(tmp_path):
    writer = LiveIndex.create(tmp_path, ["a"], [[1.0]], {"n": [0]}, {"c": ["x"]})
    reader = LiveIndex.open(tmp_path, read_only=True)

    def seen():
        answer = reader.search([[1.0]], 10)
        return answer.ids[0].tolist(), answer.payload["n"][0].tolist()

    assert seen() == (["a"], [0]) and reader.refresh() == 0
    writer.upsert(["b"], [[2.0]], {"n": [1]}, {"c": ["y"]})
    assert seen() == (["a"], [0])
    assert reader.refresh() == 1 and seen() == (["b", "a"], [1, 0])
    writer.delete(["a"])
    writer.compact()  # A snapshot that the reader has not read.
    writer.upsert(["c"], [[3.0]], {"n": [2]}, {"c": ["y"]})
    assert reader.refresh() == 2 and seen() == (["c", "b"], [2, 1])
    assert reader.search([[1.0]], 5, 'c == "y"').ids.shape == (1, 2)
    writer.compact()
    writer.compact()
    assert reader.refresh() == 0 and seen() == (["c", "b"], [2, 1])
    for call in (lambda: reader.delete(["b"]), reader.compact):
        with pytest.raises(ValueError, match="open for reading only"):
            call()
    with pytest.raises(ValueError, match="`refresh` is for an index that is open for"):
        writer.refresh()
    writer.close()
    reader.close()


def test_a_reader_sees_no_half_of_a_change(tmp_path):
    writer = LiveIndex.create(tmp_path, [1], [[1.0]])
    writer.upsert([2, 3], [[2.0], [3.0]])
    (log,) = tmp_path.glob("log-*")
    data = log.read_bytes()
    log.write_bytes(data[:-5])
    reader = LiveIndex.open(tmp_path, read_only=True)
    assert len(reader) == 1 and log.read_bytes() == data[:-5]
    log.write_bytes(data)
    assert reader.refresh() == 1 and len(reader) == 3
    reader.close()
    writer.close()


def test_a_reader_of_another_index_at_the_same_place_says_so(tmp_path):
    import shutil

    LiveIndex.create(tmp_path / "index", [1], [[1.0]]).close()
    reader = LiveIndex.open(tmp_path / "index", read_only=True)
    shutil.rmtree(tmp_path / "index")
    LiveIndex.create(tmp_path / "index", ["a"], [[1.0, 2.0]]).close()
    with pytest.raises(ValueError, match="holds another index"):
        reader.refresh()
    reader.close()
