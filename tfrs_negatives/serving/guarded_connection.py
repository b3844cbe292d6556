"""HTTP connections that end when their clients do not go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from tfrs_negatives.serving.server_limits import Limits

_Scope: TypeAlias = MutableMapping[str, Any]
_App: TypeAlias = Callable[[_Scope, Any, Any], Awaitable[None]]

# Of the head of a request: asyncio and httptools would take any number.
_MOST_HEAD_BYTES = 2**16
# Bytes that are parsed in one step of the event loop. Of a body in chunks, a client can
# make every byte a chunk.
_READ_BYTES, _READ_CHUNKED_BYTES = 2**14, 2**10
# Such a body may have so many times its bytes on the wire, beyond the first 64 KiB.
_MOST_FRAMING = 4
# Seconds between looks at whether an answer has gone.
_LOOK = 0.05

ANSWER_SENT = "tfrs_negatives.answer_sent"

# In the state of a request, where uvicorn lets a protocol put something.
_KEY = "guarded_connection"


def guarded_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """uvicorn's protocol, with bounds on time and number.

    A connection that waits for (the rest of) the head of a request is closed after
    `limits.head_seconds`. Of more than `limits.max_connections`, the one that has
    waited longest is closed.

    The application must be a `guarded_app`.
    """
    # Of one server: when waits end, the longest wait first. One look at all of them
    # now and then costs a request less than a timer for each.
    waiting: dict[GuardedConnection, float] = {}
    count = 0
    look_again = min(limits.head_seconds, limits.idle_seconds) / 8
    timer: asyncio.TimerHandle | None = None

    def close_expired(loop: asyncio.AbstractEventLoop) -> None:
        nonlocal timer
        now = loop.time()
        for connection in [one for one, end in waiting.items() if end <= now]:
            del waiting[connection]
            connection.transport.abort()
        timer = loop.call_later(look_again, close_expired, loop) if count else None

    class GuardedConnection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        def __init__(
            self,
            config: Any,
            server_state: Any,
            app_state: dict[str, Any],
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> None:
            super().__init__(config, server_state, {**app_state, _KEY: self}, _loop)
            self.is_lost = False
            self._requests = 0
            self._head_bytes = 0
            self._refused_body = False
            self._is_chunked = False
            # Of the request that is read.
            self._wire_bytes = self._body_bytes = 0

        def connection_made(self, transport: Any) -> None:
            nonlocal count
            count += 1
            if timer is None:
                close_expired(self.loop)
            super().connection_made(transport)
            self._read_at_most(_READ_BYTES)
            if count > limits.max_connections:
                longest = next(iter(waiting), self)
                longest.transport.abort()
                waiting.pop(longest, None)
            if not transport.is_closing():
                self._wait(limits.head_seconds)

        def connection_lost(self, exc: Exception | None) -> None:
            nonlocal count
            count -= 1
            self.is_lost = True
            self._go_on()
            super().connection_lost(exc)
            # The state refers to this object.
            self.app_state: dict[str, Any] = {}

        def data_received(self, data: bytes) -> None:
            if self in waiting:
                if not self._head_bytes:
                    self._wait(limits.head_seconds)
                self._head_bytes += len(data)
            super().data_received(data)
            # Still there: all of it belonged to the head. What is left of a body that
            # was refused is dropped: clients may read answers after they have sent.
            if self._head_bytes > _MOST_HEAD_BYTES and not self._refused_body:
                self.transport.abort()
            if self._is_chunked:
                self._wire_bytes += len(data)
                sensible = 2**16 + _MOST_FRAMING * self._body_bytes
                if self._wire_bytes > sensible:
                    self.transport.abort()

        def request_begins(self, is_chunked: bool) -> None:
            self._requests += 1
            if is_chunked != self._is_chunked:
                self._is_chunked = is_chunked
                self._read_at_most(_READ_CHUNKED_BYTES if is_chunked else _READ_BYTES)
            self._wire_bytes = self._body_bytes = 0
            self._refused_body = False
            self._go_on()

        def body_received(self, size: int) -> None:
            self._body_bytes += size

        async def answer_sent(self) -> None:
            """Waits until the answer has gone; a client must take it in time."""
            until = self.loop.time() + limits.head_seconds
            while self.transport.get_write_buffer_size():
                if self.loop.time() > until:
                    self.transport.abort()
                    return
                await asyncio.sleep(_LOOK)

        def request_ends(self, refused_body: bool) -> None:
            self._requests -= 1
            if not self._requests and not self.transport.is_closing():
                self._refused_body = refused_body
                self._wait(limits.idle_seconds)

        def _read_at_most(self, size: int) -> None:
            if hasattr(self.transport, "max_size"):  # asyncio's; uvloop has none.
                self.transport.max_size = size

        def _wait(self, seconds: float) -> None:
            self._go_on()
            waiting[self] = self.loop.time() + seconds

        def _go_on(self) -> None:
            waiting.pop(self, None)
            self._head_bytes = 0

    return GuardedConnection


def guarded_app(app: _App) -> _App:
    """An ASGI application that tells its connections when requests begin and end.

    It puts a function into `scope[ANSWER_SENT]`, to wait for until the client has taken
    the answer.
    """

    async def guarded(scope: _Scope, receive: Any, send: Any) -> None:
        connection = scope["state"].pop(_KEY)
        names = [name for name, _ in scope["headers"]]
        is_chunked = b"transfer-encoding" in names
        has_body = is_chunked or b"content-length" in names

        async def watched() -> Any:
            nonlocal has_body
            message = await receive()
            has_body = message.get("more_body", False)
            connection.body_received(len(message.get("body", b"")))
            return message

        if connection.transport.is_closing():
            # What followed was no HTTP, and uvicorn has answered: once the connection
            # is lost it expects no other answer.
            while not connection.is_lost:
                await asyncio.sleep(_LOOK)
            return
        scope[ANSWER_SENT] = connection.answer_sent
        connection.request_begins(is_chunked)
        try:
            await app(scope, watched if has_body else receive, send)
        finally:
            connection.request_ends(refused_body=has_body)

    return guarded
