"""Nothing acknowledged is lost when a writer is killed, and nothing is there twice."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import live_oracle
import numpy as np
import pytest
from live_writer import IDS, THREADS, WIDTH, columns

from tfrs_negatives.index import LiveIndex

WRITER = pathlib.Path(__file__).with_name("live_writer.py")


def killed_writer(path, notes, seed, seconds):
    """Lets a writer change the index for so long from its first note, and kills it."""
    process = subprocess.Popen(
        [sys.executable, WRITER, path, notes, str(seed)], stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not (notes.exists() and notes.stat().st_size):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "the writer has not begun"
        time.sleep(0.001)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    process.stderr.close()


def noted(notes):
    """By thread: the changes that were done, and the one that was not, or None."""
    done, asked = {t: [] for t in range(THREADS)}, dict.fromkeys(range(THREADS))
    for line in notes.read_text().splitlines():
        note = json.loads(line)
        thread = note["thread"]
        if "asks" in note:
            asked[thread] = note["asks"]
        else:
            assert asked[thread]["seed"] == note["done"]
            done[thread].append(asked[thread])
            asked[thread] = None
    return done, asked


def apply(items, change):
    """`items`, a dict by id, after a change."""
    if change["is_delete"]:
        return {each: v for each, v in items.items() if each not in change["ids"]}
    vectors, payload, attributes = columns(change)
    new = {
        each: (vectors[row].tolist(), payload["title"][row], attributes["seed"][row])
        for row, each in enumerate(change["ids"])
    }
    return {**items, **new}


def content(index):
    """All items of an index by id, as a search finds them."""
    if not len(index):
        return {}
    answer = index.search(np.eye(WIDTH), IDS)
    assert all(len(set(row)) == len(row) == len(index) for row in answer.ids.tolist())
    vectors = {each: [0.0] * WIDTH for each in answer.ids[0].tolist()}
    titles = {}
    for axis in range(WIDTH):
        for place, each in enumerate(answer.ids[axis].tolist()):
            vectors[each][axis] = float(answer.scores[axis, place])
            titles[each] = str(answer.payload["title"][axis, place])
    seeds = {each: int(title.split()[0]) for each, title in titles.items()}
    for each, seed in list(seeds.items())[:5]:
        found = index.search(np.eye(WIDTH)[:1], IDS, f"seed == {seed}").ids[0].tolist()
        assert sorted(found) == sorted(i for i, s in seeds.items() if s == seed)
        assert each in found
    return {each: (vectors[each], titles[each], seeds[each]) for each in vectors}


def test_nothing_acknowledged_is_lost(tmp_path, pytestconfig):
    number_of_kills = 200 if pytestconfig.getoption("--slow") else 6
    rng, path, items = random.Random(0), tmp_path / "index", {}
    first = {"seed": 7, "ids": list(range(IDS)), "is_delete": False}
    LiveIndex.create(path, first["ids"], *columns(first)).close()
    items = apply(items, first)
    total = 0
    for kill in range(number_of_kills):
        notes = tmp_path / f"notes {kill}"
        killed_writer(path, notes, kill, rng.random() ** 2 * 0.6)
        done, asked = noted(notes)
        with LiveIndex.open(path) as index:
            found = content(index)
            check_search(index, found, rng)
        for thread in range(THREADS):
            before = of_thread(items, thread)
            for change in done[thread]:
                before = apply(before, change)
            possible = [before]
            if asked[thread] is not None:
                # Not acknowledged: it is there whole, or not at all.
                possible.append(apply(before, asked[thread]))
            assert of_thread(found, thread) in possible, (kill, thread)
            total += len(done[thread])
        items = found
    assert total > 10 * number_of_kills


def of_thread(items, thread):
    return {each: v for each, v in items.items() if each % THREADS == thread}


def check_search(index, items, rng):
    oracle = live_oracle.Oracle()
    for each, (vector, title, _) in items.items():
        oracle.items[each] = {"vector": np.float64(vector), "title": title}
    queries = np.random.default_rng(rng.randrange(99)).normal(size=(2, WIDTH))
    live_oracle.check(index, oracle, np.float32(queries), 10)


@pytest.mark.slow(reason="a process of its own for one more look at the same")
def test_a_killed_writer_leaves_no_lock_and_no_rests(tmp_path):
    first = {"seed": 7, "ids": list(range(IDS)), "is_delete": False}
    LiveIndex.create(tmp_path / "index", first["ids"], *columns(first)).close()
    killed_writer(tmp_path / "index", tmp_path / "notes", 0, 0.5)
    LiveIndex.open(tmp_path / "index").close()
    names = sorted(path.name for path in (tmp_path / "index").iterdir())
    assert [name.partition("-")[0] for name in names if "log" not in name] == [
        "live_index.json",
        "snapshot",
        "writer.lock",
    ]
