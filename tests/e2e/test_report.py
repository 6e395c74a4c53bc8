"""The HTML report in a real browser: what it shows, by keyboard, in light and dark, and with hostile documents."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from colbert_mcp.render.page import Entry, report_page
from colbert_mcp.results import Explanation, Passage, SearchOutput, TokenHeat, TokenMatch

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no Chromium with its driver on this machine"),
]

HOSTILE = "Feed the <b>starter</b>.\r\n<script>window.owned = 1</script> It smells\u202e of \x1bvarnish & <img src=x onerror='window.owned=1'>."
QUOTE = "It smells\u202e of \x1bvarnish"
# What the page shows instead of control and bidirectional characters.
SHOWN = HOSTILE.replace("\r\n", "\n").replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
CONTRAST = """
const [front, back] = arguments;
const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
function luminance(colours) {
  for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
  const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3)
    .map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
const [a, b] = [luminance(back), luminance([...back, front])];
return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
"""


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1000,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})  # type: ignore[no-untyped-call]
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


def passage(text: str, quote: str | None, start: int = 100) -> Passage:
    digest = hashlib.sha256(text.encode()).hexdigest()
    quote_span = (start + text.index(quote), start + text.index(quote) + len(quote)) if quote else None
    words = [
        (match, start + match, start + match + 7)
        for match in (text.find("starter"), text.find("varnish"))
        if match >= 0
    ]
    heat = [
        TokenHeat(span=(a, b), similarities=[0.55 + 0.4 * (n == q) for q in (0, 1)])
        for n, (_, a, b) in enumerate(words)
    ]
    matches = [
        TokenMatch(
            query="starter<i>", query_span=(0, 7), text="starter", span=(start + 12, start + 19), similarity=0.95
        ),
        TokenMatch(query="smell", query_span=(8, 13), text="varnish", span=None, similarity=0.61),
    ]
    return Passage(
        id=digest[:16], title="bread.md > <Feeding>", url="file:///home/you/bread%20%231.md#L3-L4", text=text,
        score=0.9, maxsim=0.7, bm25=None, dense=None, path="/home/you/bread #1.md", byte_start=100, byte_end=200,
        char_start=start, char_end=start + len(text), line_start=3, line_end=4, column_start=1, column_end=9,
        heading="<Feeding>", quote=quote, quote_span=quote_span, sha256=digest, file_sha256=digest, encoding="utf-8",
        newline="crlf", status="modified", status_reason="the passage no longer stands in the file",
        indexed_at="2026-01-01T00:00:00+00:00", explanation=Explanation(matches=matches, heat=heat),
    )  # fmt: skip


@pytest.fixture
def page(browser: webdriver.Chrome, tmp_path: Path) -> webdriver.Chrome:
    """A report of two passages, open in the browser."""
    entries = [
        Entry(passage(HOSTILE, QUOTE), "What stands before.", "What stands after </div>.", "exact"),
        Entry(passage("Another starter.", None, 7), "", "", None),
    ]
    output = SearchOutput(
        query="starter & <smell>?", results=[entry.passage for entry in entries], candidates=2, truncated=False,
        withheld=[], tokens=1, generation=7, notice="Weak <evidence>.",
    )  # fmt: skip
    text = report_page(output, entries, written="now", version="1")
    file = tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    browser.get(file.as_uri())
    return browser


def run(page: webdriver.Chrome, script: str, *arguments: object) -> Any:
    return page.execute_script(f"return {script}" if "return" not in script else script, *arguments)  # type: ignore[no-untyped-call]


def warmth(page: webdriver.Chrome) -> list[str]:
    return list(
        run(
            page, "[...document.querySelectorAll('article:first-of-type .t')].map(t => t.style.getPropertyValue('--h'))"
        )
    )


def test_a_passage_stands_in_its_source_with_its_quote_marked(page: webdriver.Chrome) -> None:
    source = run(page, "document.querySelector('.source').textContent")
    assert source == f"What stands before.\n\n{SHOWN}\n\nWhat stands after </div>."
    assert run(page, "document.querySelector('mark.quote').textContent") == "It smells\\u202e of \\x1bvarnish"
    assert run(page, "document.querySelectorAll('.source')[1].textContent") == "Another starter."
    for part in (
        "modified",
        "quote: exact",
        "the passage no longer stands in the file",
        "/home/you/bread #1.md, line 3–4",
    ):
        assert part in run(page, "document.querySelector('article').textContent")
    assert run(page, "document.querySelector('h2 a').href") == "file:///home/you/bread%20%231.md#L3-L4"
    assert run(page, "document.querySelector('h1').textContent") == "starter & <smell>?"


def test_nothing_in_a_document_is_executed_and_nothing_is_loaded(page: webdriver.Chrome) -> None:
    assert run(page, "window.owned") is None
    assert run(page, "document.scripts.length") == 1
    assert run(page, "document.images.length") == 0
    assert run(page, "performance.getEntriesByType('resource').length") == 0
    run(
        page,
        "const s = document.createElement('script'); s.textContent = 'window.owned = 2'; document.body.append(s); return 0",
    )
    assert run(page, "window.owned") is None
    messages = [entry["message"] for entry in page.get_log("browser")]  # type: ignore[no-untyped-call]
    assert [m for m in messages if "Content Security Policy" not in m] == []


def test_a_word_of_the_question_is_chosen_by_keyboard_and_colours_the_passages(page: webdriver.Chrome) -> None:
    assert warmth(page) == ["0.90", "0.90"]
    assert run(page, "document.querySelectorAll('[aria-pressed=true]').length") == 1
    ActionChains(page).send_keys(Keys.TAB, Keys.TAB, Keys.TAB, Keys.ENTER).perform()
    assert run(page, "document.activeElement.textContent") == "starter<i>"
    assert run(page, "document.querySelector('[aria-pressed=true]').textContent") == "starter<i>"
    assert warmth(page) == ["0.90", "0.10"]
    ActionChains(page).send_keys(Keys.TAB, Keys.SPACE).perform()
    assert warmth(page) == ["0.10", "0.90"]


def test_keys_go_from_passage_to_passage_and_open_their_details(page: webdriver.Chrome) -> None:
    articles = run(page, "[...document.querySelectorAll('article')].map(a => a.id)")
    for key, expected in (("j", articles[0]), ("j", articles[1]), ("j", articles[1]), ("k", articles[0])):
        ActionChains(page).send_keys(key).perform()
        assert run(page, "document.activeElement.id") == expected
    ActionChains(page).send_keys(Keys.TAB, Keys.TAB, Keys.TAB, Keys.ENTER).perform()
    assert run(page, "document.querySelector('details').open")
    assert run(page, "document.querySelector('tbody tr').textContent") == "starter<i>starter112–1190.950"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_legible_in_light_and_dark(page: webdriver.Chrome, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})  # type: ignore[no-untyped-call]
    try:
        style = "getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        paper, panel = run(page, style, "body", "backgroundColor"), run(page, style, "article", "backgroundColor")
        for selector in ("h1", ".facts", ".where", ".badge.good", ".badge.bad", "h2 a", ".around", ".source", "dt"):
            front = run(page, style, selector, "color")
            assert run(page, CONTRAST, front, [paper, panel]) >= 4.5, selector
        run(page, "document.querySelector('.t').style.setProperty('--h', 1); return 0")
        hottest = run(page, style, ".t", "backgroundColor")
        assert run(page, CONTRAST, run(page, style, ".t", "color"), [panel, hottest]) >= 4.5
        assert (
            run(page, CONTRAST, "white", [paper]) < 4.5
            if scheme == "light"
            else run(page, CONTRAST, "white", [paper]) > 10
        )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})  # type: ignore[no-untyped-call]


def test_nothing_is_wider_than_a_telephone(page: webdriver.Chrome) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    )  # type: ignore[no-untyped-call]
    try:
        assert run(page, "document.documentElement.scrollWidth") <= 360
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})  # type: ignore[no-untyped-call]
