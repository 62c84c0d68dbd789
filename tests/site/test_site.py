"""The built documentation as readers see it, in headless Chromium: `make docs-test`.

Playwright drives the Chromium that is installed. It waits for a page by itself, sees each request
and message, and needs no driver of the browser's version. axe-core is in axe-playwright-python.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import numpy as np
import pytest
from PIL import Image

SITE = Path(os.environ.get("SITE", "no site"))
CHROMIUM = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), ""
)
if not SITE.is_dir():
    pytest.skip("`make docs-test` builds the site and names it in $SITE", allow_module_level=True)
if not CHROMIUM:
    pytest.skip("needs Chromium: `apt-get install chromium`", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

# The pages of source code are alike, and many.
PAGES = sorted(
    str(path.relative_to(SITE)) for path in SITE.rglob("*.html") if "_modules" not in path.parts
)
SIZES = {"wide": {"width": 1400, "height": 900}, "narrow": {"width": 390, "height": 844}}
# Every page is seen in the first two, the home page in all: the frame around all pages is the same.
SETTINGS = [("wide", "light"), ("narrow", "dark"), ("wide", "dark"), ("narrow", "light")]

# What a reader looks for, and the page that must come first.
SEARCHES = {
    "HMM": "how-to/relaxable-models",
    "checkpoint": "getting-started",
    "flax": "how-to/amortised-numpyro",
    "gumbel_softmax": "functions",
    "temperature": "how-to/temperature",
}

# Elements wider than the window, unless a box around them scrolls.
STICKING_OUT = """() => {
    const out = e => e.getBoundingClientRect().right > innerWidth + 1;
    const scrolls = e => e && (getComputedStyle(e).overflowX == "visible"
        ? scrolls(e.parentElement) : !out(e));
    return [...document.querySelectorAll("table, pre, img, mjx-container, .sd-tab-set, .sig")]
        .filter(e => e.checkVisibility() && out(e) && !scrolls(e)).map(e => e.outerHTML);
}"""
SETTLED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
FORMULAS = """async () => {
    await window.MathJax?.startup.promise;
    const formulas = [...document.querySelectorAll(".math")];
    const missing = formulas.filter(e => !e.querySelector("mjx-container"));
    return [...missing, ...document.querySelectorAll("mjx-merror")].map(e => e.textContent);
}"""
PICTURES = """async () => {
    const all = [...document.images];
    all.forEach(image => image.loading = "eager");
    await Promise.all(all.map(image => image.decode().catch(() => null)));
    const decoration = image => image.closest(".sphx-glr-thumbcontainer");  // beside its title
    const described = image => image.alt || decoration(image);
    return all.filter(image => !image.naturalWidth || !described(image)).map(image => image.src);
}"""


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that prints nothing."""

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a server of the site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE))) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    with playwright.sync_playwright() as driver:
        # Without its sandbox it runs in containers and for root, too. The pages are our own.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """An empty page; at the end, no message and no request to another host is allowed."""
    context = browser.new_context(viewport=SIZES["wide"])
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: faults.append(str(error)))
    # What is still loading when a test leaves the page is aborted, and says nothing of the page.
    page.on(
        "requestfailed",
        lambda r: "ABORTED" in r.failure or faults.append(f"failed: {r.url} {r.failure}"),
    )
    allowed = (address, "file:", "data:", "blob:")
    page.on("request", lambda r: r.url.startswith(allowed) or faults.append(f"elsewhere: {r.url}"))
    page.on("response", lambda r: r.status < 400 or faults.append(f"{r.status}: {r.url}"))
    yield page
    context.close()
    assert not faults


