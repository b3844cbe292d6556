"""What tests of steps on Apache Beam share."""

import pytest

pytest.importorskip("apache_beam", reason="no Apache Beam: make test-beam")
