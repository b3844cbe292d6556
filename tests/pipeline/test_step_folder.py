"""A step appears whole, and goes on where it was ended."""

import signal
import subprocess
import sys
import time

import fsspec
import pytest
from event_tables import bytes_of, events, write_folder
from item_towers import save_whole_numbers
from retrieval_oracle import embedded

from tfrs_negatives.data import interactions
from tfrs_negatives.pipeline import (
    BeamEngine,
    count_column,
    order_by_request,
    read_counts,
    step_folder,
)

pytestmark = pytest.mark.usefixtures("beam")

COLUMNS = {"request": "request", "time": "time"}


def order(path, output, **options):
    order_by_request(path, output, columns=COLUMNS, shards=6, heavy_rows=30, **options)


def test_an_ended_step_goes_on(tmp_path, monkeypatch):
    path = write_folder(tmp_path / "in", events(300, seed=1))
    order(path, tmp_path / "whole")
    write = step_folder.StepFolder.write_table
    written = []

    def write_some(self, name, table):
        if len(list(tmp_path.glob(".ended.unfinished/*.parquet"))) == 3:
            raise OSError("no room")
        write(self, name, table)

    monkeypatch.setattr(step_folder.StepFolder, "write_table", write_some)
    with pytest.raises(ValueError, match="no room"):
        order(path, tmp_path / "ended")
    assert not (tmp_path / "ended").exists()
    work = tmp_path / ".ended.unfinished"
    before = {p.name: p.stat().st_mtime_ns for p in work.glob("*.parquet")}
    assert len(before) == 3
    (work / ".part-00000.parquet.of_a_dead_worker").write_bytes(b"half")

    monkeypatch.setattr(step_folder.StepFolder, "write_table", write)
    order(path, tmp_path / "ended", progress=written.append)
    assert "counts rows" not in written
    assert bytes_of(tmp_path / "ended") == bytes_of(tmp_path / "whole")
    after = {n: (tmp_path / "ended" / n).stat().st_mtime_ns for n in before}
    assert after == before and not work.exists()
    # Once more: it is there.
    order(path, tmp_path / "ended", progress=written.append)
    assert written[-1] == "already done"


def test_other_input_begins_anew_and_replaces_nothing(tmp_path):
    path = write_folder(tmp_path / "in", events(40, seed=1))
    work = tmp_path / ".out.unfinished"
    work.mkdir()
    (work / "part-00000-of-00001.parquet").write_text("of another step")
    count_column(path, tmp_path / "out")
    assert read_counts(tmp_path / "out")[1].sum() == 42
    (path / "day=0" / "part-1.parquet").write_bytes(
        (path / "day=0" / "part-0.parquet").read_bytes()
    )
    before = bytes_of(tmp_path / "out")
    with pytest.raises(ValueError, match="Expected a path where nothing is"):
        count_column(path, tmp_path / "out")
    assert bytes_of(tmp_path / "out") == before


def test_an_output_elsewhere(tmp_path):
    system = fsspec.filesystem("memory")
    path = write_folder(tmp_path / "in", events(100, seed=2))
    try:
        order(path, tmp_path / "out")
        order(path, "memory://bucket/out")
        found = {
            name: system.cat(f"/bucket/out/{name}")
            for name in bytes_of(tmp_path / "out")
        }
        assert found == bytes_of(tmp_path / "out")
        assert not system.glob("/bucket/.*")
        rows = interactions("memory://bucket/out", request="request")
        local = interactions(tmp_path / "out", request="request")
        assert rows.item.tolist() == local.item.tolist()
        said = []
        order(path, "memory://bucket/out", progress=said.append)
        assert said == ["already done"]
    finally:
        system.store.clear()


def test_what_workers_refuse_is_told(tmp_path):
    columns = events(100, seed=3)
    path = write_folder(tmp_path / "in", columns, "csv")
    last = path / "day=2" / "part-0.csv"
    last.write_text(last.read_text() + "1,,2,3,1\n")
    with pytest.raises(ValueError, match=r"'item' of .*1 nulls.*Fill them") as caught:
        count_column(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    (tmp_path / "empty.csv").write_text("user,item\n")
    with pytest.raises(ValueError, match="received an empty table"):
        order_by_request(tmp_path / "empty.csv", tmp_path / "out")
    columns["label"][:] = 0
    path = write_folder(tmp_path / "no", columns)
    with pytest.raises(ValueError, match="'label' of .*no such row of 105"):
        count_column(path, tmp_path / "out", columns={"label": "label"})
    with pytest.raises(ValueError, match="`workers` is of the local runner"):
        BeamEngine("FlinkRunner", workers=2)
    assert not (tmp_path / "out").exists()


STEPS = ["count", "order", "split", "embed", "mine", "recall"]


@pytest.mark.slow(reason="kills processes, and starts them again")
@pytest.mark.parametrize("step", STEPS)
def test_killed_and_started_again(tmp_path, step):
    command = [sys.executable, "-m", "tfrs_negatives.cli", "pipeline", step]
    if step in ("mine", "recall"):
        users, items, path, _ = embedded(tmp_path, num_users=3_000, shards=(40, 4))
        command += ["--queries", str(users), "--items", str(items)]
        mined = ["--positives", str(path), "--negatives", "20"]
        command += mined if step == "mine" else ["--input", str(path)]
    else:
        num = 15_000 if step == "embed" else 60_000  # Which writes longer.
        path = write_folder(tmp_path / "in", events(num, seed=4), num_files=4)
        command += ["--input", str(path), "--shards", "40"]
        tower = save_whole_numbers(tmp_path / "tower", key="item")
        embed = ["--id", "request", "--model", str(tower)]
        command += embed if step == "embed" else ["--time", "time"]
    command += ["--output"]
    assert subprocess.run([*command, str(tmp_path / "whole")]).returncode == 0
    killed = subprocess.Popen([*command, str(tmp_path / "ended")])
    work, deadline = tmp_path / ".ended.unfinished", time.monotonic() + 300
    written = "**/_part*.json" if step == "recall" else "**/*.parquet"
    while not list(work.glob(written)) and time.monotonic() < deadline:
        assert killed.poll() is None
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "ended").exists() and work.exists()
    assert subprocess.run([*command, str(tmp_path / "ended")]).returncode == 0
    assert bytes_of(tmp_path / "ended") == bytes_of(tmp_path / "whole")
