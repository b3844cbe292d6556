"""`tfrs-negatives serve`: its arguments, and what `train` wrote."""

import dataclasses
import http.client
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

from tfrs_negatives.cli import main

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "serving.md"


def error_of(capsys, *arguments):
    capsys.readouterr()
    assert main(["serve", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    return printed.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "MODEL"),
        (["m", "--port", "65536"], "a port from 0 to 65535, received '65536'"),
        (["m", "--grpc-port", "x"], "a port from 0 to 65535"),
        (["m", "--max-batch", "0"], "at least 1, received '0'"),
        (["m", "--max-wait-ms", "-1"], "at least 0"),
        (["m", "--poll-seconds", "0"], "above 0"),
        (["m", "--threads", "0"], "at least 1"),
        (["m", "--max-filters", "0"], "at least 1"),
        (
            ["m", "--admin-token-file", "f", "--admin-token-env", "E"],
            "exclude each other",
        ),
        (
            ["m", "--query-token-file", "f", "--query-token-env", "E"],
            "exclude each other",
        ),
    ],
)
def test_bad_arguments(capsys, arguments, expected):
    assert expected in error_of(capsys, *arguments)


def test_no_model_there(tmp_path, capsys):
    for path in (tmp_path, tmp_path / "absent"):
        assert str(path) in error_of(capsys, path)


def test_defaults_are_those_of_the_server():
    limits = pytest.importorskip("tfrs_negatives.serving").Limits()
    from tfrs_negatives.cli import arguments

    options = vars(arguments.parse(["serve", "m"]))
    for name, value in vars(limits).items():
        assert options[name] == value


def number(text):
    """A default as the page has it, such as "100,000" or "4 MiB"."""
    digits, _, unit = text.replace(",", "").partition(" ")
    return float(digits) * {"": 1, "MiB": 2**20}[unit]


def test_the_page_has_every_flag_and_limit(capsys):
    found = re.findall(r"^\| (`--.+?`) \| (.+?) \|", PAGE.read_text(), re.MULTILINE)
    told = {
        flag.split()[0]: default
        for cell, default in found
        for flag in cell[1:-1].split("`, `")
    }
    assert main(["serve", "--help"]) == 0
    flags = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out)) - {"--help"}
    assert set(told) == flags
    for field in dataclasses.fields(
        pytest.importorskip("tfrs_negatives.serving").Limits
    ):
        default = told[f"--{field.name.replace('_', '-')}"]
        if field.default is not None:
            assert number(default) == field.default, field.name


def test_without_the_extra(trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tfrs_negatives.serving", None)
    message = error_of(capsys, trained[0])
    assert "pip install tfrs_negatives[serve]" in message


def test_serves_what_train_wrote_without_keras(trained, tmp_path, capsys):
    pytest.importorskip("fastapi")
    assert main(["query", str(trained[0]), "--user", "u3", "--k", "4"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    best = [row.split()[1] for row in rows]
    code = (
        "import sys\n"
        "from tfrs_negatives.cli import main\n"
        f"code = main(['serve', {str(trained[0])!r}, '--port', '0', '--grpc-port', '0',"
        " '--name', 'items'])\n"
        "unwanted = {'tensorflow_recommenders', 'tfrs_negatives._keras'}\n"
        "assert not unwanted & set(sys.modules)\n"
        "sys.exit(code)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    assert "as 'items': REST at http://127.0.0.1:" in line, process.stderr.read()
    port = int(line.split("http://127.0.0.1:")[1].split("/")[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"instances": [{"user": "u3", "k": 4}]})
    connection.request("POST", "/v1/models/items:predict", body)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert answer["predictions"][0]["ids"] == best


def test_a_broken_model(trained, tmp_path, capsys):
    pytest.importorskip("fastapi")
    shutil.copytree(trained[0] / "model", tmp_path / "model")
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"")
    message = error_of(capsys, tmp_path, "--port", "0", "--grpc-port", "0")
    assert "truncated or changed" in message
