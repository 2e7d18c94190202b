"""A real browser drives the page: Chromium, without a window, where one is installed."""

import shutil
import threading

import pytest

from mil.view.routes import reply_to
from mil.view.server import ViewServer
from mil.view.shown import Shown
from mil.view.study import find_study
from tests.view.study_files import COORDS, DARK, LIT, SIDE, SIZE, write_evaluation, write_study

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

EVIL = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
SLIDES = {"s1": ("normal", "test"), "s2": (EVIL, "test"), "s3": ("normal", "train")}
CLASSES = ("normal", EVIL)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Address of a running viewer. A slide that only the predictions name has an evil id."""
    folder = tmp_path_factory.mktemp("study")
    study = write_study(folder, SLIDES, classes=CLASSES, title=EVIL)
    values = {name: (label, split, [0.75, 0.875]) for name, (label, split) in [*SLIDES.items()]}
    values[EVIL] = (EVIL, "test", [0.25, 0.125])
    write_evaluation(study, "abmil", values, list(CLASSES))
    shown = Shown(find_study(study, dataset=str(folder / "d.yaml")))
    with ViewServer(lambda target: reply_to(shown, target)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()
    shown.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, url):
    """The page with its first slide; at the end nothing has failed and no other host was asked."""
    page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page.set_default_timeout(60_000)
    requests: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda message: faults.append(message.text) if message.type == "error" else None,
    )
    page.goto(url)
    ready(page, 0)
    yield page
    assert faults == []
    assert page.evaluate("window.hacked") is None
    elsewhere = [one for one in requests if not one.startswith((url, "data:", "blob:"))]
    assert elsewhere == []
    page.close()


def ready(page, slide: int) -> None:
    page.wait_for_selector(f"body[data-ready='{slide}']")


def settled(page) -> None:
    """Wait until the ranges are those that were asked for, and all image tiles are drawn."""
    page.wait_for_function(
        """() => {
          const {panels} = View.main;
          const sources = panels.shown.flatMap((panel) => panel.figure.renderers)
            .filter((one) => one.type === "TileRenderer").map((one) => one.tile_source);
          return !panels.settling && sources.every((source) => source.tiles.size
            && [...source.tiles.values()].every((tile) => tile.loaded || tile.finished));
        }"""
    )


def colours_at(page, panel: int, x: float, y: float) -> list[int]:
    """Colour on the screen at a place of the slide, level-0 pixels."""
    settled(page)
    return page.evaluate(
        """([panel, x, y]) => {
          const {panels} = View.main;
          const canvases = [];
          const visit = (node) => {
            for (const one of node.querySelectorAll("*")) {
              if (one.tagName === "CANVAS") canvases.push(one);
              if (one.shadowRoot) visit(one.shadowRoot);
            }
          };
          visit(panels.host);
          const drawn = canvases.filter((one) => one.width > 100);
          const canvas = drawn[Math.floor(panel * drawn.length / panels.count)];
          const box = canvas.getBoundingClientRect();
          const sx = (x - panels.x.start) / (panels.x.end - panels.x.start) * canvas.width;
          const sy = (panels.y.end + y) / (panels.y.end - panels.y.start) * canvas.height;
          const place = [Math.round(sx), Math.round(sy), 1, 1];
          return [...canvas.getContext("2d").getImageData(...place).data];
        }""",
        [panel, x, y],
    )


def middle(tile: int) -> tuple[float, float]:
    x, y = COORDS[tile] + SIDE / 2
    return float(x), float(y)


def screen(page, x: float, y: float) -> tuple[float, float]:
    """Place of the first panel on the screen."""
    box = page.locator("#plots").bounding_box()
    left, right, bottom, top = page.evaluate(
        "[View.main.panels.x.start, View.main.panels.x.end,"
        " View.main.panels.y.start, View.main.panels.y.end]"
    )
    width = box["width"] / page.evaluate("View.main.panels.count")
    return (
        box["x"] + (x - left) / (right - left) * width,
        box["y"] + (top + y) / (top - bottom) * box["height"],
    )


def ranges(page) -> list[float]:
    settled(page)
    return page.evaluate("[View.main.panels.x.start, View.main.panels.x.end]")


def test_text_of_others_is_shown_and_never_run(page):
    assert page.locator("#title").text_content() == EVIL
    names = page.locator("#rows .name").all_text_contents()
    assert names == ["s1", "s2", "s3", EVIL]
    page.locator("#rows .row").nth(3).click()
    ready(page, 3)
    page.locator("#rows .row").nth(1).click()
    ready(page, 1)
    assert EVIL in page.locator("#rows .row").nth(1).text_content()
    assert EVIL in page.locator(".caption[data-panel='0'] .prediction").text_content()
    assert page.locator("#rows script, header script, #rows .name img").count() == 0


def test_the_slide_lies_under_the_layer_and_opacity_is_a_switch(page):
    x, y = middle(LIT)
    page.locator("#opacity").fill("1")
    # Full opacity: inferno's colour of the highest percentile, 11.5 of 12.
    lit = colours_at(page, 0, x, y)
    assert lit[0] > 220
    assert lit[1] > 220
    page.locator("#opacity").fill("0")
    tissue = colours_at(page, 0, x, y)
    assert tissue != lit
    glass = colours_at(page, 0, 60, 60)
    # Tissue is pink, glass is nearly white.
    assert min(glass[:3]) > 225
    assert min(tissue[:3]) < 225


def test_kinds_and_classes_are_switches(page):
    page.locator("#opacity").fill("1")
    assert page.locator("#kind option").all_text_contents() == [
        "attention",
        "evidence of the tile alone",
        "effect of the tile on the prediction",
    ]
    page.locator("#kind").select_option("effect")
    ready(page, 0)
    red = colours_at(page, 0, *middle(LIT))
    assert red[0] > red[2] + 50
    blue = colours_at(page, 0, *middle(DARK))
    assert blue[2] > blue[0] + 50
    first = page.locator("#top button").first.get_attribute("data-tile")
    assert first == str(LIT)
    page.locator("#column").select_option("0")
    ready(page, 0)
    swapped = colours_at(page, 0, *middle(LIT))
    assert swapped[2] > swapped[0] + 50
    assert page.locator("#top button").first.get_attribute("data-tile") == str(DARK)
    page.locator("#kind").select_option("attention")
    ready(page, 0)
    page.locator("#scale").select_option("relative")
    ready(page, 0)
    assert "times uniform" in page.locator(".bar").first.text_content()


def test_zoom_by_wheel_and_keys_keeps_the_place_under_the_cursor(page):
    start, end = ranges(page)
    at = screen(page, *middle(LIT))
    page.mouse.move(*at)
    page.mouse.wheel(0, -300)
    page.wait_for_function(
        f"() => View.main.panels.x.end - View.main.panels.x.start < {(end - start) * 0.95}"
    )
    settled(page)
    moved = screen(page, *middle(LIT))
    assert moved == pytest.approx(at, abs=3)
    zoomed = ranges(page)
    page.keyboard.press("-")
    page.keyboard.press("0")
    again = ranges(page)
    assert again == pytest.approx([start, end], rel=0.01, abs=2)
    page.keyboard.press("+")
    closer = ranges(page)
    assert closer[1] - closer[0] == pytest.approx((end - start) / 1.5, rel=0.01)
    assert zoomed != closer


def test_a_click_on_a_tile_shows_its_numbers_and_marks_it(page):
    settled(page)
    page.mouse.click(*screen(page, *middle(LIT)))
    page.wait_for_function("() => document.querySelector('#hovered td')")
    table = page.locator("#hovered").text_content()
    assert f"tile{LIT}" in table
    assert "attention, times uniform6" in table
    page.wait_for_function("() => View.main.panels.shown[0].marked.data.left.length === 1")
    marked = page.evaluate("View.main.panels.shown[0].marked.data.left[0]")
    assert marked == COORDS[LIT][0]


def test_a_top_tile_flies_to_its_place(page):
    settled(page)
    page.locator("#top button").first.click()
    x, y = middle(LIT)
    page.wait_for_function(
        f"() => Math.abs(View.main.panels.viewport.x - {x}) < 1"
        f" && Math.abs(View.main.panels.viewport.y - {y}) < 1"
    )
    start, end = ranges(page)
    assert (start + end) / 2 == pytest.approx(x, abs=1)
    assert end - start < 8 * SIDE


def test_two_heads_side_by_side_move_together(page):
    page.locator("#opacity").fill("1")
    page.keyboard.press("b")
    ready(page, 0)
    assert page.evaluate("View.main.panels.count") == 2
    # The whole slide stays in view.
    start, end = ranges(page)
    assert (start < 0, end > SIZE[0]) == (True, True)
    # The second head looks at the tile after.
    first = colours_at(page, 0, *middle(LIT))
    second = colours_at(page, 1, *middle(LIT))
    assert first != second
    assert colours_at(page, 1, *middle(LIT + 1)) == first
    x = page.evaluate(
        "View.main.panels.shown.map((panel) => panel.figure.x_range === View.main.panels.x)"
    )
    assert x == [True, True]
    before = ranges(page)
    page.mouse.move(*screen(page, *middle(LIT)))
    page.mouse.wheel(0, -300)
    page.wait_for_function(f"() => View.main.panels.x.start !== {before[0]}")
    assert [colours_at(page, panel, *middle(LIT)) for panel in (0, 1)] == [first, second]
    page.keyboard.press("b")
    ready(page, 0)
    assert page.evaluate("View.main.panels.count") == 1


def test_branches_of_a_head_are_a_switch(page):
    page.locator(".caption[data-panel='0'] select").select_option("1:")
    ready(page, 0)
    assert page.locator("#top button").first.get_attribute("data-tile") == str(LIT + 1)
    page.locator("#branch").select_option("2")
    ready(page, 0)
    assert page.locator("#top button").first.get_attribute("data-tile") == str(LIT + 2)


def test_the_list_is_sorted_filtered_and_walked_by_keys(page):
    def names():
        return page.locator("#rows .name").all_text_contents()

    page.locator("#sort").select_option("error")
    # Wrong ones first: both normal slides are called the other class.
    assert names()[-1] == "s2"
    page.locator("#sort").select_option("probability")
    assert names()[-1] == EVIL
    page.locator("#filter").fill("train")
    assert names() == ["s3"]
    page.locator("#filter").fill("")
    page.locator("#sort").select_option("slide")
    page.locator("#filter").press("Escape")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.body.dataset.ready && View.main.number !== 0")
    assert page.evaluate("View.main.study.slides[View.main.number].slide") != "s1"
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert "entropy" in page.locator("#help dt").all_inner_texts()


def test_nothing_is_cut_off_at_1280_pixels(page):
    settled(page)
    wide = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollHeight]")
    assert wide == [1280, 800]
    clipped = page.evaluate(
        """() => [...document.querySelectorAll("header label, header button, .list-head label")]
          .filter((one) => !one.hidden && one.getBoundingClientRect().right > innerWidth).length"""
    )
    assert clipped == 0
