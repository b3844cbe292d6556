"""The page, as text and in a browser."""

import json
import re

import numpy as np
import pytest
from html_pages import EVIL, check_needs_nothing_else
from html_pages import open_page as show
from mixture_oracle import gradient_by_row

from tfrs_negatives import audit


@pytest.fixture(scope="module")
def reports(make_table, make_model):
    """Reports with and without a model."""
    table = make_table(num_rows=400, num_items=60, num_users=20)
    options = {"batch_sizes": [32, 64, 128], "spread_buffer": 4, "progress": False}
    with_model = audit.measure(
        table, make_model(table), num_probes=40, temperature=0.5, **options
    )
    return {"model": with_model, "table": audit.measure(table, **options)}


def test_page_needs_nothing_else(reports):
    check_needs_nothing_else(audit.page(reports["model"]))


def test_page_holds_the_report_whatever_its_name(reports):
    report = json.loads(json.dumps(reports["table"]))
    report["table"]["name"] = EVIL
    text = audit.page(report)
    assert "<script>alert" not in text
    data = re.search(
        r'<script type="application/json" id="report">(.*?)</script>', text
    )
    assert json.loads(data.group(1)) == report


@pytest.fixture
def opened(browser, reports, tmp_path):
    """Opens a report's page at a width."""

    def open_page(name, width=1100, report=None):
        path = tmp_path / "audit.html"
        path.write_text(audit.page(report or reports[name]), encoding="utf-8")
        show(browser, path, width)
        return browser

    return open_page


def text_of(browser, name):
    return browser.find_element("id", name).text


def numbers(text):
    """The numbers of a text, percentages as shares."""
    found = re.findall(r"(\d[\d,.]*)(%?)", text)
    return [
        float(n.strip(",.").replace(",", "")) / (100 if sign else 1)
        for n, sign in found
    ]


def press(browser, name, key, times=1):
    """Presses a key on a slider that has the focus."""
    element = browser.find_element("id", name)
    browser.execute_script("arguments[0].focus()", element)
    element.send_keys(key * times)


def test_sliders_move_the_numbers_and_the_diagnosis(opened, reports):
    from selenium.webdriver.common.keys import Keys

    report = reports["model"]
    browser = opened("model")
    before = text_of(browser, "diagnosis"), text_of(browser, "verdict")
    assert "gradient" in before[0]
    # Only hard negatives, from the very best ranks.
    press(browser, "in_batch", Keys.HOME)
    press(browser, "uniform", Keys.HOME)
    assert text_of(browser, "verdict") == "No negatives"
    press(browser, "hard", Keys.END)
    press(browser, "last", Keys.HOME)
    edges = report["model"]["hard"]["edges"]
    band = report["model"]["hard"]["all"][0]
    assert numbers(text_of(browser, "last-value")) == [edges[1]]
    assert numbers(text_of(browser, "false-rate")) == [
        pytest.approx(band["false_negative_rate"], abs=6e-4)
    ]
    after = text_of(browser, "diagnosis"), text_of(browser, "verdict")
    assert after[0] != before[0]
    assert after[1] == "Hard negatives dominate, and too many are positives"
    assert "100% of the negatives and carry 100% of the gradient" in after[0]
    # Half in-batch, and the best ranks skipped.
    press(browser, "in_batch", Keys.END)
    press(browser, "last", Keys.END)
    press(browser, "skip", Keys.ARROW_RIGHT, 2)
    assert numbers(text_of(browser, "skip-value")) == [edges[2]]
    expected = gradient_by_row(
        report, "request_sorted", 64, "keys", (1, 0, 1), edges[2], edges[-1]
    )
    shown = numbers(text_of(browser, "gradient-bar"))
    np.testing.assert_allclose(shown, expected[[0, 2]] / expected.sum(), atol=6e-4)
    assert text_of(browser, "diagnosis") != after[0]
    # "Skip" cannot pass "down to": it takes it along.
    press(browser, "last", Keys.HOME)
    press(browser, "skip", Keys.END)
    assert numbers(text_of(browser, "last-value")) == [edges[-1]]
    assert browser.get_log("browser") == []


