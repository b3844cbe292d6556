"""The number of rows read, on terminals alone."""

import sys

import pytest

from tfrs_negatives.cli.rows_read import rows_read


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_only_a_terminal_gets_it(monkeypatch, capsys, verbose, is_terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    with rows_read(verbose) as progress:
        assert (progress is None) == (verbose == 0 or not is_terminal)
        if progress is not None:
            progress(1000)
            progress(2500)
    printed = capsys.readouterr().out
    shown = "\r1,000 rows read\r2,500 rows read\n"
    assert printed == (shown if verbose and is_terminal else "")
