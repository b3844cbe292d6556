"""Pages that are one file, as text and in a browser."""

import html.parser
import re

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
#: A name that would be markup.
EVIL = "</script><script>alert(1)</script> {{styles}} & co"


class Elements(html.parser.HTMLParser):
    """The elements of a page with their attributes, and the cells of its tables.

    Attributes:
      found: (tag, attributes) of each element.
      rows: Texts of the cells of each row of a table.
    """

    def __init__(self, text):
        super().__init__()
        self.found, self.rows, self._row = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag == "tr":
            self._row = []
            self.rows.append(self._row)
        elif tag in ("th", "td") and self._row is not None:
            self._row.append("")

    def handle_endtag(self, tag):
        if tag == "tr":
            self._row = None

    def handle_data(self, data):
        if self._row:
            self._row[-1] += data


def check_needs_nothing_else(text):
    """A page loads nothing from elsewhere."""
    for _, attributes in Elements(text).found:
        assert "src" not in attributes
        assert attributes.get("href", "#")[0] == "#" or attributes["href"] == "data:,"
    addresses = set(re.findall(r"https?://[^\"' <]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # A name, not fetched.
    assert "@import" not in text and "url(" not in text


def open_page(browser, path, width):
    """Opens a page, of which a browser says nothing bad."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []  # Neither errors nor warnings.
    assert browser.execute_script(
        "return performance.getEntriesByType('resource').length"
    ) in (0, 1)  # The icon is data within the page.