def test_every_mixture_is_that_of_the_report(opened, reports):
    report = reports["model"]
    browser = opened("model")
    edges = report["model"]["hard"]["edges"]
    rng = np.random.default_rng(0)
    for order in ("shuffled", "request_sorted", "spread"):
        for level in ("none", "accidental_hits", "keys", "known_positives"):
            shares = rng.integers(0, 100, 3).tolist()
            skip, last = sorted(rng.choice(edges, 2, replace=False).tolist())
            state = {"order": order, "size": 128, "level": level}
            state |= {"skip": skip, "last": last}
            state["shares"] = dict(
                zip(("in_batch", "uniform", "hard"), shares, strict=True)
            )
            found = browser.execute_script(
                "const m = mix(report, arguments[0]);"
                "return [Object.values(m.gradient), m.probability,"
                " m.falseRate, m.tail]",
                state,
            )
            expected = gradient_by_row(report, order, 128, level, shares, skip, last)
            np.testing.assert_allclose(found[0], expected / expected.sum())
            assert found[1] == pytest.approx(expected.sum())
            same = audit.mixture(report, order, 128, level, shares, skip, last)
            assert found[2] == pytest.approx(same["false_negative_rate"]["all"])
            assert found[3] == pytest.approx(same["tail_share"]["all"])


def test_a_low_temperature_leaves_numbers(opened, make_table, make_model):
    table = make_table(num_rows=400, num_items=60, num_users=20)
    report = audit.measure(
        table, make_model(table), batch_sizes=[64], orders=["shuffled"],
        num_probes=40, temperature=0.001, progress=False,
    )  # fmt: skip
    browser = opened("model", report=report)
    last = report["model"]["hard"]["edges"][-1]
    expected = gradient_by_row(report, "shuffled", 64, "keys", (1, 1, 0), 0, last)
    shown = numbers(text_of(browser, "gradient-bar"))
    np.testing.assert_allclose(shown, expected[:2] / expected.sum(), atol=6e-4)
    assert "NaN" not in browser.find_element("css selector", "body").text


def test_masks_change_the_false_negatives(opened, reports):
    from selenium.webdriver.common.keys import Keys

    browser = opened("table")
    press(browser, "uniform", Keys.HOME)
    shown = []
    for presses in (0, 2, 1):
        press(
            browser,
            "level",
            Keys.HOME if presses == 0 else Keys.ARROW_DOWN,
            presses or 1,
        )
        shown += numbers(text_of(browser, "false-rate"))
    setting = next(
        s for s in reports["table"]["settings"]
        if (s["order"], s["batch_size"]) == ("request_sorted", 64)
    )  # fmt: skip
    levels = setting["levels"]
    assert shown == [
        pytest.approx(levels["none"]["false_negative_rate"]["value"], abs=6e-4),
        pytest.approx(levels["keys"]["false_negative_rate"]["value"], abs=6e-4),
        0,
    ]


def test_without_a_model_the_page_says_what_needs_one(opened):
    from selenium.webdriver.common.keys import Keys

    browser = opened("table")
    assert "needs a model" in text_of(browser, "gradient-note")
    assert not browser.find_element("id", "ranks").is_displayed()
    assert not browser.find_element("id", "gradient-bar").is_displayed()
    assert numbers(text_of(browser, "negatives-bar"))  # Counts instead.
    press(browser, "hard", Keys.END)
    assert "needs a model" in text_of(browser, "diagnosis")
    assert text_of(browser, "false-rate") == "–"
    assert "Hard needs a model" in text_of(browser, "false-parts")


def test_distinct_users_and_items_are_shown(opened, reports):
    """In the plot, with bars where batches were sampled, and in the table."""
    report = json.loads(json.dumps(reports["table"]))
    for setting in report["settings"]:
        for what, error in (("users", 1.6), ("items", 0.8)):
            setting[f"distinct_{what}"]["standard_error"] = error
    browser = opened("table", report=report)
    (figure,) = browser.find_elements(
        "xpath", "//figure[contains(., 'Distinct users and items')]"
    )
    shown = [
        title.get_attribute("textContent").split(": ")
        for title in figure.find_elements("css selector", "svg title")
    ]
    expected = [
        (
            f"{setting['order'].replace('_', '-')}, {setting['batch_size']}",
            setting[f"distinct_{what}"]["value"] / setting["batch_size"],
        )
        for what in ("users", "items")
        for setting in report["settings"]
    ]
    assert [point for point, _ in shown] == [point for point, _ in expected]
    np.testing.assert_allclose(
        [numbers(text)[0] for _, text in shown],
        [share for _, share in expected],
        atol=6e-4,
    )
    bars = browser.execute_script(
        "return [...arguments[0].querySelectorAll('line:not(.grid)')]"
        ".map((l) => l.getAttribute('y1') - l.getAttribute('y2'))",
        figure,
    )
    assert len(bars) == len(expected)
    errors = [
        error / setting["batch_size"]
        for error in (1.6, 0.8)
        for setting in report["settings"]
    ]
    np.testing.assert_allclose(np.array(bars) / bars[0], np.array(errors) / errors[0])
    rows = browser.find_elements("css selector", "#table tbody tr")
    for row, setting in zip(rows, report["settings"], strict=True):
        cells = row.find_elements("css selector", "td")[1:4]
        names = ("distinct_users", "distinct_requests", "distinct_items")
        np.testing.assert_allclose(
            [float(cell.text) for cell in cells],
            [setting[name]["value"] for name in names],
            atol=0.5,
        )