def accessibility(page: Any) -> list[str]:
    """What axe finds serious or critical in the page."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node['html'][:100]}"
        for rule in found
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"][:3]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_page(name: str, page: Any, address: str) -> None:
    """Formulas, pictures, widths and accessibility, wide and narrow, light and dark."""
    page.goto(address + name)
    assert page.evaluate(FORMULAS) == []
    assert page.evaluate(PICTURES) == []
    for size, scheme in SETTINGS if name == "index.html" else SETTINGS[:2]:
        page.set_viewport_size(SIZES[size])
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.evaluate(SETTLED)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, size
        assert page.evaluate(STICKING_OUT) == [], size
        assert accessibility(page) == [], (size, scheme)


@pytest.mark.parametrize(("scheme", "least", "most"), [("light", 230, 255), ("dark", 0, 40)])
def test_pictures(scheme: str, least: int, most: int, page: Any, address: str) -> None:
    """On light pages pictures have a light background, and on dark pages a dark one."""
    page.emulate_media(color_scheme=scheme)
    for name in (name for name in PAGES if "<img" in (SITE / name).read_text()):
        page.goto(address + name)
        for picture in page.locator("article img[src*=_images]").locator("visible=true").all():
            pixels = np.asarray(Image.open(BytesIO(picture.screenshot())).convert("L"))
            # The border is background even where maps fill the picture.
            border = np.median(np.concatenate([pixels[0], pixels[-1], *pixels[:, [0, -1]].T]))
            assert least <= border <= most, (name, picture.get_attribute("src"))


def test_links() -> None:
    """Each link within the site leads to a page that exists and to an anchor in it."""
    texts = {str(path.relative_to(SITE)): path.read_text() for path in SITE.rglob("*.html")}
    anchors = {name: set(re.findall(r'\sid="([^"]+)"', text)) for name, text in texts.items()}
    broken = []
    for name, text in texts.items():
        for link in set(re.findall(r'\s(?:href|src)="([^"]+)"', text)):
            file, anchor = urldefrag(urljoin(name, unescape(link)))
            path = unquote(urlsplit(file).path)
            if urlsplit(file).scheme:
                continue
            exists = not anchor or path not in anchors or unquote(anchor) in anchors[path]
            if not (exists and (SITE / path).exists()):
                broken.append(f"{name}: {link}")
    assert not broken


PRIVATE = re.compile(r"\b_\w+\.\w+|\brelaxed_dists(\._|_(pyro|numpyro|torch|jax)\.)\S*|\bOps\b")


def test_reference_has_public_names_only() -> None:
    """No page of the reference shows a private module, or a type from one."""
    texts = {path: path.read_text() for path in (SITE / "api").rglob("*.html")}
    shown = {path: unescape(re.sub(r"<[^>]+>", "", text)) for path, text in texts.items()}
    found = {path.name: m[0] for path, text in shown.items() if (m := PRIVATE.search(text))}
    assert len(texts) > 50
    assert not found


def test_tabs(page: Any, address: str) -> None:
    """The chosen framework is shown in all tabs of the page, of other pages, and after a reload."""
    page.goto(address + "getting-started.html")
    for chosen in ["NumPyro", "Pyro"]:
        page.get_by_text(chosen, exact=True).locator("visible=true").first.click()
        for name in ["getting-started.html", "from-discrete-to-trained.html"]:
            page.goto(address + name)
            labels = page.locator(".sd-tab-set > input:checked + label")
            assert labels.count() > 1
            assert {label.strip() for label in labels.all_text_contents()} == {chosen}


@pytest.mark.parametrize(("words", "first"), SEARCHES.items())
def test_search(words: str, first: str, page: Any, address: str) -> None:
    """The page that a reader needs is the first that the search finds."""
    page.goto(f"{address}search.html?q={words}")
    page.locator("#search-results .search-summary", has_text="found").wait_for()
    results = page.locator("#search-results li > a")
    found = [urlsplit(link.get_attribute("href")).path for link in results.all()]
    assert found[:1] == [f"{first}.html"], json.dumps(found)


def test_from_disk(page: Any) -> None:
    """The pages need no server."""
    page.goto((SITE / "derivations.html").absolute().as_uri())
    assert page.evaluate(FORMULAS) == []
