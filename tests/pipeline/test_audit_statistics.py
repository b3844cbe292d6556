"""An audit by many workers is that of one machine."""

import json

import numpy as np
import pytest
from event_tables import bytes_of, events, write_folder

from tfrs_negatives.audit import measure, page, read_table
from tfrs_negatives.pipeline import BeamEngine, audit_sample, audit_table, step_folder

pytestmark = pytest.mark.usefixtures("beam")

COLUMNS = {"request": "request", "time": "time", "label": "label"}
SIZES = dict(batch_sizes=[2, 7, 32, 100, 5_000], max_batches=5, seed=3)
ORDERS = ("shuffled", "request_sorted")


def one_machine(path, columns, **options):
    """The report of one machine, without what the step leaves out."""
    report = measure(
        read_table(path, **columns), orders=ORDERS, progress=False, **options
    )
    report["options"]["spread_buffer"] = None
    for setting in report["settings"]:
        setting["tail_items_seen"] = None
    # "Some items are never seen": from the figure that the step leaves out.
    report["recommendations"] = recommendations(report)
    return report


def recommendations(report):
    from tfrs_negatives.audit.recommended_settings import recommendations

    return recommendations(report)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("names", [(), ("time",), ("request", "time", "label")])
def test_one_machine_measures_the_same(tmp_path, kind, names):
    columns = {name: COLUMNS[name] for name in names}
    drawn = events(900, seed=1, strings=kind == "csv")
    drawn["time"] = drawn["time"] * 5_000  # Some days.
    path = write_folder(tmp_path / "in", drawn, kind)
    found = audit_table(path, tmp_path / "out", columns=columns, **SIZES)
    wanted = one_machine(path, columns, **SIZES)
    assert found == wanted
    assert any(s["batches_measured"] < s["batches"] for s in found["settings"])
    written = tmp_path / "out"
    assert sorted(p.name for p in written.glob("[!_]*")) == ["audit.html", "audit.json"]
    assert json.loads((written / "audit.json").read_text()) == wanted
    assert (written / "audit.html").read_text() == page(wanted)


def test_little_of_a_large_request_is_sent(tmp_path, monkeypatch):
    drawn = events(3_000, seed=2)
    drawn["request"] = np.where(drawn["request"] % 3, 11, drawn["request"])
    path = write_folder(tmp_path / "in", drawn)
    options = dict(batch_sizes=[16, 40], max_batches=3, seed=1)
    sent, gather = [], audit_sample.SampledRows.__init__

    def noted(self, rows, pairs, request_keys):
        sent.append(rows.column("request").to_numpy())
        gather(self, rows, pairs, request_keys)

    monkeypatch.setattr(audit_sample.SampledRows, "__init__", noted)
    found = audit_table(
        path, tmp_path / "out", columns=COLUMNS, heavy_rows=50, **options
    )
    assert found == one_machine(path, COLUMNS, **options)
    # Of 1,900 rows of one request, those in batches of either order.
    assert 0 < np.sum(sent[0] == 11) <= 2 * 3 * (16 + 40)


def test_an_ended_audit_goes_on(tmp_path, monkeypatch):
    path = write_folder(tmp_path / "in", events(300, seed=4))
    options = dict(columns=COLUMNS, **SIZES)
    audit_table(path, tmp_path / "whole", **options)
    write = step_folder.StepFolder.write_table

    def write_some(self, name, table):
        if len(list(tmp_path.glob(".ended.unfinished/_known/*.parquet"))) == 2:
            raise OSError("no room")
        write(self, name, table)

    monkeypatch.setattr(step_folder.StepFolder, "write_table", write_some)
    with pytest.raises(ValueError, match="no room"):
        audit_table(path, tmp_path / "ended", **options)
    assert not (tmp_path / "ended").exists()
    monkeypatch.setattr(step_folder.StepFolder, "write_table", write)
    said = []
    audit_table(path, tmp_path / "ended", progress=said.append, **options)
    assert "counts rows" not in said and bytes_of(tmp_path / "ended") == bytes_of(
        tmp_path / "whole"
    )
    again = audit_table(path, tmp_path / "ended", progress=said.append, **options)
    assert said[-1] == "already done"
    assert again == json.loads((tmp_path / "ended" / "audit.json").read_text())


@pytest.mark.slow(reason="starts processes; one is enough to say what they write")
def test_workers_write_the_same_bytes(tmp_path):
    path = write_folder(tmp_path / "in", events(2_000, seed=5, strings=True))
    for workers in (1, 2):
        engine = BeamEngine(workers=workers)
        options = dict(columns=COLUMNS, heavy_rows=50, engine=engine, **SIZES)
        audit_table(path, tmp_path / f"{workers}", **options)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")


def test_what_does_not_fit_is_told(tmp_path):
    drawn = events(60, seed=6)
    path = write_folder(tmp_path / "in", drawn)
    out = tmp_path / "out"
    for wrong, message in (
        (dict(orders=["spread"]), "`orders` must be one of"),
        (dict(batch_sizes=[]), "`batch_sizes` must not be empty"),
        (dict(batch_sizes=[1_000]), "Batches must be of at most 63 rows"),
        (dict(max_batches=1), "max_batches"),
        (dict(columns={"item": "none"}), "none"),
    ):
        with pytest.raises(ValueError, match=message):
            audit_table(path, out, **wrong)
    drawn["item"][:] = 3
    path = write_folder(tmp_path / "one", drawn)
    with pytest.raises(
        ValueError, match="'item' of .* at least 2 items, received 1 in"
    ):
        audit_table(path, out, batch_sizes=[8])
    assert not out.exists()
