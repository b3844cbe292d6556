"""The fenced blocks of the README and the pages of documentation."""

import dataclasses
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# A comment on the line before says why a block cannot run.
_BLOCK = re.compile(
    r"^(?:<!-- Not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
      page: Its page, such as "docs/retrieval_index.md".
      line: The number of its first line.
      language: "python", "sh", "diff", ... or "".
      text: What it holds.
      reason: Why it cannot run, or None.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    def code(self):
        """Compiled, so that tracebacks point at the page."""
        # Lines before it, so that numbers are the page's.
        return compile("\n" * (self.line - 1) + self.text, self.page, "exec")


def blocks(language):
    """All blocks of a language, in order."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            if match["language"] == language:
                line = text.count("\n", 0, match.start("text")) + 1
                name = str(page.relative_to(ROOT))
                block = Block(name, line, language, match["text"], match["reason"])
                found.append(block)
    return found