def test_repeats_are_advised_on(opened, make_table):
    table = make_table(num_rows=2048, num_items=300, num_users=30)
    report = audit.measure(
        table, batch_sizes=[2048], orders=["request_sorted"], progress=False
    )
    (one,) = (
        o for o in report["recommendations"] if o["threshold"] == "distinct_loss_factor"
    )
    advice = text_of(opened("table", report=report), "advice")
    assert one["setting"] in advice and one["reason"] in advice
    assert "threshold 1.5 (distinct loss factor)" in advice


def test_keyboard_and_screen_readers(opened):
    from selenium.webdriver.common.keys import Keys

    browser = opened("model")
    for element in browser.find_elements("css selector", "input, select"):
        assert element.accessible_name
    press(browser, "hard", Keys.ARROW_RIGHT)
    hard = browser.find_element("id", "hard")
    assert hard.value_of_css_property("outline-style") == "solid"
    assert "a row" in hard.get_attribute("aria-valuetext")
    status = browser.find_element("css selector", "[aria-live=polite]")
    assert text_of(browser, "diagnosis") in status.text
    for plot in browser.find_elements("css selector", "figure svg"):
        assert plot.get_attribute("aria-label")
    assert len(browser.find_elements("css selector", "figure svg")) == 5


@pytest.mark.parametrize("width", [320, 375, 800])
def test_page_fits_a_phone(opened, width):
    browser = opened("model", width)
    assert (
        browser.execute_script("return document.documentElement.scrollWidth") <= width
    )
    controls = browser.find_element("id", "controls").rect
    results = browser.find_element("css selector", ".results").rect
    stacked = results["y"] > controls["y"] + controls["height"] - 2
    assert stacked == (width <= 600)
    for name in ("in_batch", "skip", "order"):
        rect = browser.find_element("id", name).rect
        assert rect["width"] > 100 and rect["x"] + rect["width"] <= width
    size = browser.execute_script(
        "return document.querySelector('svg text').getBoundingClientRect().height"
    )
    assert size >= 11  # Text of plots does not shrink with them.


def test_names_are_text(opened, reports):
    report = json.loads(json.dumps(reports["table"]))
    report["table"]["name"] = EVIL
    browser = opened("table", report=report)
    assert browser.find_element("css selector", "h1").text == EVIL


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(opened, scheme):
    """Text against what is behind it: at least 4.5 to 1 (WCAG 2.1, 1.4.3)."""
    browser = opened("model")
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    pairs = browser.execute_script(
        "const s = getComputedStyle(document.documentElement);"
        "return ['ink', 'quiet', 'accent'].flatMap((a) =>"
        "['paper', 'card', 'wash'].map((b) => [a, b].map((name) =>"
        "s.getPropertyValue('--' + name).trim())))"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    for colors in pairs:
        light, dark = sorted((luminance(color) for color in colors), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, colors
    background = luminance(pairs[0][1])
    assert (background < 0.1) == (scheme == "dark")


def luminance(color):
    parts = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_smallest_report(opened, make_table, make_model):
    """One order, one batch size, and one band of ranks."""
    table = make_table(num_rows=60, num_items=4, num_users=40)
    report = audit.measure(
        table, make_model(table), batch_sizes=[8], orders=["shuffled"], progress=False
    )
    assert len(report["model"]["hard"]["edges"]) == 2
    browser = opened("model", report=report)
    assert text_of(browser, "verdict")
    assert len(browser.find_elements("css selector", "figure svg circle")) == 7
    assert browser.find_element("id", "last").get_attribute("value") == "1"
