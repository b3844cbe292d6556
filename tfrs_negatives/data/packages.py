"""Packages that only some uses of this one need."""

from __future__ import annotations

import importlib
from typing import Any


def import_package(package: str, extra: str) -> Any:
    """A package that only some uses need, or an `ImportError` that says so.

    Args:
      package: What to import.
      extra: The extra of this package that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"This needs the package {package}, which cannot be imported "
            f"({first_line(error)}). Run `pip install tfrs_negatives[{extra}]`."
        ) from error


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its name."""
    return (str(error).splitlines() or [type(error).__name__])[0]
