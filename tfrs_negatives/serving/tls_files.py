"""The files that a server speaks TLS with."""

from __future__ import annotations

import dataclasses
import os
import ssl
from typing import Any

import grpc

from tfrs_negatives.types import PathLike


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """Files in PEM format, for both protocols; read when a server starts.

    Attributes:
      certificate: The server's certificate, then those that vouch for it.
      key: Its private key, without a password.
      client_ca: Certificates of who vouches for clients, which then must have a
        certificate too; None: clients need none.

    Example:
      >>> files = tn.serving.TlsFiles("server.pem", "server.key")
      >>> files.for_uvicorn()
      {'ssl_certfile': 'server.pem', 'ssl_keyfile': 'server.key'}
    """

    certificate: PathLike
    key: PathLike
    client_ca: PathLike | None = None

    def check(self) -> None:
        """Raises `ValueError` unless the files are there and go together."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, password="")
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError.
            raise ValueError(
                f"TLS needs a certificate and its private key, received "
                f"{os.fspath(self.certificate)!r} and {os.fspath(self.key)!r}: {error}."
            ) from error

    def for_uvicorn(self) -> dict[str, Any]:
        """Options of `uvicorn.Config`."""
        options: dict[str, Any] = {
            "ssl_certfile": os.fspath(self.certificate),
            "ssl_keyfile": os.fspath(self.key),
        }
        if self.client_ca is not None:
            options["ssl_ca_certs"] = os.fspath(self.client_ca)
            options["ssl_cert_reqs"] = ssl.CERT_REQUIRED
        return options

    def for_grpc(self) -> grpc.ServerCredentials:
        """Credentials of a gRPC port."""
        client_ca = None if self.client_ca is None else _read(self.client_ca)
        pair = _read(self.key), _read(self.certificate)
        return grpc.ssl_server_credentials([pair], client_ca, client_ca is not None)


def _read(path: PathLike) -> bytes:
    with open(path, "rb") as file:
        return file.read()
