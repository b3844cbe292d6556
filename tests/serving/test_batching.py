"""When requests are merged, and that nobody notices."""

import asyncio
import threading

import numpy as np
import pytest
import served_models  # noqa: F401

from tfrs_negatives.serving.batching import Batcher
from tfrs_negatives.serving.request_error import RequestError
from tfrs_negatives.serving.server_limits import Limits


class Model:
    """Adds a constant; holds the first batch until it is told to go on."""

    def __init__(self, held=0):
        self.batches = []
        self.gate = threading.Event()
        self._held = held
        self._lock = threading.Lock()

    def __call__(self, inputs):
        with self._lock:
            self.batches.append(inputs["x"].tolist())
            hold = len(self.batches) <= self._held
        if hold:
            assert self.gate.wait(60)
        if (inputs["x"] < 0).any():
            raise RequestError("negative")
        return {"y": inputs["x"] + inputs["add"], "z": inputs["x"][:, None]}


def inputs(*values, add=1):
    return {"x": np.array(values), "add": np.array(add)}


async def ask(batcher, model, *values, add=1, kind=None):
    kind = add if kind is None else kind
    return await batcher.submit(model, inputs(*values, add=add), len(values), kind)


async def settle():
    for _ in range(20):
        await asyncio.sleep(0.005)


def run(work, **limits):
    async def whole():
        batcher = Batcher(Limits(threads=1, **limits))
        try:
            return await work(batcher)
        finally:
            batcher.close()

    return asyncio.run(whole())


def test_requests_that_wait_are_merged_and_split():
    model = Model(held=1)

    async def work(batcher):
        first = asyncio.create_task(ask(batcher, model, 0))
        await settle()
        rest = [asyncio.create_task(ask(batcher, model, *v)) for v in ((1, 2), (3,))]
        other = asyncio.create_task(ask(batcher, model, 4, add=10))
        last = asyncio.create_task(ask(batcher, model, 5))
        await settle()
        model.gate.set()
        return await asyncio.gather(first, *rest, other, last)

    answers = run(work)
    assert model.batches == [[0], [1, 2, 3, 5], [4]]
    assert [a["y"].tolist() for a in answers] == [[1], [2, 3], [4], [14], [6]]
    assert [a["z"].shape for a in answers] == [(1, 1), (2, 1), (1, 1), (1, 1), (1, 1)]


def test_batches_are_no_larger_than_allowed():
    model = Model(held=1)

    async def work(batcher):
        tasks = [asyncio.create_task(ask(batcher, model, 0))]
        await settle()
        for size in (3, 2, 4, 1):
            tasks.append(asyncio.create_task(ask(batcher, model, *range(size))))
        await settle()
        model.gate.set()
        return await asyncio.gather(*tasks)

    answers = run(work, max_batch=5)
    assert [len(b) for b in model.batches] == [1, 5, 5]
    assert [len(a["y"]) for a in answers] == [1, 3, 2, 4, 1]


def test_without_a_kind_a_request_runs_alone():
    model = Model(held=1)

    async def work(batcher):
        tasks = [asyncio.create_task(ask(batcher, model, 0))]
        await settle()
        for value in (1, 2):
            asked = batcher.submit(model, inputs(value), 1, None)
            tasks.append(asyncio.create_task(asked))
        await settle()
        model.gate.set()
        await asyncio.gather(*tasks)

    run(work)
    assert model.batches == [[0], [1], [2]]


def test_one_bad_request_fails_no_other():
    model = Model(held=1)

    async def work(batcher):
        tasks = [asyncio.create_task(ask(batcher, model, 0))]
        await settle()
        tasks += [asyncio.create_task(ask(batcher, model, v)) for v in (1, -1, 2)]
        await settle()
        model.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = run(work)
    assert isinstance(answers[2], RequestError)
    assert [answers[n]["y"].tolist() for n in (0, 1, 3)] == [[1], [2], [3]]


def test_waiting_for_others():
    model = Model()

    async def work(batcher):
        first = asyncio.create_task(ask(batcher, model, 1))
        await settle()
        assert not model.batches
        second = asyncio.create_task(ask(batcher, model, 2))
        await asyncio.gather(first, second)
        assert model.batches == [[1, 2]]
        # A full batch does not wait.
        await asyncio.wait_for(ask(batcher, model, *range(8)), 0.3)

    run(work, max_wait_ms=500, max_batch=8)


def test_too_many_wait():
    model = Model(held=1)

    async def work(batcher):
        tasks = [asyncio.create_task(ask(batcher, model, 0))]
        await settle()
        tasks += [asyncio.create_task(ask(batcher, model, v)) for v in (1, 2)]
        await settle()
        with pytest.raises(RequestError, match="2 requests wait already") as caught:
            await ask(batcher, model, 3)
        assert caught.value.code == "UNAVAILABLE"
        model.gate.set()
        await asyncio.gather(*tasks)
        # And then they do not.
        return await ask(batcher, model, 3)

    assert run(work, max_waiting=2)["y"].tolist() == [4]


def test_clients_that_went_away_cost_nothing():
    model = Model(held=1)

    async def work(batcher):
        first = asyncio.create_task(ask(batcher, model, 0))
        await settle()
        gone = asyncio.create_task(ask(batcher, model, 1))
        stays = asyncio.create_task(ask(batcher, model, 2))
        await settle()
        gone.cancel()
        first.cancel()
        await settle()
        model.gate.set()
        assert (await stays)["y"].tolist() == [3]

    run(work)
    assert model.batches == [[0], [2]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_batch", 0),
        ("max_waiting", 0),
        ("max_answers", 0),
        ("max_request_bytes", 0),
        ("max_wait_ms", -1),
        ("threads", 0),
    ],
)
def test_limits_are_checked(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*received {value}"):
        Limits(**{name: value})
