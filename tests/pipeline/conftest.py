"""What tests of steps on Apache Beam share."""

import pytest


@pytest.fixture
def beam():
    """Skips a test where Apache Beam is not installed."""
    pytest.importorskip("apache_beam", reason="no Apache Beam: make test-beam")
