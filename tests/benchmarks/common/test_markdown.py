"""Tables and verdicts."""

from benchmarks.common.markdown import markdown, mean_and_deviation, verdict


def test_table():
    text = markdown(["", "b"], [["x", "1"], ["y", "2"]])
    assert text == "|  | b |\n|---|---|\n| x | 1 |\n| y | 2 |"


def test_mean_and_deviation_over_seeds():
    # ((1 - 2)^2 + (3 - 2)^2) / (2 - 1) = 2
    assert mean_and_deviation(["1", "3"], 2) == "2.00 ± 1.41"
    assert mean_and_deviation([1234.5], 1) == "1,234.5"


def test_verdict(capsys):
    assert verdict(True, "one") and not verdict(False, "two")
    assert capsys.readouterr().out == "PASS one\nFAIL two\n"
