"""A query tower that is served, and shards behind servers of their own."""

import os
import shutil
import signal
import time

import numpy as np
import pytest
from served_models import Client, Process
from split_corpus import USERS_TABLE, Corpus, check, export_tower, parts_of

from tfrs_negatives.index import load_retrieval, shard_query
from tfrs_negatives.index.shards.shard import ShardError
from tfrs_negatives.serving import QueryToken, RemoteShard, Server

NUM, TOKEN = 40, "a-token-for-shards-0123"


@pytest.fixture(scope="module")
def corpus():
    return Corpus(1, NUM)


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    return export_tower(tmp_path_factory.mktemp("tower") / "tower")


@pytest.fixture(scope="module")
def parts():
    return parts_of(NUM, 2, np.random.default_rng(0))


@pytest.fixture(scope="module")
def folders(corpus, tower, parts, tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    return [corpus.export(root / str(n), tower, rows) for n, rows in enumerate(parts)]


@pytest.fixture
def started():
    """A function that starts a server, which ends with the test."""
    servers = []

    def start(path, **options):
        server = Server(path, port=0, grpc_port=0, poll_seconds=0.05, **options)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in reversed(servers):
        if server._thread.is_alive():
            server.stop()


def embeddings_name(tower):
    """What shards of a tower call the embeddings of queries."""
    return shard_query(tower)["query_signature"].name


def address(server):
    return f"127.0.0.1:{server.grpc_port}"


def ask(port, **inputs):
    client = Client(port)
    status, answer = client.predict({"inputs": inputs})
    client.close()
    assert status == 200, answer
    return answer["outputs"]


def test_a_front_answers_from_its_shards(started, corpus, tower, parts, folders):
    shards = [started(folder) for folder in folders]
    front = started(tower, shards=[address(shard) for shard in shards])
    client = Client(front.port)
    answer = ask(front.port, user=[3, 4], k=9, where=["price < 60", ""])
    check(answer, 0, corpus.best(USERS_TABLE[3], 9, 60))
    check(answer, 1, corpus.best(USERS_TABLE[4], 9))
    assert answer["missing_shards"] == [[], []]
    # In rows, and with a discount.
    row = {"user": 3, "popularity_discount": 1.0, "history": corpus.ids[:2].tolist()}
    status, rows = client.predict({"instances": [{**row, "k": 5}]})
    expected = corpus.best(USERS_TABLE[3], 5, None, corpus.ids[:2], 1.0)
    assert status == 200
    check({n: [value] for n, value in rows["predictions"][0].items()}, 0, expected)
    status, answer = client.predict({"inputs": {"user": [3], "where": ["price <"]}})
    assert status == 400 and "expected a number" in answer["error"]
    _, answer = client.get("/v1/models/retrieval/metadata")
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    outputs = signatures["serving_default"]["outputs"]
    assert outputs["missing_shards"]["dtype"] == "DT_INT64"
    # Without the first shard.
    shards[0].stop()
    for _ in range(5):
        answer = ask(front.port, user=[3, 4], k=NUM)
        assert answer["missing_shards"] == [[0], [0]]
        check(answer, 1, corpus.best(USERS_TABLE[4], NUM, rows=parts[1]))
    shards[1].stop()
    status, answer = client.predict({"inputs": {"user": [3]}})
    assert status == 503 and "None of the 2 shards answers" in answer["error"]
    client.close()


def test_replicas_stand_in_for_each_other(started, corpus, tower, folders):
    shards = [started(folder) for folder in [*folders, folders[0]]]
    names = [f"{address(shards[0])},{address(shards[2])}", address(shards[1])]
    model = load_retrieval(tower, shards=names, shard_seconds=20.0)
    serve = model.signatures["serving_default"]
    for gone in (None, 0):
        if gone is not None:
            shards[gone].stop()
        for _ in range(4):
            answer = serve(user=[3], k=9)
            check(answer, 0, corpus.best(USERS_TABLE[3], 9))
            assert answer["missing_shards"].shape == (1, 0)
    model.release()


def test_another_version_of_a_shard(started, corpus, tower, folders, tmp_path):
    """An error while there is only that one, and found where there is ours too."""
    other = export_tower(tmp_path / "other")
    versions = tmp_path / "versions"
    shutil.copytree(folders[0], versions / "1")
    shards = [started(versions), started(folders[1])]
    front = started(tower, shards=[address(shard) for shard in shards])
    expected = corpus.best(USERS_TABLE[3], 9)
    check(ask(front.port, user=[3], k=9), 0, expected)
    corpus.export(versions / "2", other, range(NUM))
    client = Client(front.port)
    deadline = time.monotonic() + 30
    while True:
        status, answer = client.predict({"inputs": {"user": [3], "k": 9}})
        if status != 200:
            break
        check(answer["outputs"], 0, expected)
        assert time.monotonic() < deadline
    assert status == 503 and "not one of this model" in answer["error"]
    assert address(shards[0]) in answer["error"] and "versions (2)" in answer["error"]
    shutil.copytree(folders[0], tmp_path / "new")
    (tmp_path / "new").rename(versions / "3")
    while (found := client.predict({"inputs": {"user": [3], "k": 9}}))[0] != 200:
        assert time.monotonic() < deadline, found
    check(found[1]["outputs"], 0, expected)
    client.close()


def test_a_version_that_is_replaced_while_it_is_described(
    started, tower, folders, tmp_path, monkeypatch
):
    """The server names version 1, and has version 2 alone when it is asked for 1."""
    versions = tmp_path / "versions"
    shutil.copytree(folders[0], versions / "1")
    server = started(versions)
    shard = RemoteShard(address(server)).open(embeddings_name(tower))
    (replica,) = shard._replicas
    describe, asked = replica._description, []

    def described(version, end):
        if not asked:
            shutil.copytree(folders[0], tmp_path / "new")
            (tmp_path / "new").rename(versions / "2")
            deadline = time.monotonic() + 30
            while replica._available(deadline) != [2]:
                assert time.monotonic() < deadline
        asked.append(version)
        return describe(version, end)

    monkeypatch.setattr(replica, "_description", described)
    shard.describe(60)
    assert asked == [1, 2]
    shard.close()


def test_a_model_that_a_server_does_not_have(started, tower, folders):
    server = started(folders[0])
    name = embeddings_name(tower)
    shard = RemoteShard(address(server), model="another").open(name)
    with pytest.raises(ShardError, match="another"):
        shard.describe(60)
    shard.close()


def test_a_token_of_the_shards(started, corpus, tower, folders):
    shards = [started(f, query_token=QueryToken(TOKEN)) for f in folders]
    names = [address(shard) for shard in shards]
    with pytest.raises(ValueError, match="UNAUTHENTICATED"):
        load_retrieval(tower, shards=names)
    given = [RemoteShard(name, token=TOKEN) for name in names]
    assert TOKEN not in repr(given)
    model = load_retrieval(tower, shards=given)
    answer = model.signatures["serving_default"](user=[3], k=9)
    check(answer, 0, corpus.best(USERS_TABLE[3], 9))
    model.release()


@pytest.mark.parametrize(
    "name", ["", "host", "host:x", "a:1,,b:2", "http://a:1", "a:1 b:2"]
)
def test_what_is_no_address(name):
    with pytest.raises(ValueError, match="Expected addresses of gRPC"):
        RemoteShard(name)


@pytest.mark.slow(reason="three servers in processes of their own")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_shard_that_is_killed_or_hangs(corpus, tower, parts, folders, tmp_path, how):
    shards = [Process(folder) for folder in folders]
    names = [f"127.0.0.1:{shard.grpc_port}" for shard in shards]
    options = [word for name in names for word in ("--shard", name)]
    front = Process(tower, *options, "--shard-seconds", "0.5")
    check(ask(front.port, user=[3], k=9), 0, corpus.best(USERS_TABLE[3], 9))
    if how == signal.SIGKILL:
        shards[0].end(how)
    else:
        os.kill(shards[0].pid, how)
    times = []
    for _ in range(20):
        start = time.monotonic()
        answer = ask(front.port, user=[3], k=NUM)
        times.append(time.monotonic() - start)
        check(answer, 0, corpus.best(USERS_TABLE[3], NUM, rows=parts[1]))
        assert answer["missing_shards"] == [[0]]
    # After three that were late it is asked once a second.
    assert sorted(times)[10] < 0.4
    if how == signal.SIGSTOP:
        os.kill(shards[0].pid, signal.SIGCONT)
    else:
        port = int(names[0].split(":")[1])
        shards[0] = Process(folders[0], grpc_port=port)
    deadline = time.monotonic() + 30
    while (answer := ask(front.port, user=[3], k=9))["missing_shards"] != [[]]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    check(answer, 0, corpus.best(USERS_TABLE[3], 9))
    code, log = front.end()
    assert code == 0 and "does not answer" in log and "answers again" in log
    for shard in shards:
        shard.end()
