"""A client of the `server` that a module's own fixture starts."""

import pytest


@pytest.fixture
def client(server):
    from served_models import Client  # Skips where the extra serve is not installed.

    client = Client(server.port)
    yield client
    client.close()
