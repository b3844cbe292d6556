"""What is dropped of a library's log, and what is not."""

import os

import pytest

from tfrs_negatives.cli.quiet_scann import quiet_scann

LOGGED = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to "
    b"STDERR\n"
    b"I0000 00:00:1795914192.547815   16885 partitioner_factory_base.cc:58] Size of "
    b"sampled dataset for training partition: 9066\n"
    b"W0000 00:00:1795914192.558262   16885 gmm_utils.cc:1026] Could not normalize\n"
)
OTHER = b"E0000 00:00:1795914192.558262   16885 scann.cc:10] No memory\nnote: of ours\n"


def test_warnings_of_the_library_are_dropped_and_all_else_is_told(capfd):
    os.write(2, b"before\n")
    with quiet_scann():
        os.write(2, LOGGED + OTHER)
    os.write(2, b"after\n")
    assert capfd.readouterr().err == f"before\n{OTHER.decode()}after\n"


def test_all_is_told_where_it_fails(capfd):
    with pytest.raises(KeyError), quiet_scann():
        os.write(2, LOGGED + OTHER)
        raise KeyError
    assert capfd.readouterr().err == (LOGGED + OTHER).decode()
