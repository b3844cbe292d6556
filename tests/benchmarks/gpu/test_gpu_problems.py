"""Inputs, cases and programs of the GPU's benchmark: NumPy alone."""

import pathlib

import numpy as np
import pytest

from benchmarks.common.popularity import COLLISIONS
from benchmarks.gpu.cases import SUBJECTS, Case, all_cases, quick_cases
from benchmarks.gpu.errors import relative_errors
from benchmarks.gpu.problems import Problem, checksum
from benchmarks.gpu.programs import Programs
from benchmarks.gpu.timing import median_ms
from benchmarks.kernel.batches import Batch

NAMES = sorted({name for subject in SUBJECTS.values() for name in subject.inputs})


def test_inputs_are_made_by_seed():
    problem = Problem(64, 8, 4)
    made = problem.inputs(3, NAMES)
    again = problem.inputs(3, NAMES[::-1])
    assert checksum(made) == checksum(again) != checksum(problem.inputs(4, NAMES))
    for name in NAMES:
        np.testing.assert_array_equal(made[name], problem.inputs(3, [name])[name])


@pytest.mark.parametrize(("collisions", "share"), [("0.1%", 0.00116), ("8%", 0.09)])
def test_pairs_collide_as_often_as_said(collisions, share):
    ids = Problem(16_384, 0, 1, collisions).inputs(0, ["ids"])["ids"]
    counts = np.bincount(ids)
    assert np.sum((counts / counts.sum()) ** 2) == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("collisions", ["0.1%", "8%"])
@pytest.mark.parametrize("rows", [8, 100, 5_000])
def test_there_is_room_for_distinct_items(rows, collisions):
    problem = Problem(rows, rows // 2, 2, collisions)
    for seed in range(3):
        made = problem.inputs(seed, SUBJECTS["distinct"].inputs)
        items = made["candidate_rows"]
        assert items.max() < len(made["distinct_candidates"])
        # Rows of an item are those of its id.
        for row in np.unique(items)[:20]:
            assert len(np.unique(made["ids"][items == row])) == 1
        assert len(np.unique(items)) == len(np.unique(made["ids"]))
        assert len(made["distinct_queries"]) == rows // 4
        np.testing.assert_array_equal(made["query_rows"], made["sorted_users"])


def test_log_q_is_that_of_the_draws():
    problem = Problem(20_000, 0, 1)
    made = problem.inputs(0, ["ids", "log_q"])
    top = made["ids"] == 0
    assert np.exp(made["log_q"][top][0]) == pytest.approx(np.mean(top), rel=0.15)


@pytest.mark.parametrize("collisions", COLLISIONS)
def test_q_of_rare_items_is_what_tfrs_takes(collisions):
    problem = Problem(5_000, 0, 1, collisions)
    names = ["ids", "log_q", "negative_ids", "negative_log_q"]
    ids, log_q, negative_ids, negative_log_q = problem.inputs(0, names).values()
    for items, found in ((ids, log_q), (negative_ids, negative_log_q)):
        expected = np.log(np.maximum(problem.share[items], 1e-6))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (np.exp(log_q).min() == pytest.approx(1e-6)) == (collisions == "8%")


@pytest.mark.parametrize("collisions", COLLISIONS)
def test_batches_of_the_kernels_benchmark_collide_as_often(collisions):
    batch = Batch(2_000, 0, 1, collisions)
    share = Problem(2_000, 0, 1, collisions).share
    np.testing.assert_allclose(batch.q, np.maximum(share[batch.ids], 1e-6), rtol=1e-6)


def test_cases_are_distinct_and_the_headline_comes_first():
    for cases in (all_cases(), quick_cases()):
        assert len({tuple(case.columns.values()) for case in cases}) == len(cases)
        assert {case.subject for case in cases} == set(SUBJECTS)
    first = all_cases()[0]
    assert (first.problem.rows, first.problem.width) == (32_768, 128)
    sizes = [case.problem for case in all_cases()]
    assert {size.rows for size in sizes} == {2**i for i in range(10, 18)}
    assert {size.width for size in sizes} == {64, 128, 256}
    assert any(size.extra for size in sizes)


def test_programs_differ_where_shapes_do():
    few, many = (Problem(5_000, 0, 4, c) for c in ("0.1%", "8%"))
    assert Case("ours", few, "tf32").program == Case("ours", many, "tf32").program
    distinct = [Case("distinct", problem, "tf32").program for problem in (few, many)]
    assert distinct[0] != distinct[1]
    assert Case("ours", few, "tf32", 32).program != Case("ours", few, "tf32").program


@pytest.mark.parametrize("case", quick_cases()[::7])
def test_cases_travel_as_text(case):
    assert Case.from_json(case.to_json()) == case


def test_programs_of_a_folder(tmp_path):
    programs = Programs(tmp_path / "new", {"commit": "abc"}, {"a": 1}, {"a": [2.5]})
    programs.add("one", b"text" * 100)
    programs.write()
    read = Programs.read(tmp_path / "new")
    assert read == programs and read.text("one") == b"text" * 100
    with pytest.raises(SystemExit, match="benchmarks.gpu.export --output"):
        Programs.read(tmp_path)


def test_what_is_cut_leaves_no_file(tmp_path, monkeypatch):
    programs = Programs(tmp_path, {"commit": "abc"}, {}, {})
    programs.write()
    old = programs.about
    write = pathlib.Path.write_bytes

    def cut(path, content):
        write(path, content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(pathlib.Path, "write_bytes", cut)
    with pytest.raises(KeyboardInterrupt):
        programs.add("one", b"text" * 100)
    with pytest.raises(KeyboardInterrupt):
        Programs(tmp_path, {"commit": "other"}, {}, {}).write()
    monkeypatch.undo()
    assert not programs.path("one").exists()
    assert Programs.read(tmp_path).about == old
    programs.add("one", b"text")
    assert programs.text("one") == b"text"


def test_errors_are_relative_to_lengths():
    loss, gradients = relative_errors(
        [np.float32(11), np.array([3.0, 4.0]), np.array([0.0, 2.2])],
        [np.float32(10), np.array([3.0, 4.5]), np.array([0.0, 2.0])],
    )
    assert loss == pytest.approx(0.1)
    assert gradients == pytest.approx(0.1)
    assert relative_errors([np.ones(2)], [np.ones(2)]) == (None, 0.0)


@pytest.mark.parametrize("loss", [[np.float32(10)], []])
def test_what_is_not_a_number_is_an_error(loss):
    """In the last output alone, and with losses or without."""
    expected = [*loss, np.ones(2), np.ones(2)]
    outputs = [*loss, np.ones(2), np.array([1.0, np.nan])]
    assert np.isnan(relative_errors(outputs, expected)[1])


def test_executions_rotate_over_sets_of_inputs():
    calls = []

    def seconds_of(numbers):
        calls.append(numbers)
        return 0.004 * len(numbers)

    milliseconds, executions = median_ms(seconds_of, num_sets=3, seconds=0)
    assert milliseconds == pytest.approx(4)
    # Two that are not counted, then five chains of 20 ms.
    assert calls[:3] == [[0, 1, 2], [0, 1, 2], [0, 1, 2, 0, 1]]
    assert executions == 25 and [len(c) for c in calls[2:]] == [5] * 5
    assert sorted(sum(calls[2:], [])) == sorted([0, 1, 2] * 8 + [0])
