"""Pictures of an audit's page, as docs/audit.md shows it.

    tfrs-negatives train --data online_retail.parquet --user user --item item \
        --request request --time t --seeds 0 --epochs 8 --output trained
    tfrs-negatives audit --data online_retail.parquet --user user --item item \
        --request request --time t --model trained --output audit
    python -m benchmarks.audit.screenshot audit/audit.html docs

Needs selenium, Chromium and its driver. The mixer is set to three sources.
"""

import base64
import pathlib
import shutil
import tempfile

from selenium import webdriver

from benchmarks.common import command_line

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--hide-scrollbars"
).split()
SHARES = {"in_batch": 60, "uniform": 30, "hard": 10, "skip": 0, "last": 4}
MOVE = """
for (const [id, value] of Object.entries(arguments[0])) {
  const input = document.getElementById(id);
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}
"""
BOX = "return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()"


def picture(browser, address, width, first, last, path):
    """Saves what lies from one element to another."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)
    browser.execute_script(MOVE, SHARES)
    top = max(browser.execute_script(BOX, first)["top"] - 24, 0)
    bottom = browser.execute_script(BOX, last)["bottom"] + 24
    clip = {"x": 0, "y": top, "width": width, "height": bottom - top, "scale": 1}
    shot = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
    )
    path.write_bytes(base64.b64decode(shot["data"]))


def main():
    parser = command_line.parser(__doc__, quick=False)
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path, help="where pictures go")
    arguments = parser.parse_args()
    address = arguments.page.resolve().as_uri()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        browser = webdriver.Chrome(options=options, service=service)
        try:
            for width, first, last, name in (
                (1100, "header", "#plots", "audit.png"),
                (375, "#mixer", "#mixer", "audit_phone.png"),
            ):
                path = arguments.folder / name
                picture(browser, address, width, first, last, path)
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
