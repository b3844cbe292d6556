"""Pages of the site that lie outside of `docs`, and links to files that do.

The README is the site's first page. Every page keeps the links that work in the
repository: here each becomes a link to where the file is on the site, and a file that
is no page is copied to the site as it is.
"""

from __future__ import annotations

import os
import pathlib
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parents[1]

# Where each file of the repository is on the site.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
}
_SOURCES = {place: source for source, place in PAGES.items()}

_FENCED = re.compile(r"(^ *```.*?^ *```[^\n]*\n?)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s:]+)(?=[)#])")


def source_of(place: str) -> str:
    """The file of the repository that a page of the site is made of."""
    return _SOURCES.get(place, f"docs/{place}")


def place_of(source: str) -> str:
    """Where a file of the repository is on the site. A notebook is a page there."""
    place = PAGES.get(source, source.removeprefix("docs/"))
    return place.removesuffix(".ipynb") + ".md" if place.endswith(".ipynb") else place


def with_links_of_the_site(markdown: str, place: str) -> tuple[str, set[str]]:
    """Turns a page's links to files of the repository.

    Args:
      markdown: The page.
      place: Where it is on the site, such as "log_q.md".

    Returns:
      `(markdown, sources)`: the page with links of the site, and the files outside of
      `docs` that it links to, of the repository.
    """
    folder = os.path.dirname(source_of(place))
    outside = set()

    def turned(match: re.Match[str]) -> str:
        source = os.path.normpath(os.path.join(folder, match["path"]))
        if source.startswith("..") or not (ROOT / source).is_file():
            return match["path"]  # MkDocs says that it is broken.
        if not source.startswith("docs/"):
            outside.add(source)
        return os.path.relpath(place_of(source), os.path.dirname(place) or ".")

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(turned, text) for text in parts[::2]]
    return "".join(parts), outside


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, place in PAGES.items():
        path = str(ROOT / source)
        files.append(File.generated(config, place, abs_src_path=path))
    outside: set[str] = set()
    for file in files.documentation_pages():
        outside |= with_links_of_the_site(file.content_string, file.src_uri)[1]
    for source in sorted(outside - set(PAGES)):
        path = str(ROOT / source)
        files.append(File.generated(config, source, abs_src_path=path))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    return with_links_of_the_site(markdown, page.file.src_uri)[0]
