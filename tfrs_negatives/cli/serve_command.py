"""`tfrs-negatives serve`: answers over TensorFlow Serving's protocols."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import logging
import signal
import threading
from typing import Any

from tfrs_negatives.cli.command_error import CommandError, told_in_one_line
from tfrs_negatives.cli.query_command import find_served


def serve(options: argparse.Namespace) -> None:
    """Runs the command, until the process is told to end (SIGTERM or SIGINT).

    Args:
      options: Namespace from `arguments.parse`.

    Raises:
      CommandError: No model there, the extra is not installed, a port is taken.
    """
    path = find_served(options.model)
    try:
        from tfrs_negatives.serving import (
            AdminToken,
            Limits,
            QueryToken,
            RemoteShard,
            Server,
            TlsFiles,
            VersionPolicy,
        )
    except ImportError as error:
        raise CommandError(
            "Serving needs packages that cannot be imported "
            f"({error.__cause__ or error}). Run `pip install tfrs_negatives[serve]`."
        ) from error
    _log_to_stderr(options.log_format)
    limits = {
        field.name: getattr(options, field.name) for field in dataclasses.fields(Limits)
    }
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    tls = None
    if options.tls_key is not None:
        tls = TlsFiles(options.tls_certificate, options.tls_key, options.tls_client_ca)
    with told_in_one_line():
        admin_token = query_token = None
        if options.admin_token_file is not None:
            admin_token = AdminToken.from_file(options.admin_token_file)
        if options.admin_token_env is not None:
            admin_token = AdminToken.from_environment(options.admin_token_env)
        if options.query_token_file is not None:
            query_token = QueryToken.from_file(options.query_token_file)
        if options.query_token_env is not None:
            query_token = QueryToken.from_environment(options.query_token_env)
        secrets: dict[str, Any] = {}
        if options.shard_token_file is not None:
            secrets["token"] = _content(options.shard_token_file).decode().strip()
        if options.shard_tls_ca is not None:
            secrets["certificates"] = _content(options.shard_tls_ca)
        name = options.shard_name or options.name
        shards = [RemoteShard(each, name, **secrets) for each in options.shard]
        server = Server(
            path,
            name=options.name,
            host=options.host,
            port=options.port,
            grpc_port=options.grpc_port,
            limits=Limits(**limits),
            poll_seconds=options.poll_seconds,
            versions=VersionPolicy(
                options.latest, tuple(options.versions), dict(options.label)
            ),
            reloads=options.reload,
            tls=tls,
            cors_origins=options.cors_origin,
            logs_answers=options.access_log,
            admin_token=admin_token,
            query_token=query_token,
            shards=shards,
            shard_seconds=options.shard_seconds,
            updates=options.updates,
        )
        # What lives as long as the server is no garbage: going through it would stall
        # answers for a quarter of a second.
        gc.collect()
        gc.freeze()
        server.start()
    print(
        f"Serving {path} as {options.name!r}: REST at "
        f"http{'s' if tls else ''}://{options.host}:"
        f"{server.port}/v1/models/{options.name}, gRPC at {options.host}:"
        f"{server.grpc_port}",
        flush=True,
    )
    ended.wait()
    server.stop()


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _log_to_stderr(form: str) -> None:
    from tfrs_negatives.serving.monitoring import JsonLines

    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonLines() if form == "json" else logging.Formatter("%(asctime)s %(message)s")
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO)
