"""The report's page in headless Chromium, from a file and without a network: what a reader does with pointer, keys and a narrow screen.

With NEURALCODEC_SCREENSHOTS naming a folder, pictures of the page at both widths are left there.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path

import page_samples
import pytest
from page_samples import ABOUT, HOSTILE, PAPER

from neuralcodec.bench.page import write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
webdriver = pytest.importorskip("selenium.webdriver", reason="the package selenium is not installed")

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--disable-dev-shm-usage")
LAPTOP, PHONE = (1366, 768), (390, 844)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    return write_page(tmp_path_factory.mktemp("page") / "index.html", page_samples.plan(), page_samples.result(), tables=[PAPER], about=ABOUT)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Reader:
    """A browser with the page open."""

    def __init__(self, driver, page: Path, size: tuple[int, int]) -> None:
        self.driver = driver
        width, height = size
        # Narrower than a window of the desktop can be made.
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]})
        self.logs()
        driver.get(page.as_uri())

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str):
        return self.driver.find_element("css selector", selector)

    def logs(self) -> list[str]:
        """Addresses asked for since the last call."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def bring(self, element):
        """Scroll an element to the middle. Waits two frames: the event of scrolling comes with the next one, and it hides what a pointer had shown."""
        self.driver.execute_async_script("arguments[0].scrollIntoView({block: 'center'}); const done = arguments[1];"
                                         "requestAnimationFrame(() => requestAnimationFrame(() => done()))", element)
        return element

    def press(self, key: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(key).perform()

    def shown(self, viewer: int = 0) -> list[int]:
        """Numbers of the pictures that are visible in a viewer."""
        return self.run("return [...document.querySelectorAll('.viewer')[arguments[0]].querySelectorAll('.stack img')]"
                        ".flatMap((image, n) => getComputedStyle(image).visibility === 'visible' ? [n] : [])", viewer)

    def screenshot(self, name: str) -> None:
        if folder := os.environ.get("NEURALCODEC_SCREENSHOTS"):
            clip = self.run("const r = document.documentElement; return {x: 0, y: 0, width: r.clientWidth, height: r.scrollHeight, scale: 1}")
            taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
            Path(folder, name).write_bytes(base64.b64decode(taken["data"]))


@pytest.fixture
def laptop(chromium, page) -> Reader:
    return Reader(chromium, page, LAPTOP)


@pytest.fixture
def phone(chromium, page) -> Reader:
    return Reader(chromium, page, PHONE)


def test_nothing_is_fetched_and_nothing_goes_wrong(laptop):
    laptop.find("[data-series]").click()
    laptop.find("[data-difference]").click()
    asked = laptop.logs()
    assert asked and {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert len([url for url in asked if url.startswith("file:")]) == 1
    assert [entry for entry in laptop.driver.get_log("browser") if entry["level"] != "INFO"] == []
    laptop.screenshot("laptop.png")


@pytest.mark.parametrize("size", [LAPTOP, PHONE, (320, 568)])
def test_the_page_is_never_wider_than_the_screen(chromium, page, size):
    reader = Reader(chromium, page, size)
    assert reader.run("for (const d of document.querySelectorAll('details')) d.open = true; return document.documentElement.scrollWidth") <= size[0]
    reader.run("for (const d of document.querySelectorAll('details')) d.open = false")
    reader.screenshot(f"width-{size[0]}.png")


def test_text_can_be_read_on_a_phone(phone):
    sizes = phone.run("return [...document.querySelectorAll('.plot:not([hidden]) svg')].filter(s => s.getClientRects().length).flatMap(s => "
                      "[...s.querySelectorAll('text')].map(t => t.getBoundingClientRect().height))")
    assert len(sizes) > 20
    assert sum(s > 9 for s in sizes) > 0.9 * len(sizes)  # pixels of a line; rotated ones are longer


def test_a_hostile_name_does_nothing(laptop):
    assert laptop.run("return window.hurt") is None
    assert HOSTILE in laptop.find("#result").text
    assert laptop.run("return document.images.length") == 12


def test_number_keys_and_arrows_switch_the_picture(laptop):
    from selenium.webdriver.common.keys import Keys

    laptop.run("document.querySelector('.viewer').scrollIntoView()")
    assert laptop.shown() == [0]
    laptop.press("4")
    assert laptop.shown() == [3]
    laptop.press(Keys.ARROW_RIGHT)
    assert laptop.shown() == [4]
    laptop.press(Keys.ARROW_LEFT * 2)
    assert laptop.shown() == [2]
    laptop.press("9")  # there are six
    assert laptop.shown() == [2]
    laptop.find(".stage").click()
    laptop.press(Keys.ARROW_UP)
    assert laptop.shown() == [2]  # the click went to the next, the key back
    checked = laptop.run("return [...document.querySelectorAll('.viewer .shots input')].findIndex(i => i.checked)")
    assert checked == 2 and "level 2" in laptop.find(".shown-name").text


def test_the_first_and_last_picture_are_neighbours(laptop):
    from selenium.webdriver.common.keys import Keys

    laptop.run("document.querySelector('.viewer').scrollIntoView()")
    laptop.press(Keys.ARROW_LEFT)
    assert laptop.shown() == [5]
    laptop.press(Keys.ARROW_RIGHT)
    assert laptop.shown() == [0]


def test_keys_mean_nothing_where_no_picture_is_seen(laptop):
    laptop.run("scrollTo(0, 0)")
    laptop.press("3")
    assert laptop.shown() == [0]


def test_the_pointer_switches_the_picture(laptop):
    from selenium.webdriver import ActionChains

    labels = laptop.driver.find_elements("css selector", ".viewer .shots label")
    ActionChains(laptop.driver).move_to_element(laptop.bring(labels[2])).perform()
    assert laptop.shown() == [2]
    stage = laptop.find(".stage")
    ActionChains(laptop.driver).move_to_element(stage).click().perform()
    assert laptop.shown() == [3]
    ActionChains(laptop.driver).move_to_element(stage).click_and_hold().pause(0.5).perform()
    assert laptop.shown() == [0]  # the source, as long as it is held
    ActionChains(laptop.driver).release().perform()
    assert laptop.shown() == [3]


def test_a_tap_switches_the_picture(phone):
    phone.run("document.querySelector('.stage').scrollIntoView({block: 'center'})")
    box = phone.run("const b = document.querySelector('.stage').getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]")
    touch = [{"x": box[0], "y": box[1]}]
    phone.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": touch})
    phone.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert phone.shown() == [1]


def test_the_difference_is_of_the_shown_picture_and_the_source(laptop):
    laptop.run("document.querySelector('.viewer').scrollIntoView()")
    laptop.press("3")
    laptop.press("d")
    assert laptop.shown() == [0, 2]
    blend = laptop.run("return getComputedStyle(document.querySelectorAll('.stack img')[2]).mixBlendMode")
    assert blend == "difference"
    laptop.press("d")
    assert laptop.shown() == [2]


def test_a_clip_is_chosen(laptop):
    from selenium.webdriver.support.ui import Select

    visible = "return [...document.querySelectorAll('.viewer')].map(v => v.getClientRects().length > 0)"
    assert laptop.run(visible) == [True, False]
    Select(laptop.find("select[data-panels=viewer]")).select_by_index(1)
    assert laptop.run(visible) == [False, True]
    laptop.run("document.querySelectorAll('.viewer')[1].scrollIntoView()")
    laptop.find("body").click()
    laptop.press("2")
    assert laptop.shown(1) == [1]


def test_a_metric_is_chosen_for_all_plots(laptop):
    seen = "return [...new Set([...document.querySelectorAll('.plot[data-metric]')].filter(p => p.getClientRects().length).map(p => p.dataset.metric))]"
    assert laptop.run(seen) == ["psnr"]
    laptop.run("arguments[0].click()", laptop.find("input[name=metric][value=xpsnr]"))
    assert laptop.run(seen) == ["xpsnr"]


def test_a_codec_is_taken_out_of_all_plots(laptop):
    seen = "return [...document.querySelectorAll('.series.s3')].filter(s => s.getClientRects().length).length"
    assert laptop.run(seen) > 3
    laptop.find("[data-series='3']").click()
    assert laptop.run(seen) == 0


def test_a_point_says_what_it_is(laptop):
    from selenium.webdriver import ActionChains

    mark = laptop.bring(laptop.find("#rd .main .wide .series.s3 use"))
    ActionChains(laptop.driver).move_to_element(mark).perform()
    tip = laptop.find(".tip")
    assert tip.is_displayed()
    assert tip.text.splitlines()[0] == "x264-medium-ld32, setting 20"
    assert tip.text.endswith("30.00 dB")


def test_everything_is_reached_by_the_tab_key_and_seen_there(laptop):
    from selenium.webdriver.common.keys import Keys

    laptop.run("document.activeElement.blur(); scrollTo(0, 0)")
    reached = set()
    for _ in range(100):
        laptop.press(Keys.TAB)
        name, outline = laptop.run("const e = document.activeElement, s = getComputedStyle(e), n = e.nextElementSibling, l = e.closest('label');"
                                   "const lines = [s, n && getComputedStyle(n), l && getComputedStyle(l)];"
                                   "return [e.classList[0] || e.name || e.tagName, lines.some(x => x && x.outlineStyle !== 'none' && parseFloat(x.outlineWidth) > 0)]")
        if name == "BODY":
            break  # all the way round
        assert outline, name
        reached.add(name)
    assert {"skip", "theme", "metric", "table", "stage", "shot-0"} <= reached


def test_the_navigation_says_where_the_reader_is(laptop):
    from selenium.webdriver.support.ui import WebDriverWait

    def wait_for(section: str) -> None:
        current = "return [...document.querySelectorAll('.sections a[aria-current=true]')].map(a => a.hash)"
        WebDriverWait(laptop.driver, 10).until(lambda driver: driver.execute_script(current) == [f"#{section}"])

    for section in ("conditions", "rd", "pictures"):
        laptop.run("document.getElementById(arguments[0]).scrollIntoView()", section)
        wait_for(section)


def test_colours_follow_the_system_and_the_button(laptop):
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = laptop.run(colour)
    laptop.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    dark = laptop.run(colour)
    assert light != dark
    laptop.find(".theme").click()
    assert laptop.run(colour) == light and laptop.find(".theme").text == "Light"
    laptop.find(".theme").click()
    assert laptop.run(colour) == dark
    laptop.screenshot("dark.png")


def test_text_stands_out_from_its_ground(laptop):
    """Contrast of 4.5 to 1 (WCAG 2.1, 1.4.3) for text in both schemes, measured from the computed colours."""
    script = """
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgb = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return canvas.getImageData(0, 0, 1, 1).data; };
    const light = c => [...rgb(c)].slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
      .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (rgb(c)[3] === 255) return c; } return '#fff'; };
    return [...document.querySelectorAll('p, td, th, dd, dt, h1, h2, h3, summary, figcaption, small, code, .sections a, label span, label b')]
      .filter(e => e.getClientRects().length && e.textContent.trim() && !e.closest('.stage'))
      .map(e => { const [a, b] = [light(getComputedStyle(e).color), light(ground(e))]; return [e.className || e.tagName, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]; })
      .filter(([, ratio]) => ratio < 4.5);"""
    for scheme in ("light", "dark"):
        laptop.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        assert laptop.run(script) == []


def test_without_scripts_all_pictures_and_the_first_metric_are_there(chromium, page):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        reader = Reader(chromium, page, LAPTOP)
        found = chromium.execute_cdp_cmd("Runtime.evaluate", {"returnByValue": True, "expression":
            "[[...document.querySelectorAll('.stack img')].filter(i => getComputedStyle(i).visibility === 'visible').length,"
            " [...document.querySelectorAll('.js-only')].filter(e => e.getClientRects().length).length, document.documentElement.className]"})
        assert found["result"]["value"] == [12, 0, ""]
        reader.screenshot("no-script.png")
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
