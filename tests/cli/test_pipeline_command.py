"""`tfrs-negatives pipeline`."""

import json
import sys

import pytest

from tfrs_negatives.cli import arguments, main
from tfrs_negatives.cli.command_error import CommandError
from tfrs_negatives.cli.output_lock import OutputLock

LOG = "who,what,when\nann,3,20\nbob,4,10\nann,5,30\nann,3,40\nbob,3,7\n"
EMBED = ["pipeline", "embed", "--input", "a", "--output", "b", "--id", "sku"]
EMBED += ["--model", "m"]
COLUMNS = ["--user", "who", "--item", "what", "--time", "when"]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


def run(step, log, output, *more):
    paths = ["--input", str(log), "--output", str(output)]
    return main(["pipeline", step, *paths, *COLUMNS, *more])


def test_arguments():
    given = ["pipeline", "order", "--input", "a", "--output", "b", "--shards", "3"]
    options = arguments.parse(
        [
            *given,
            "--runner",
            "FlinkRunner",
            "--runner-options",
            "--flink_master=x",
            "--parallelism=4",
        ]
    )
    assert options.runner_options == ["--flink_master=x", "--parallelism=4"]
    assert (options.shards, options.order, options.workers) == (3, "grouped", 1)
    from tfrs_negatives.pipeline.shards import SHARD_ROWS

    assert options.heavy_rows == SHARD_ROWS
    from tfrs_negatives.audit.measure import BATCH_SIZES

    options = arguments.parse(["pipeline", "audit", *given[2:6]])
    assert tuple(options.batch_sizes) == BATCH_SIZES
    for wrong in (
        ["pipeline"],
        ["pipeline", "sort", *given[2:]],
        given[:4],
        [*given, "--workers", "0"],
        ["pipeline", "count", *given[2:6], "--role", "title"],
        ["pipeline", "count", *given[2:6], "--heavy-rows", "3"],
        ["pipeline", "embed", *given[2:6], "--id", "sku"],
        [*EMBED, "--feature", "price"],
        [*EMBED, "--user", "who"],
        ["pipeline", "mine", *given[4:6], "--queries", "q", "--items", "i"],
        ["pipeline", "recall", *given[2:6], "--queries", "q"],
    ):
        with pytest.raises(CommandError):
            arguments.parse(wrong)


def test_every_option_is_in_the_help(capsys):
    events = ["--input", "a", "--output", "b"]
    asked = {step: events for step in ("count", "order", "split", "audit")}
    both = ["--queries", "q", "--items", "i"]
    asked |= {"embed": EMBED[2:], "recall": [*events, *both]}
    asked |= {"mine": [*events[2:], *both, "--negatives", "5"]}
    for step, needed in asked.items():
        given = ["pipeline", step, *needed]
        assert main(["pipeline", step, "--help"]) == 0
        shown = capsys.readouterr().out
        for option in set(vars(arguments.parse(given))) - {"command", "step"}:
            assert "--" + option.replace("_", "-") in shown


