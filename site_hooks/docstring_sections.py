"""The sections of this package's docstrings, in the form that the reference reads.

In the code they are as Keras writes them: `Call arguments:` beside `Args:`, `Returns:`
as prose, and an `Example:`, whose lines begin with `>>>` or are fenced.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_SECTION = re.compile(
    r"^(?P<name>Args|Attributes|Call arguments|Returns|Raises|Reference|Example):\s*$",
    re.MULTILINE,
)


def rewritten(docstring: str) -> str:
    """A docstring with its sections as griffe's Google style has them."""
    pieces = _SECTION.split(docstring)
    text = pieces[0]
    for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
        body = textwrap.dedent(body.strip("\n")).rstrip()
        # Continuation lines are indented by two spaces here, by four in that style.
        wide = re.sub(r"^ +", lambda spaces: 2 * spaces[0], body, flags=re.MULTILINE)
        block = textwrap.indent(body if name == "Example" else wide, "    ")
        if name == "Call arguments":
            text += f"Args: Call arguments\n{block}\n\n"
        elif name == "Example":
            text += f"Examples:\n{block}\n\n"
        elif name in ("Returns", "Reference"):
            text += f"**{name}:**\n\n{body}\n\n"
        else:
            text += f"{name}:\n{block}\n\n"
    return text.rstrip() + "\n"


class DocstringSections(griffe.Extension):
    """Rewrites each docstring as it is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)
