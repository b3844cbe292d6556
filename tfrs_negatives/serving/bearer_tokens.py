"""Secrets that those must name who ask, and those who change items."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from tfrs_negatives.serving.request_error import RequestError
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    from typing_extensions import Self

_FEWEST, _MOST = 16, 4096

# What a header can hold of a bearer token (RFC 6750, section 2.1).
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class _BearerToken:
    """A secret, of which only a digest is kept."""

    role: ClassVar[str]

    def __init__(self, token: str) -> None:
        if not isinstance(token, str) or not (
            _FEWEST <= len(token) <= _MOST and _TOKEN.fullmatch(token)
        ):
            # The token itself is not repeated: messages end up in logs.
            size = f"{len(token)}" if isinstance(token, str) else "no text"
            raise ValueError(
                f"The {self.role} token must have {_FEWEST} to {_MOST} letters, digits "
                f"and -._~+/ (and = at its end), received {size}, or others. Make one, "
                "for instance by `openssl rand -hex 32`."
            )
        self._digest = _digest(token)

    @classmethod
    def from_file(cls, path: PathLike) -> Self:
        """The token that a file holds; white space around it does not count.

        Raises:
          ValueError: It cannot be read, or is no token.
        """
        try:
            with open(path, encoding="ascii") as file:
                text = file.read(2 * _MOST)
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"Expected a file with the {cls.role} token, received "
                f"{os.fspath(path)!r}, which cannot be read ({error})."
            ) from error
        return cls(text.strip())

    @classmethod
    def from_environment(cls, name: str) -> Self:
        """The token that an environment variable holds.

        Raises:
          ValueError: There is no such variable, or it is no token.
        """
        text = os.environ.get(name)
        if text is None:
            raise ValueError(
                f"Expected the {cls.role} token in the environment variable {name}, "
                "which is not set. Set it, or name a file."
            )
        return cls(text.strip())

    def check(self, fields: Sequence[str]) -> None:
        """Raises `RequestError` unless a request names the token.

        The time this takes says nothing of the token.

        Args:
          fields: The request's `Authorization` fields.
        """
        scheme, _, given = fields[0].partition(" ") if len(fields) == 1 else ("",) * 3
        is_token = hmac.compare_digest(_digest(given.strip()), self._digest)
        if scheme.lower() != "bearer" or not is_token:
            raise RequestError(
                "Expected the field `Authorization: Bearer TOKEN` with the "
                f"{self.role} token, received none or another.",
                "UNAUTHENTICATED",
            )

    def is_same(self, other: _BearerToken) -> bool:
        """Whether another token, of whatever role, is the same secret."""
        return hmac.compare_digest(self._digest, other._digest)


class AdminToken(_BearerToken):
    """A secret that those must name who change items or versions.

    Only a digest of it is kept.

    Args:
      token: 16 characters or more: letters, digits and `-._~+/`, and `=` at the end.

    Raises:
      ValueError: It is shorter, or has other characters.

    Example:
      >>> token = tn.serving.AdminToken("a-long-secret-of-your-own")
      >>> token.check(["Bearer a-long-secret-of-your-own"])
    """

    role = "admin"


class QueryToken(_BearerToken):
    """A secret that those must name who ask for predictions or signatures.

    Only a digest of it is kept.

    Args:
      token: 16 characters or more: letters, digits and `-._~+/`, and `=` at the end.

    Raises:
      ValueError: It is shorter, or has other characters.

    Example:
      >>> token = tn.serving.QueryToken("another-secret-of-your-own")
      >>> token.check(["Bearer another-secret-of-your-own"])
    """

    role = "query"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
