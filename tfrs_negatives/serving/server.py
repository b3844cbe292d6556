"""Both protocols in one process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from typing import Any

import uvicorn

from tfrs_negatives.serving.bearer_tokens import AdminToken, QueryToken
from tfrs_negatives.serving.grpc_service import grpc_server
from tfrs_negatives.serving.guarded_connection import guarded_app, guarded_protocol
from tfrs_negatives.serving.rest import rest_app
from tfrs_negatives.serving.server_limits import Limits
from tfrs_negatives.serving.service import Service
from tfrs_negatives.serving.tls_files import TlsFiles
from tfrs_negatives.serving.version_policy import VersionPolicy
from tfrs_negatives.types import PathLike

# Seconds that requests in flight have when a server stops.
_GRACE = 10


class Server:
    """Serves an export over REST and gRPC, as TensorFlow Serving does.

    One thread reads and writes messages, a pool of threads answers, and one watches
    for new versions.

    Args:
      path: An export, or a folder of versions of it (1, 2, ...).
      name: What clients call the model.
      host: The address to listen on; "0.0.0.0" for all.
      port: For REST; 0 takes a free one.
      grpc_port: For gRPC; 0 takes a free one.
      limits: `Limits`.
      poll_seconds: How often to look for new versions.
      versions: `VersionPolicy`; None: the highest version.
      reloads: Whether clients may change it, over gRPC. They must name the
        `admin_token` for it, or where there is none the `query_token`.
      tls: `TlsFiles`; None: both protocols are in the clear.
      cors_origins: Origins of pages that may ask over REST; see `rest_app`.
      logs_answers: Whether each answer is logged, by the logger
        "tfrs_negatives.access".
      admin_token: `AdminToken`, by which clients may change the items of an export of
        `export_live_retrieval`, over REST. None: they may not, and what another process
        changes is followed, every `poll_seconds`.
      query_token: `QueryToken`, which clients then must name who ask for predictions or
        signatures, over both protocols.
      shards: Of a query tower that `export_query_tower` wrote, where its items are:
        addresses or `RemoteShard`s; see `load_retrieval`.
      shard_seconds: How long a query waits for them.
      updates: A folder whose files change the items of an export of
        `export_live_retrieval`: `.jsonl` and `.parquet`, a row an item, in the order of
        their names and each once. It is looked through every `poll_seconds`.

    Raises:
      ValueError, ImportError: No version there can be loaded, or one that `versions`
        names; files that are no certificate and key; two tokens that are the same.
      OSError: A port is taken.

    Example:
      >>> import tempfile
      >>> users = tf.keras.layers.StringLookup(vocabulary=["ann", "bob"])
      >>> tower = tf.keras.Sequential([users, tf.keras.layers.Embedding(3, 4)])
      >>> index = tn.index.BruteForce(k=2).index(tf.eye(4))
      >>> user = tf.TensorSpec([None], tf.string, name="user")
      >>> path = tempfile.mkdtemp() + "/model"
      >>> _ = tn.index.export_retrieval(path, tower, index, query_signature=user)
      >>> server = tn.serving.Server(path, port=0, grpc_port=0)
      >>> server.start()
      >>> server.stop()
    """

    def __init__(
        self,
        path: PathLike,
        *,
        name: str = "retrieval",
        host: str = "127.0.0.1",
        port: int = 8501,
        grpc_port: int = 8500,
        limits: Limits | None = None,
        poll_seconds: float = 2.0,
        versions: VersionPolicy | None = None,
        reloads: bool = False,
        tls: TlsFiles | None = None,
        cors_origins: Sequence[str] = (),
        logs_answers: bool = False,
        admin_token: AdminToken | None = None,
        query_token: QueryToken | None = None,
        shards: Sequence[Any] = (),
        shard_seconds: float = 1.0,
        updates: PathLike | None = None,
    ) -> None:
        self._host, self._poll_seconds = host, poll_seconds
        self._reloads, self._tls, self._cors_origins = reloads, tls, cors_origins
        if tls is not None:
            tls.check()
        self._grpc_port = grpc_port
        # Before loading, which takes a while.
        self._socket = _bound(host, port)
        # Connections inherit it. asyncio would set it for sockets that it made itself:
        # without, a client that delays its acknowledgements waits 40 ms for an answer.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]
        self.grpc_port: int | None = None
        try:
            self.service = Service(
                path,
                name,
                limits,
                versions,
                logs_answers,
                admin_token,
                query_token,
                shards,
                shard_seconds,
                updates,
            )
        except BaseException:
            self._socket.close()
            raise
        self._started = threading.Event()
        self._error: OSError | None = None
        # There once it has started.
        self._thread: threading.Thread
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    def start(self) -> None:
        """Starts to answer, in threads of its own.

        Until then connections are refused: whoever is accepted finds a warm model.

        Raises:
          OSError: A port is taken.
        """
        try:
            self._socket.listen()
        except OSError:
            self._socket.close()
            self.service.close()
            raise
        self._thread = threading.Thread(target=asyncio.run, args=[self._serve()])
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Stops to listen, lets requests in flight finish, and returns."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        messages, health = await grpc_server(self.service, self._reloads)
        try:
            host = f"[{self._host}]" if ":" in self._host else self._host
            address = f"{host}:{self._grpc_port}"
            if self._tls is None:
                self.grpc_port = messages.add_insecure_port(address)
            else:
                credentials = self._tls.for_grpc()
                self.grpc_port = messages.add_secure_port(address, credentials)
            await messages.start()
        except RuntimeError as error:
            self._error = OSError(
                f"The port {self._grpc_port} of {self._host} cannot be had for gRPC: "
                f"{error}. Choose another."
            )
            self._socket.close()
            self.service.close()
            self._started.set()
            return
        web = uvicorn.Server(
            uvicorn.Config(
                guarded_app(rest_app(self.service, self._cors_origins)),
                http=guarded_protocol(self.service.limits),
                ws="none",
                timeout_keep_alive=self.service.limits.idle_seconds,
                # Its own would write past the handlers, and formats, of the process.
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=_GRACE,
                **({} if self._tls is None else self._tls.for_uvicorn()),
            )
        )
        listening = asyncio.create_task(web.serve(sockets=[self._socket]))
        while not web.started and not listening.done():
            await asyncio.sleep(0.01)
        self.service.watch(self._poll_seconds)
        self._started.set()
        await self._stop.wait()
        web.should_exit = True
        await health.enter_graceful_shutdown()
        await asyncio.gather(listening, messages.stop(_GRACE))
        self.service.close()


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has the address to itself, and does not listen yet."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Else the port would stay taken for a minute after a server ended.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(
            error.errno,
            f"The port {port} of {host!r} cannot be had for REST: {error.strerror}. "
            "Choose another.",
        ) from None
    return bound
