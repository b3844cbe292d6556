"""What the comparison of two servers makes of its turns."""

from benchmarks.serving.compare import MEASURED, compared


def test_medians_and_ratios_of_neighbouring_turns():
    old = [dict.fromkeys(MEASURED, value) for value in (1.0, 2.0, 10.0)]
    new = [dict.fromkeys(MEASURED, value) for value in (2.0, 1.0, 30.0)]
    found = compared(old, new)
    for name in MEASURED:
        assert found[f"{name}_old"] == 2.0 and found[f"{name}_new"] == 2.0
        assert found[f"{name}_ratio"] == 2.0  # Of 2, .5 and 3.
