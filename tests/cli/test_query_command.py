"""`tfrs-negatives query` on a trained output."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from tfrs_negatives.cli import main


def ask(capsys, *arguments):
    """Exit code, rows of cells, and stderr."""
    capsys.readouterr()
    code = main(["query", *map(str, arguments)])
    printed = capsys.readouterr()
    rows = [line.split("  ") for line in printed.out.splitlines()]
    return code, [[c.strip() for c in row if c.strip()] for row in rows], printed.err


def test_answers(trained, capsys):
    code, rows, error = ask(capsys, trained[0], "--user", "u3", "--k", "5")
    assert code == 0 and error == ""
    assert rows[0] == ["rank", "id", "title", "score (dot product)"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "3", "4", "5"]
    assert all(row[2] == f"Thing {row[1][1:]}" for row in rows[1:])
    scores = [float(row[3]) for row in rows[1:]]
    assert scores == sorted(scores, reverse=True)


def test_takes_the_model_folder_too(trained, capsys):
    whole = ask(capsys, trained[0], "--user", "u3")
    assert ask(capsys, trained[0] / "model", "--user", "u3") == whole
    assert len(whole[1]) == 11  # k = 10 by default.


def test_excluded_items_leave_their_places_to_others(trained, capsys):
    _, rows, _ = ask(capsys, trained[0], "--user", "u3", "--k", "8")
    best = [row[1] for row in rows[1:]]
    code, rows, _ = ask(
        capsys, trained[0], "--user", "u3", "--k", "5",
        "--exclude", best[0], best[2], "no such item",
    )  # fmt: skip
    assert code == 0
    assert [row[1] for row in rows[1:]] == [best[1], *best[3:7]]


def test_fewer_rows_when_too_few_items_are_left(trained, capsys):
    items = [f"i{n}" for n in range(38)]
    code, rows, _ = ask(
        capsys, trained[0], "--user", "u3", "--keep-history", "--exclude", *items
    )
    assert code == 0
    assert sorted(row[1] for row in rows[1:]) == ["i38", "i39"]


def test_unknown_user_gets_the_average_and_a_note(trained, capsys):
    code, rows, error = ask(capsys, trained[0], "--user", "stranger")
    assert code == 0 and len(rows) == 11
    assert len(error.splitlines()) == 1
    assert "stranger was not in the training data" in error
    assert ask(capsys, trained[0], "--user", "another")[1] == rows


def test_what_somebody_did_is_a_query(trained, capsys):
    odd = ["i1", "i5", "i9", "i13", "i17", "i21"]
    code, rows, error = ask(capsys, trained[0], "--history", *odd, "no such item")
    assert code == 0 and error == ""
    found = [row[1] for row in rows[1:]]
    assert not set(found) & set(odd)
    assert sum(int(item[1:]) % 2 for item in found) >= 7
    # A known user's id counts beside it.
    _, rows, error = ask(capsys, trained[0], "--user", "u4", "--history", *odd)
    assert error == "" and found != [row[1] for row in rows[1:]]


def test_neither_user_nor_history(trained, capsys):
    code, rows, error = ask(capsys, trained[0])
    assert code == 2 and rows == []
    assert "Expected --user or --history" in error


@pytest.fixture(scope="module")
def whole_number_model(keras_2, tmp_path_factory, make_csv):
    folder = tmp_path_factory.mktemp("whole_numbers")
    data = make_csv(folder / "table.csv")[:-2]  # Without titles.
    fast = ["--batch-size", "64", "--epochs", "1", "--dim", "8", "--verbose", "0"]
    out = ["--seeds", "0", "--output", f"{folder}/out", "--baselines", "--no-all-rows"]
    assert main(["train", *data, *fast, *out]) == 0
    return folder / "out"


def test_whole_number_ids_without_titles(whole_number_model, capsys):
    code, rows, error = ask(capsys, whole_number_model, "--user", "3", "--k", "2")
    assert code == 0 and error == ""
    assert rows[0] == ["rank", "id", "score (dot product)"]
    best = rows[1][1]
    assert 500 <= int(best) < 540
    _, rows, _ = ask(capsys, whole_number_model, "--user", 3, "--exclude", best)
    assert best not in [row[1] for row in rows[1:]]
    assert ask(capsys, whole_number_model, "--user", "-12")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--user", "x"], "--user must be a whole number"),
        (["--user", "1.5"], "'1.5'"),
        (["--user", str(2**63)], "--user must be a whole number"),
        (["--user", "1", "--exclude", "2", "y"], "--exclude must be a whole number"),
        (["--user", "1", "--k", "41"], "at most 40"),
        (["--user", "1", "--k", "0"], "at least 1"),
        (["--user", "1", "--k", "many"], "'many'"),
        ([], "--user or --history"),
        (["--history", "501", "y"], "--history must be a whole number"),
    ],
)
def test_bad_arguments(whole_number_model, capsys, arguments, expected):
    code, rows, error = ask(capsys, whole_number_model, *arguments)
    assert code == 2 and rows == []
    assert len(error.splitlines()) == 1
    assert expected in error


def test_no_model_there(tmp_path, capsys):
    for path in (tmp_path, tmp_path / "absent"):
        code, _, error = ask(capsys, path, "--user", "1")
        assert code == 2 and len(error.splitlines()) == 1
        assert str(path) in error


def test_a_broken_model(trained, tmp_path, capsys):
    broken = tmp_path / "model"
    shutil.copytree(trained[0] / "model", broken)
    (broken / "saved_model.pb").unlink()
    code, _, error = ask(capsys, broken, "--user", "1")
    assert code == 2 and len(error.splitlines()) == 1
    assert "lacks its file 'saved_model.pb'" in error


@pytest.mark.parametrize("content", ["{}", "[" * 100_000, '{"format": 3}'])
def test_a_description_that_is_none(trained, tmp_path, capsys, content):
    """One line, no traceback, from both commands that read it."""
    broken = tmp_path / "model"
    shutil.copytree(trained[0] / "model", broken)
    (broken / "assets.extra" / "tfrs_negatives.json").write_text(content)
    code, _, error = ask(capsys, broken, "--user", "1")
    assert code == 2 and len(error.splitlines()) == 1
    assert "tfrs_negatives.json" in error or "format" in error
    assert main(["serve", str(broken), "--port", "0", "--grpc-port", "0"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_folder_of_versions(trained, tmp_path, capsys):
    shutil.copytree(trained[0] / "model", tmp_path / "versions" / "3")
    whole = ask(capsys, trained[0], "--user", "u3")
    assert ask(capsys, tmp_path / "versions", "--user", "u3") == whole


def test_a_model_of_other_queries(trained, tmp_path, capsys):
    other = tmp_path / "model"
    shutil.copytree(trained[0] / "model", other)
    path = other / "assets.extra" / "tfrs_negatives.json"
    description = json.loads(path.read_text())
    del description["sha256"]
    spec = {"dtype": "int64", "shape": [None]}
    description["query"] = {"age": spec, "country": spec}
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    description["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(description))
    code, _, error = ask(capsys, other, "--user", "1")
    assert code == 2 and "age, country" in error


@pytest.mark.slow(reason="test_serves_what_train_wrote_without_keras says it too")
def test_a_new_process_needs_neither_training_code_nor_keras_2(trained):
    script = (
        "import sys\n"
        "from tfrs_negatives.cli import main\n"
        f"code = main(['query', {str(trained[0])!r}, '--user', 'u1', '--k', '3'])\n"
        "unwanted = {'tensorflow_recommenders', 'tfrs_negatives._keras'}\n"
        "assert not unwanted & set(sys.modules)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "0"},
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
