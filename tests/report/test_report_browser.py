"""The page in headless Chromium, at the widths of a desk and of a phone, light, dark, printed.

Screenshots and the PDF are kept in `tests/artefacts/report/` to be looked at.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Page, opened
from report_runs import eventful_run
from test_report_page import hostile_run

from analysis.report.index import write_index
from analysis.report.writing import write_report
from loadtests.record.archive import list_runs

pytestmark = [pytest.mark.system, pytest.mark.browser]

ARTEFACTS = Path(__file__).parents[1] / "artefacts" / "report"
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab of a browser of its own."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    with opened(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report, one of hostile names, and the index."""
    results = tmp_path_factory.mktemp("results")
    report = write_report(eventful_run(results), (), None)[0]
    folder = tmp_path_factory.mktemp("hostile")
    hostile = write_report(hostile_run(folder), (), None)[0]
    index = write_index(list_runs(results), (), {}, results)
    return {"report": report, "hostile": hostile, "index": index}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["report", "hostile", "index"])
def test_a_page_fits_and_complains_of_nothing(
    page: Page, files: dict[str, Path], name: str, width: int
) -> None:
    """No console error, no request but for the file itself, nothing wider than the screen."""
    for scheme in ("light", "dark"):
        seen = page.look(files[name], width=width, scheme=scheme)
        assert seen.complaints == ()
        assert [url for url in seen.requests if not url.startswith("data:image/png")] == [
            files[name].resolve().as_uri()
        ]
        assert seen.width == width
        assert seen.scroll_width <= width
        page.screenshot(seen, ARTEFACTS / f"{name}-{width}-{scheme}.png")


def test_nothing_is_wider_than_its_box(page: Page, files: dict[str, Path]) -> None:
    """On a phone tables scroll in their own boxes and figures shrink."""
    seen = page.look(files["report"], width=390, scheme="light")
    wide = page.evaluate(
        "[...document.querySelectorAll('svg, h1, h2, h3, p, pre, li, .scroll, .verdict')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
    )
    assert wide == 0
    assert seen.height > 3000


def test_text_is_readable_in_dark(page: Page, files: dict[str, Path]) -> None:
    """Figures take the page's colours: light text on a dark page, in SVG too."""
    colours = {}
    for scheme in ("light", "dark"):
        page.look(files["report"], width=1280, scheme=scheme)
        colours[scheme] = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('svg text')).fill].join(' ')"
        )
    assert colours["light"] != colours["dark"]
    assert colours["light"].startswith("rgb(255, 255, 255)")
    assert "rgb(0, 0, 0)" not in colours["dark"]


def test_the_page_can_be_printed(page: Page, files: dict[str, Path]) -> None:
    """A PDF of some pages, in the colours of paper."""
    page.look(files["report"], width=1280, scheme="dark")
    data = page.print(ARTEFACTS / "report.pdf")
    assert data.startswith(b"%PDF")
    assert 3 <= data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") <= 30
