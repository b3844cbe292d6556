"""The arguments of `tfrs-negatives serve`."""

from __future__ import annotations

import argparse
from typing import Any

from tfrs_negatives.cli.argument_parts import TRUST, number, positive


def add_serve(commands: Any) -> None:
    """Adds the command to where commands are added."""
    parser = commands.add_parser(
        "serve",
        help="answer over TensorFlow Serving's REST and gRPC protocols",
        description=(
            "Serves an exported model over TensorFlow Serving's protocols, and new "
            "versions of it as they appear. Needs the extra serve."
        ),
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help=(
            "what train wrote, an export, or a folder of versions (1, 2, ...), new "
            f"ones included; {TRUST}"
        ),
    )
    port = number(int, 0, "a port from 0 to 65535", most=65535)
    add("--name", help="what clients call the model")
    add("--host", help="the address to listen on; 0.0.0.0 for all")
    add("--port", type=port, help="for REST; 0 takes a free one")
    add("--grpc-port", type=port, help="for gRPC; 0 takes a free one")
    add(
        "--poll-seconds",
        type=number(float, 0, "a number above 0", exclusive=True),
        help="how often to look for new versions",
    )
    version = number(int, 0, "the number of a version", most=2**63 - 1)
    add = parser.add_argument_group("versions").add_argument
    add(
        "--versions",
        type=version,
        nargs="+",
        metavar="N",
        help="serve these alone, such as one that is pinned (else: the highest)",
    )
    add("--latest", type=positive, metavar="COUNT", help="serve so many of the highest")
    add(
        "--label",
        type=_label,
        action="append",
        metavar="LABEL=N",
        help="a label that clients may name a version by; may be repeated",
    )
    add(
        "--reload",
        action="store_true",
        help=(
            "let clients change which versions are served, and their labels, over "
            "gRPC (HandleReloadConfigRequest): whoever reaches the port may, or with a "
            "token whoever names it"
        ),
    )
    add = parser.add_argument_group("transport and logs").add_argument
    add("--tls-certificate", metavar="FILE", help="PEM, for both protocols")
    add("--tls-key", metavar="FILE", help="its private key, PEM")
    add(
        "--tls-client-ca",
        metavar="FILE",
        help="who vouches for clients, which then must have a certificate; PEM",
    )
    add(
        "--cors-origin",
        action="append",
        metavar="ORIGIN",
        help=(
            "an origin whose pages may ask over REST, such as https://shop.example, or "
            "*; may be repeated"
        ),
    )
    add("--access-log", action="store_true", help="log each answer")
    add("--log-format", choices=("text", "json"), help="lines of the log")
    add = parser.add_argument_group("who may ask").add_argument
    add(
        "--query-token-file",
        metavar="FILE",
        help=(
            "answer only clients who name the token in this file, over both protocols "
            "(Authorization: Bearer TOKEN)"
        ),
    )
    add("--query-token-env", metavar="NAME", help="the same, of a variable's token")
    add = parser.add_argument_group("items that change").add_argument
    add(
        "--admin-token-file",
        metavar="FILE",
        help=(
            "let clients who name the token in this file change items (POST :upsert "
            "and :delete); else items are followed that another process changes"
        ),
    )
    add("--admin-token-env", metavar="NAME", help="the same, of a variable's token")
    add(
        "--updates",
        metavar="FOLDER",
        help=(
            "change items by the files that appear in this folder, JSON lines (.jsonl) "
            "or .parquet, a row an item, in the order of their names and each once"
        ),
    )
    add = parser.add_argument_group("items in shards").add_argument
    add(
        "--shard",
        action="append",
        metavar="HOST:PORT[,HOST:PORT]",
        help=(
            "where a shard is served over gRPC, and replicas of it; once for each "
            "shard of a query tower"
        ),
    )
    add(
        "--shard-seconds",
        type=number(float, 0, "a number above 0", exclusive=True),
        help="how long a query waits for shards",
    )
    add("--shard-name", help="what the shards' servers call the model (else: --name)")
    add("--shard-token-file", metavar="FILE", help="the query token of the shards")
    add(
        "--shard-tls-ca",
        metavar="FILE",
        help="who vouches for the shards' certificates; PEM. Asks them over TLS",
    )
    add = parser.add_argument_group("limits").add_argument
    add("--max-batch", type=positive, help="rows of a request, or answered together")
    add(
        "--max-wait-ms",
        type=number(float, 0, "a number of at least 0"),
        help="how long a request waits for others, while a thread is idle",
    )
    add("--max-waiting", type=positive, help="requests that wait for a thread")
    add("--max-answers", type=positive, help="rows of a request times k")
    add("--max-exclusions", type=positive, help="rows of a request times exclusions")
    add("--max-filters", type=positive, help="different filters of a request")
    add("--max-values", type=positive, help="numbers and strings of a request")
    add("--max-request-bytes", type=positive, help="size of a request")
    add(
        "--max-bytes-in-flight",
        type=positive,
        help="bodies and answers in memory at a time",
    )
    add("--max-connections", type=positive, help="connections at a time")
    seconds = number(float, 0, "a number above 0", exclusive=True)
    add("--head-seconds", type=seconds, help="how long the head of a request may take")
    add("--body-seconds", type=seconds, help="how long the body of a request may take")
    add("--idle-seconds", type=positive, help="silence between requests")
    add("--threads", type=positive, help="batches at a time (else: processors)")
    # As `serving.Server` and `serving.Limits` have them, which are not imported here.
    parser.set_defaults(
        name="retrieval",
        host="127.0.0.1",
        port=8501,
        grpc_port=8500,
        poll_seconds=2.0,
        versions=[],
        latest=1,
        label=[],
        shard=[],
        shard_seconds=1.0,
        cors_origin=[],
        log_format="text",
        max_batch=256,
        max_wait_ms=0.0,
        max_waiting=1024,
        max_answers=100_000,
        max_exclusions=100_000,
        max_filters=16,
        max_values=2**17,
        max_request_bytes=4 * 2**20,
        max_bytes_in_flight=32 * 2**20,
        max_connections=1024,
        head_seconds=10.0,
        body_seconds=10.0,
        idle_seconds=5,
    )


def check_serve(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends with an error where options do not go together."""
    if options.versions and options.latest != 1:
        parser.error("--versions and --latest exclude each other: leave one out")
    if (options.tls_certificate is None) != (options.tls_key is None):
        parser.error("--tls-certificate and --tls-key go together: pass both")
    if options.admin_token_file is not None and options.admin_token_env is not None:
        parser.error("--admin-token-file and --admin-token-env exclude each other")
    if options.query_token_file is not None and options.query_token_env is not None:
        parser.error("--query-token-file and --query-token-env exclude each other")
    if not options.shard and (
        options.shard_token_file or options.shard_tls_ca or options.shard_name
    ):
        parser.error("--shard-name, --shard-token-file and --shard-tls-ca need --shard")
    if options.tls_client_ca is not None and options.tls_key is None:
        parser.error("--tls-client-ca needs --tls-certificate and --tls-key")


def _label(text: str) -> tuple[str, int]:
    label, _, version = text.rpartition("=")
    if (
        not label
        or not (version.isascii() and version.isdecimal())
        or len(version) > 18
    ):
        raise argparse.ArgumentTypeError(
            f"expected LABEL=N, such as stable=3, received {text!r}"
        )
    return label, int(version)
