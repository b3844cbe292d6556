"""A server that is killed while clients change its items loses nothing acknowledged."""

import concurrent.futures
import copy
import http.client
import random
import signal
import threading
import time

import filter_oracle
import numpy as np
import pytest
from live_models import TOKEN, WIDTH, Held, ItemsClient, export, items
from served_models import Client, Process, normal

from tfrs_negatives.index import load_retrieval

THREADS = 3
IDS = [f"é {n}" for n in range(60)]


class Changer:
    """Changes items of its own through a server until it is gone.

    Attributes:
      held: What the server has acknowledged.
      asked: The change that was not acknowledged, or None.
      count: How many were.
    """

    def __init__(self, thread, held):
        self.own, self.held = IDS[thread::THREADS], held
        self.asked, self.count = None, 0

    def run(self, port, seed):
        client, rng = ItemsClient(port), random.Random(seed)
        try:
            while True:
                chosen = rng.sample(self.own, rng.choice([1, 1, 4, 15]))
                kind = "delete" if rng.random() < 0.3 else "upsert"
                change = {"ids": chosen}
                if kind == "upsert":
                    change = items(rng.randrange(2**32), chosen)
                self.asked = kind, change
                status, answer = client.change(kind, change)
                assert status == 200, answer
                apply(self.held, kind, change)
                self.asked, self.count = None, self.count + 1
        except (OSError, http.client.HTTPException, ValueError):
            return  # The server is gone.
        finally:
            client.close()


def apply(held, kind, change):
    if kind == "upsert":
        held.upsert(change)
    for each in change["ids"] if kind == "delete" else ():
        held.items.pop(each, None)


def ask_until(gone, port):
    """Asks without a pause; returns how many answers came, all of them good."""
    client, count = Client(port), 0
    request = {"inputs": {"query": normal(0, 2, WIDTH).tolist(), "k": 5}}
    try:
        while not gone.is_set():
            status, answer = client.predict(request)
            assert status == 200, answer
            count += 1
    except (OSError, http.client.HTTPException, ValueError):
        assert gone.is_set(), "a query failed before the server was killed"
    finally:
        client.close()
    return count


def found_in(path, rng):
    """The items of an export by id: vector and title; filters answer as loops do."""
    model = load_retrieval(path)
    serve = model.signatures["serving_default"]
    answer = {n: v.numpy() for n, v in serve(query=np.eye(WIDTH), k=len(IDS)).items()}
    found = {}
    for axis in range(WIDTH):
        filled = np.isfinite(answer["scores"][axis])
        ids = [each.decode() for each in answer["ids"][axis][filled]]
        assert len(set(ids)) == len(ids) == len(model.items)
        for place, each in enumerate(ids):
            title = answer["title"][axis, place].decode()
            vector, _ = found.setdefault(each, ([0.0] * WIDTH, title))
            vector[axis] = float(answer["scores"][axis, place])
    node = filter_oracle.tree(rng, 2)
    text = filter_oracle.text(rng, node)
    passing = serve(query=np.eye(WIDTH)[:1], k=len(IDS), where=text)
    filled = np.isfinite(passing["scores"].numpy()[0])
    passing = {each.decode() for each in passing["ids"].numpy()[0][filled]}
    model.release()
    return found, node, passing


def plain(held):
    return {
        i: (item["vector"].tolist(), item["title"]) for i, item in held.items.items()
    }


def kill_once(path, token, held, rng, seconds):
    """Kills a server at some moment; returns what there is then, and counts."""
    server, gone = Process(path, "--admin-token-file", token), threading.Event()
    changers = []
    for thread in range(THREADS):
        own = Held()
        own.items = {i: v for i, v in held.items.items() if i in IDS[thread::THREADS]}
        changers.append(Changer(thread, own))
    with concurrent.futures.ThreadPoolExecutor(THREADS + 1) as threads:
        asking = threads.submit(ask_until, gone, server.port)
        running = [
            threads.submit(changer.run, server.port, rng.randrange(2**32))
            for changer in changers
        ]
        time.sleep(seconds)
        gone.set()
        code, _ = server.end(signal.SIGKILL)
        assert code == -signal.SIGKILL
        for each in running:
            each.result()
        answered = asking.result()
    found, node, passing = found_in(path, rng)
    after = Held()
    for changer in changers:
        possible = [changer.held]
        if changer.asked is not None:
            # Not acknowledged: it is there whole, or not at all.
            possible.append(copy.deepcopy(changer.held))
            apply(possible[1], *changer.asked)
        own = {i: v for i, v in found.items() if i in changer.own}
        matches = [each for each in possible if plain(each) == own]
        assert matches, (changer.asked, own)
        after.items |= matches[0].items
    expected = {i for i, v in after.items.items() if filter_oracle.passes(node, v)}
    assert passing == expected
    return after, sum(changer.count for changer in changers), answered


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(1, id="once"),
        pytest.param(
            60, id="many", marks=pytest.mark.slow(reason="sixty servers, killed")
        ),
    ],
)
def test_nothing_acknowledged_is_lost(tmp_path, kills):
    rng, held = random.Random(kills), Held()
    first = items(0, IDS)
    export(tmp_path / "m", first)
    held.upsert(first)
    (tmp_path / "token").write_text(TOKEN)
    changes = answers = 0
    for _ in range(kills):
        held, changed, answered = kill_once(
            tmp_path / "m", tmp_path / "token", held, rng, 0.05 + rng.random() ** 2
        )
        changes, answers = changes + changed, answers + answered
    assert changes > 5 * kills and answers > 5 * kills, (changes, answers)
