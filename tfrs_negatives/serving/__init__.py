"""Serving an export over TensorFlow Serving's protocols, without Keras.

`RemoteShard`, `Server`, `TlsFiles` and `rest_app` need the extra `serve`; an export
that holds a ScaNN index needs `scann`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tfrs_negatives.serving.bearer_tokens import AdminToken, QueryToken
from tfrs_negatives.serving.server_limits import Limits
from tfrs_negatives.serving.service import Service
from tfrs_negatives.serving.version_policy import VersionPolicy

if TYPE_CHECKING:
    from tfrs_negatives.serving.remote_shard import RemoteShard
    from tfrs_negatives.serving.rest import rest_app
    from tfrs_negatives.serving.server import Server
    from tfrs_negatives.serving.tls_files import TlsFiles

__all__ = [
    "AdminToken",
    "Limits",
    "QueryToken",
    "RemoteShard",
    "Server",
    "Service",
    "TlsFiles",
    "VersionPolicy",
    "rest_app",
]

# What needs the extra, and where it is: imported when it is used.
_WITH_EXTRA = {
    "RemoteShard": "remote_shard",
    "Server": "server",
    "TlsFiles": "tls_files",
    "rest_app": "rest",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_EXTRA:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_WITH_EXTRA[name]}")
    except ImportError as error:
        raise ImportError(
            f"`serving.{name}` needs packages that cannot be imported ({error}). Run "
            "`pip install tfrs_negatives[serve]`."
        ) from error
    return getattr(module, name)