def test_without_beam(log, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert run("count", log, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "pip install tfrs_negatives[beam]" in error
    assert len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_steps(log, tmp_path, capsys):
    pytest.importorskip("apache_beam", reason="no Apache Beam: make test-beam")
    from tfrs_negatives import pipeline
    from tfrs_negatives.data import interactions

    assert run("count", log, tmp_path / "counts", "--role", "item") == 0
    assert "1 of 1 files written" in capsys.readouterr().out
    ids, counts = pipeline.read_counts(tmp_path / "counts")
    assert (ids.tolist(), counts.tolist()) == ([b"3", b"4", b"5"], [3, 1, 1])
    more = ["--order", "shuffled", "--seed", "3", "--shards", "2"]
    assert run("order", log, tmp_path / "rows", *more) == 0
    assert len(list((tmp_path / "rows").glob("*.parquet"))) == 2
    assert run("split", log, tmp_path / "split", "--verbose", "0") == 0
    assert "files written" not in capsys.readouterr().out.split("Wrote")[-1]
    held_out = interactions(tmp_path / "split/held_out", time="time")
    assert set(zip(held_out.user, held_out.time, strict=True)) == {
        ("ann", 40),
        ("bob", 10),
    }
    # A step that was done is done; another one is not put in its place.
    assert run("count", log, tmp_path / "counts", "--role", "item") == 0
    assert "already done" in capsys.readouterr().out
    assert run("count", log, tmp_path / "counts", "--role", "user") == 2
    assert "Expected a path where nothing is" in capsys.readouterr().err


def test_audit(log, tmp_path, capsys):
    pytest.importorskip("apache_beam", reason="no Apache Beam: make test-beam")
    assert run("audit", log, tmp_path / "out", "--batch-sizes", "2", "4") == 0
    shown = capsys.readouterr().out
    assert "5 rows of 5 read" in shown and "tail seen %" in shown
    assert "<html" in (tmp_path / "out" / "audit.html").read_text()
    report = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert [s["batch_size"] for s in report["settings"]] == [2, 4, 2, 4]


def test_embed(tmp_path, capsys):
    pytest.importorskip("apache_beam", reason="no Apache Beam: make test-beam")
    import tensorflow as tf

    from tfrs_negatives import pipeline

    tower = tf.Module()
    tower.embed = tf.function(
        lambda price: tf.stack([price, -price], axis=1),
        input_signature=[tf.TensorSpec([None], tf.float32, "price")],
    )
    tf.saved_model.save(tower, str(tmp_path / "tower"), {"items": tower.embed})
    (tmp_path / "items.csv").write_text("sku,cost\na,3\nb,4\n")
    given = ["pipeline", "embed", "--input", str(tmp_path / "items.csv")]
    given += ["--output", str(tmp_path / "out"), "--id", "sku", "--model"]
    given += [str(tmp_path / "tower"), "--signature", "items"]
    assert main([*given, "--feature", "price=cost", "--batch-size", "1"]) == 0
    assert "2 ids; 0 rows repeated one of them" in capsys.readouterr().out
    ((ids, embeddings),) = pipeline.read_embeddings(tmp_path / "out")
    assert ids.numpy().tolist() == [b"a", b"b"]
    assert embeddings.numpy().tolist() == [[3, -3], [4, -4]]

    (tmp_path / "log.csv").write_text("user,item\na,b\n")
    both = ["--queries", str(tmp_path / "out"), "--items", str(tmp_path / "out")]
    mined = ["pipeline", "mine", *both, "--output", str(tmp_path / "mined")]
    mined += ["--positives", str(tmp_path / "log.csv"), "--negatives", "1"]
    assert main([*mined, "--sampling", "top"]) == 0
    assert "0 of 2 queries have fewer negatives" in capsys.readouterr().out
    users, table = pipeline.read_negatives(tmp_path / "mined")
    # Of both the best is b, which is a's positive.
    assert dict(zip(users, table.to_list(), strict=True)) == {
        b"a": [b"a"],
        b"b": [b"b"],
    }
    measured = ["pipeline", "recall", *both, "--output", str(tmp_path / "recall")]
    measured += ["--input", str(tmp_path / "log.csv"), "--ks", "1", "--verbose", "0"]
    assert main([*measured, "--exclude", str(tmp_path / "log.csv")]) == 0
    assert "queries: 1\n" in (shown := capsys.readouterr().out)
    assert "corpus/recall@1: 1.0000" in shown


def test_one_writer_at_a_time(log, tmp_path, capsys):
    lock = OutputLock(str(tmp_path), str(tmp_path / "out"))
    lock.acquire()
    try:
        assert run("count", log, tmp_path / "out") == 2
    finally:
        lock.release()
    assert "which process" in capsys.readouterr().err
