"""Shards that fail, are late, or become others: the rest answer, and say so."""

import threading
import time

import numpy as np
import pytest

from tfrs_negatives.index.shards.merged_answers import merged
from tfrs_negatives.index.shards.shard import ShardDescription, ShardError
from tfrs_negatives.index.shards.shard_search import ShardSearch

LIKE = ShardDescription(4, {"ids": ("int64", 2), "scores": ("float32", 2)}, {})


class Fake:
    """A shard of one item, that does what it is told.

    Attributes:
      mood: What is raised when it is asked, or a number of seconds that it takes.
      asked: How often it was.
    """

    def __init__(self, item, mood=0.0, like=LIKE):
        self.name, self.mood, self.like = f"fake {item}", mood, like
        self._item, self.asked, self.is_closed = item, 0, False

    def open(self, name):
        assert name == "embeddings_x"
        return self

    def _do(self):
        if isinstance(self.mood, Exception):
            raise self.mood
        time.sleep(self.mood)

    def describe(self, seconds):
        self._do()
        return self.like

    def ask(self, signature, inputs, seconds):
        self.asked += 1
        self._do()
        ids = np.array([[self._item, -1]])
        scores = np.array([[self._item, -np.inf]], np.float32)
        return {"ids": ids, "scores": scores}

    def close(self):
        self.is_closed = True


def search(fakes, seconds=5.0):
    return ShardSearch(fakes, "embeddings_x", seconds)


def found(searched, k=2):
    answer, missing = searched.search("serving_default", {"k": np.int32(k)})
    return answer["ids"][0].tolist(), missing


def test_the_rest_answer():
    fakes = [Fake(1), Fake(2), Fake(3)]
    searched = search(fakes)
    assert found(searched) == ([3, 2], [])
    fakes[2].mood = ConnectionError("gone")
    assert found(searched) == ([2, 1], [2])
    fakes[0].mood = TimeoutError("late")
    assert found(searched) == ([2, -1], [0, 2])
    assert searched.num_silent == 2
    fakes[0].mood = fakes[2].mood = 0.0
    assert found(searched) == ([3, 2], [])
    assert searched.num_silent == 0
    for fake in fakes:
        fake.mood = ConnectionError("gone")
    with pytest.raises(ConnectionError, match="None of the 3 shards answers .gone"):
        found(searched)
    searched.close()
    assert all(fake.is_closed for fake in fakes)


def test_one_that_is_late_is_not_waited_for():
    fakes = [Fake(1), Fake(2)]
    searched, blocked = search(fakes, 0.2), threading.Event()
    fakes[1].ask = lambda *_: blocked.wait(30)
    start = time.monotonic()
    assert found(searched) == ([1, -1], [1])
    assert time.monotonic() - start < 10
    blocked.set()
    searched.close()


def test_one_that_keeps_silent_is_left_alone_for_a_while(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    fakes = [Fake(1), Fake(2)]
    searched = search(fakes)
    fakes[1].mood = TimeoutError("late")
    for _ in range(10):
        assert found(searched) == ([1, -1], [1])
    assert fakes[1].asked == 3 and fakes[0].asked == 10
    now[0] += 1.5
    assert found(searched)[1] == [1] and fakes[1].asked == 4
    fakes[1].mood = 0.0
    assert found(searched)[1] == [1] and fakes[1].asked == 4
    now[0] += 1.5
    assert found(searched) == ([2, 1], [])
    searched.close()


def test_one_that_cannot_be_reached_at_first_is_found_when_it_is_there():
    fakes = [Fake(1), Fake(2, ConnectionError("not yet")), Fake(3)]
    searched = search(fakes)
    assert found(searched) == ([3, 1], [1])
    fakes[1].mood = 0.0
    assert found(searched) == ([3, 2], [])
    searched.close()


def test_one_that_is_not_like_the_others_when_it_is_there_is_an_error():
    other = ShardDescription(5, LIKE.outputs, {})
    fakes = [Fake(1), Fake(2, ConnectionError("not yet"), other)]
    searched = search(fakes)
    fakes[1].mood = 0.0
    with pytest.raises(ShardError, match="fake 2 is not one of this model: its width"):
        found(searched)
    searched.close()


def test_one_of_another_model_is_an_error():
    fakes = [Fake(1), Fake(2)]
    with pytest.raises(ValueError, match="fake 2 is not one of this model: a stranger"):
        search([fakes[0], Fake(2, ShardError("a stranger"))])
    assert fakes[0].is_closed
    searched = search(fakes)
    fakes[1].mood = ShardError("a stranger")
    with pytest.raises(ShardError, match="fake 2 is not one of this model: a stranger"):
        found(searched)
    fakes[1].mood = ValueError("no filter")
    with pytest.raises(ValueError, match="^no filter$"):
        found(searched)
    searched.close()


@pytest.mark.parametrize(
    ("fakes", "seconds", "error", "message"),
    [
        ([], 1.0, ValueError, "at least one shard"),
        ([Fake(1), Fake(1)], 1.0, ValueError, "fake 1 twice"),
        ([Fake(1)], 0.0, ValueError, "above 0"),
        ([Fake(1, OSError("gone"))], 1.0, ConnectionError, "fake 1: gone"),
    ],
)
def test_what_cannot_be_searched(fakes, seconds, error, message):
    with pytest.raises(error, match=message):
        search(fakes, seconds)


def test_equal_scores_come_in_the_order_of_shards():
    parts = [
        {
            "ids": np.array([[n, 10 + n], [n, 10 + n]]),
            "scores": np.float32([[1, 0], [5 - n, -np.inf]]),
            "image": np.full([2, 2, 3], n),
        }
        for n in range(3)
    ]
    whole = merged(parts, 4)
    assert whole["ids"].tolist() == [[0, 1, 2, 10], [0, 1, 2, 10]]
    assert whole["scores"].tolist() == [[1, 1, 1, 0], [5, 4, 3, -np.inf]]
    assert whole["image"][:, :, 0].tolist() == [[0, 1, 2, 0], [0, 1, 2, 0]]
