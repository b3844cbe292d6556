"""Arguments of the console script, before anything heavy is imported."""

import subprocess
import sys

import pytest

import tfrs_negatives
from tfrs_negatives.cli import arguments, main
from tfrs_negatives.cli.command_error import CommandError


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"], ["--version"]])
def test_help_does_not_import_tensorflow(command):
    script = (
        "import sys\n"
        "from tfrs_negatives.cli import main\n"
        f"code = main({command!r})\n"
        "assert 'tensorflow' not in sys.modules and 'numpy' not in sys.modules\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout


def test_every_option_is_in_the_help(capsys):
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for option in vars(arguments.parse(["train"])):
        if option != "command":
            assert "--" + option.replace("_", "-") in shown
    assert main(["query", "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("MODEL", "--user", "--k", "--exclude"):
        assert option in shown


@pytest.mark.parametrize("command", ["query", "serve", "audit"])
def test_that_a_model_is_a_program_is_in_the_help(capsys, command):
    assert main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "runs what it holds: load only what you trust" in shown


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == tfrs_negatives.__version__


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected a command"),
        (["tran"], "tran"),
        (["train", "--nonsense"], "--nonsense"),
        (["train", "--epochs", "0"], "at least 1, received '0'"),
        (["train", "--epochs", "two"], "'two'"),
        (["train", "--epochs", "1.5"], "'1.5'"),
        (["train", "--batch-size", "1"], "at least 2"),
        (["train", "--dim", "-3"], "at least 1"),
        (["train", "--hidden", "64", "0"], "at least 1"),
        (["train", "--temperature", "0"], "above 0, received '0'"),
        (["train", "--temperature", "nan"], "above 0"),
        (["train", "--learning-rate", "inf"], "above 0"),
        (["train", "--num-negatives", "-1"], "at least 0"),
        (["train", "--baselines", "magic"], "invalid choice: 'magic'"),
        (["train", "--seeds", "1", "2", "1"], "--seeds must differ"),
        (["train", "--live", "--no-index"], "--live writes an index"),
        (["train", "--seeds"], "--seeds"),
        (["train", "--data", "a.csv", "--tfds", "b"], "one source"),
        (["train", "--data-dir", "a"], "--data-dir belongs to --tfds"),
        (["train", "--unknown-share", "1.5"], "from 0 to below 1, received '1.5'"),
        (["train", "--held-out", "a.csv"], "--held-out belongs to --data"),
        (["train", "--verbose", "3"], "--verbose"),
        (["train", "--epoch", "3"], "--epoch"),  # No abbreviations.
        (["query"], "MODEL"),
        (["query", "out"], "--user"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(capsys, arguments, expected):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("tfrs-negatives: error: ")
    assert expected in printed.err


def test_defaults():
    options = arguments.parse(["train"])
    assert options.seeds == [0]
    assert options.data is options.tfds is None
    assert arguments.parse(["query", "out", "--user", "3"]).k == 10


def test_bounds_are_inclusive_where_they_say_so():
    options = arguments.parse(
        ["train", "--num-negatives", "0", "--seeds", "0", "--baselines"]
    )
    assert (options.num_negatives, options.baselines) == (0, [])


def test_parse_raises_for_callers():
    with pytest.raises(CommandError, match="at least 1"):
        arguments.parse(["train", "--epochs", "0"])
