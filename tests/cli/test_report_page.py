"""The report of a training, as text and in a browser."""

import json
import re

import pytest
from html_pages import EVIL, Elements, check_needs_nothing_else, open_page

from tfrs_negatives.cli import report_page, row_names
from tfrs_negatives.recommender.example_users import ExampleUser


def test_report_needs_nothing_else(trained):
    check_needs_nothing_else((trained[0] / "report.html").read_text())


def test_report_has_the_table_the_discounts_and_users(trained):
    folder, printed = trained
    written = json.loads((folder / "figures.json").read_text())
    text = (folder / "report.html").read_text()
    rows = Elements(text).rows
    assert rows[0] == ["", *written["figures"]]
    table = {row[0]: row[1:] for row in rows}
    for name in ("recall@50", "mrr@100", "coverage@10", "vector width"):
        [line] = [n for n in printed.splitlines() if n.startswith(f"{name}  ")]
        assert table[name] == re.split(r"\s{2,}", line)[1:]
    assert len(written["popularity"]["discounts"]) == 11
    for of in written["popularity"]["discounts"]:
        cells = table[str(of["popularity_discount"])]
        assert cells[1].startswith(f"{of['figures']['tail recall@50']['mean']:.4f}")
    # Without a discount it is what the table says.
    assert table["0.0"][:3] == [
        table[name][-1] for name in ("recall@50", "tail recall@50", "coverage@10")
    ]
    assert "<b>-</b>" not in text
    examples = re.findall(r"<article>.*?</article>", text)
    assert len(examples) == 5
    for example in examples:
        lists = [re.findall(r"<li>(.*?)</li>", part) for part in example.split("<h4>")]
        assert [len(items) for items in lists[1:]] == [5, 5, 5]
        assert all(re.fullmatch(r"Thing \d+", item) for item in sum(lists, []))
        last, ours, popular = map(set, lists[1:])
        assert not last & (ours | popular)  # Nothing that the user has.
    for note in written["notes"]:
        assert note.removeprefix("note: ")[1:] in text


@pytest.fixture
def evil(trained):
    """What was written with names that are markup."""
    written = json.loads((trained[0] / "figures.json").read_text())
    written["data"]["data"] = EVIL
    written["notes"] = [f"note: {EVIL}"]
    return report_page.page(written, [ExampleUser(EVIL, [EVIL], [EVIL, "\x1b[2J"], [])])


def test_names_are_text(evil):
    assert "<script>alert" not in evil
    assert evil.count("alert(1)") == 6
    assert "\x1b" not in evil


def test_least_report(trained):
    """Ours alone, no times, no validation."""
    written = json.loads((trained[0] / "figures.json").read_text())
    written["figures"] = {row_names.OURS: written["figures"][row_names.OURS]}
    written["validation"] = {row_names.OURS: [[]]}
    written["data"]["times"] = None
    written["popularity"]["chosen"] = None
    for of in written["popularity"]["discounts"]:
        of["validation"] = None
    text = report_page.page(written, [])
    assert "No discount was chosen" in text
    num_users = written["data"]["users evaluated"]
    assert f"Measured on {num_users} users. " in text
    assert "<b>" not in text  # Nothing to be better than.


def test_a_sample_of_users_is_called_one(trained):
    written = json.loads((trained[0] / "figures.json").read_text())
    written["popularity"]["users"] = 7
    written["data"]["users evaluated"] = 1234
    text = report_page.page(written, [])
    assert "Measured on a random sample of 7 of the 1,234 evaluated users. " in text


@pytest.mark.parametrize("width", [1100, 360])
def test_plots_are_drawn(browser, trained, evil, tmp_path, width):
    (tmp_path / "evil.html").write_text(evil)
    for path in (trained[0] / "report.html", tmp_path / "evil.html"):
        open_page(browser, path, width)
        curves, dial = browser.find_elements("css selector", "figure svg")
        # Two seeds of three models; three figures, and those of TFRS.
        assert len(curves.find_elements("css selector", "path[fill=none]")) == 6
        assert len(dial.find_elements("css selector", "path[fill=none]")) == 6
        assert "NaN" not in browser.page_source
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width
    assert browser.find_element("css selector", "h1").text == EVIL
