"""What holds for every page that fic writes: whole, readable, silent, and without a network."""

from collections.abc import Sequence
from pathlib import Path

from .browser import Browser

EVIL = "</script><img src=x onerror=alert(1)>"
CONTRAST = """
    const luminance = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).map((part) => {
            const share = part / 255;
            return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = luminance(getComputedStyle(document.body).backgroundColor);
    return args[0].map((selector) => {
        const text = luminance(getComputedStyle(document.querySelector(selector)).color);
        return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
    });
"""
# Text of a chart that its own box would cut off; what scrolls is not cut off.
_CUT = """
    return [...document.querySelectorAll("[data-chart] svg")].flatMap((chart) => {
        const box = chart.getBoundingClientRect();
        return [...chart.querySelectorAll("text")].filter((text) => {
            const own = text.getBoundingClientRect();
            return own.width && (own.left < box.left - 1 || own.right > box.right + 1 ||
                own.top < box.top - 1 || own.bottom > box.bottom + 1);
        }).map((text) => text.textContent);
    });
"""
_UNNAMED = """
    const named = ["img:not([alt])", "svg:not([aria-label])", ".wide:not([aria-label])"].join();
    return [...document.querySelectorAll(named)]
        .filter((each) => !each.closest("svg svg")).map((each) => each.outerHTML.slice(0, 80));
"""
_ON_THE_WAY = "a[href], button, input, summary, [tabindex='0']"


def open_page(browser: Browser, file: Path, *, width: int, dark: bool, charts: int) -> None:
    """Open a page from disk, and wait for its charts."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.command("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.open(file.as_uri(), width=width)
    browser.until(lambda: len(browser.all("[data-chart] svg")) >= charts)


def assert_readable(browser: Browser, file: Path, words: Sequence[str], *, width: int) -> None:
    """Make sure that an open page asks for nothing, fits, and can be read by everybody.

    Args:
        words: selectors of texts whose contrast is measured.
        width: of the window.
    """
    assert browser.complaints() == []
    asked = [each for each in browser.read_requests() if not each.startswith("data:")]
    assert asked == [file.as_uri()]
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert min(browser.run(CONTRAST, words)) >= 4.5
    assert browser.run(_CUT) == []
    assert browser.run(_UNNAMED) == []
    assert not browser.all('img[src="x"]')
    first = browser.run(f'document.querySelector("{_ON_THE_WAY}").focus(); return 1')
    assert first and browser.driver.switch_to.active_element.text == "Skip to the content"
