"""The page of `fic-runtime html`, opened from disk and from a host, as a person uses it."""

import csv
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.head_only import files_of_the_head, head_files
from fic_runtime.bundle.pages import write_page

from .picture_files import encoded

RED, GREY = (230, 20, 20), (90, 90, 90)

FILES = """
    const files = args[0].map(([name, bytes, type]) =>
        new File([Uint8Array.from(bytes)], name, { type }));
"""
DROP = (
    FILES
    + """
    const transfer = new DataTransfer();
    for (const file of files) transfer.items.add(file);
    const options = { bubbles: true, cancelable: true, dataTransfer: transfer };
    document.body.dispatchEvent(new DragEvent("dragenter", options));
    const seen = document.body.className;
    document.body.dispatchEvent(new DragEvent("drop", options));
    return seen;
"""
)
PASTE = (
    FILES
    + """
    const transfer = new DataTransfer();
    for (const file of files) transfer.items.add(file);
    document.dispatchEvent(new ClipboardEvent("paste", { bubbles: true, clipboardData: transfer }));
"""
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return files of one color each, one that is no picture, and a TIFF."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, color in (("red.png", RED), ("grey.png", GREY)):
        (folder / name).write_bytes(encoded("PNG", np.full((60, 80, 3), color, np.uint8)))
    (folder / 'a "name", with everything.png').write_bytes((folder / "red.png").read_bytes())
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (folder / "scan.tif").write_bytes(encoded("TIFF"))
    return folder


def given(*files):
    return [[file.name, list(file.read_bytes()), kind_of(file)] for file in files]


def kind_of(file):
    kinds = {".png": "image/png", ".jpg": "image/jpeg", ".zip": "application/zip"}
    return kinds.get(file.suffix, "")


class Page:
    """A page that is open and ready."""

    def __init__(self, browser, address, **size):
        self.browser = browser
        self.address = address
        browser.open(address, **size)
        browser.until(lambda: self.status.startswith("Ready"))

    @property
    def status(self):
        return self.browser.text("#status")

    def choose(self, *files):
        self.browser.one("#files").send_keys("\n".join(map(str, files)))
        self.wait()

    def drop(self, *files):
        seen = self.browser.run(DROP, given(*files))
        self.wait()
        return seen

    def wait(self):
        self.browser.until(lambda: not self.browser.all(".picture.waiting"))

    def said(self, selector=".verdict"):
        return [each.text for each in self.browser.all(f"#gallery {selector}")]

    def notice(self):
        self.browser.until(lambda: self.browser.one("#notice").is_displayed())
        return self.browser.text("#notice p")

    def check_quiet(self):
        """Nothing in the console, and nothing asked for but the page and its worker."""
        assert self.browser.complaints() == []
        allowed = (self.address, "blob:", "data:", "chrome:")
        requests = [each for each in self.browser.read_requests() if not each.startswith(allowed)]
        assert requests == []


@pytest.fixture
def opened(browser, page):
    opened = Page(browser, page.as_uri())
    yield opened
    opened.check_quiet()


def test_a_page_from_disk_answers_what_is_chosen(opened, pictures):
    opened.choose(pictures / "red.png", pictures / "grey.png")
    red, grey = opened.said()
    assert red.startswith("red ")
    assert grey.startswith("Unknown")
    assert opened.said(".why")[1] == "Not like the pictures that it learned from."
    assert opened.browser.text("#count") == "2, 1 unknown"
    assert opened.browser.text("#title").lower() == "red, green or blue?"


def test_bars_show_the_probabilities(opened, pictures):
    opened.choose(pictures / "red.png")
    labels, shares = opened.said(".label"), opened.said(".share")
    assert labels[0] == "red"
    assert len(labels) == len(shares) == 3
    widths = [each.size["width"] for each in opened.browser.all(".fill")]
    assert widths == sorted(widths, reverse=True)


def test_what_is_dropped_is_answered(opened, pictures):
    assert opened.drop(pictures / "red.png") == "dragging"
    assert opened.said()[0].startswith("red ")
    assert opened.browser.one("body").get_attribute("class") == ""


def test_what_is_pasted_is_answered(opened, pictures):
    opened.browser.run(PASTE, given(pictures / "red.png"))
    opened.wait()
    assert opened.said()[0].startswith("red ")


@pytest.mark.parametrize("script", [DROP, PASTE], ids=["dropped", "pasted"])
def test_what_holds_no_picture_is_said(opened, script):
    opened.browser.run(script, [])
    assert "no picture" in opened.notice()


def test_what_is_no_picture_gets_one_sentence_and_the_page_goes_on(opened, pictures):
    opened.drop(pictures / "broken.jpg", pictures / "scan.tif", pictures / "red.png")
    assert [each.split()[0] for each in opened.said()] == ["No", "No", "red"]
    broken, scan, _ = opened.said(".why")
    assert broken.startswith("broken.jpg: the JPEG file ends before its picture does")
    assert scan == "scan.tif: browsers do not read TIFF files; convert it to PNG."


def test_the_heat_map_of_a_label_comes_and_goes(opened, pictures):
    opened.choose(pictures / "red.png")
    look = "const canvas = document.querySelector('#gallery canvas');"
    look += "return canvas.toDataURL();"
    before = opened.browser.run(look)
    row = opened.browser.one("button.row")
    row.click()
    opened.browser.until(lambda: opened.browser.run(look) != before)
    assert row.get_attribute("aria-pressed") == "true"
    label = opened.browser.one("#gallery canvas").get_attribute("aria-label")
    assert label == "red.png, with where red is seen"
    row.click()
    opened.browser.until(lambda: opened.browser.run(look) == before)
    assert row.get_attribute("aria-pressed") == "false"


def test_the_table_holds_every_answer(opened, pictures):
    odd = pictures / 'a "name", with everything.png'
    opened.drop(odd, pictures / "grey.png", pictures / "broken.jpg")
    opened.browser.run(
        "globalThis.copied = new Promise((resolve) => {"
        "  const writeText = async (text) => resolve(text);"
        "  Object.defineProperty(navigator, 'clipboard', { value: { writeText } });"
        "});"
    )
    opened.browser.one("#csv").click()
    rows = list(csv.DictReader(io.StringIO(opened.browser.run("return await copied;"), newline="")))
    assert [row["file"] for row in rows] == [odd.name, "grey.png", "broken.jpg"]
    assert rows[0]["label"] == "red"
    assert [row["known"] for row in rows] == ["true", "false", ""]
    assert rows[2]["error"].startswith("broken.jpg: ")
    assert "3 rows copied" in opened.notice()


def test_pictures_are_removed_one_by_one_and_all_at_once(opened, pictures):
    opened.drop(pictures / "red.png", pictures / "grey.png", pictures / "red.png")
    opened.browser.all(".remove")[0].click()
    assert len(opened.said()) == 2
    opened.browser.one("#clear").click()
    assert opened.said() == []
    assert not opened.browser.one("#clear").is_enabled()


def test_this_browser_passes_the_bundle_s_own_test(opened):
    opened.browser.one("#about summary").click()
    opened.browser.one("#self-test").click()
    result = opened.browser.until(
        lambda: (said := opened.browser.text("#self-test-result")).startswith("Passed") and said
    )
    assert "3 recorded pictures" in result


def test_the_model_card_is_shown(opened):
    opened.browser.one("#about summary").click()
    card = opened.browser.text("#card")
    assert "red, green, blue" in card
    assert "|" not in card
    assert opened.browser.all("#card table")


def head_archive(bundle, place, **changes):
    whole = open_bundle(bundle)
    files = head_files(whole.manifest, files_of_the_head(whole))
    values = json.loads(files["manifest.json"]) | changes
    with zipfile.ZipFile(place, "w") as archive:
        for name, data in (files | {"manifest.json": json.dumps(values).encode()}).items():
            archive.writestr(name, data)
    return place


def test_a_head_that_is_dropped_answers_from_then_on(opened, explaining, pictures, tmp_path):
    opened.drop(pictures / "red.png")
    opened.drop(head_archive(explaining, tmp_path / "head.zip", labels=["rot", "grün", "blau"]))
    assert opened.notice().startswith("head.zip answers from now on")
    opened.drop(pictures / "red.png")
    earlier, later = opened.said()
    assert earlier.startswith("red ")
    assert later.startswith("rot ")
    heat = [each.is_enabled() for each in opened.browser.all("button.row")]
    assert heat == [False] * 3 + [True] * 3  # of a classifier that is gone there is none
    assert opened.browser.text("#title").lower() == "rot, grün or blau?"


def other_base(bundle, golden, place):
    head_archive(golden, place)


def newer(bundle, golden, place):
    head_archive(bundle, place, format=2)


def cut_off(bundle, golden, place):
    head_archive(bundle, place)
    place.write_bytes(place.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (other_base, "is a head for the base"),
        (newer, "is newer than this runtime reads"),
        (cut_off, "is no zip archive that can be read"),
    ],
)
def test_a_bad_archive_is_said_in_one_sentence_and_the_page_goes_on(
    opened, explaining, pictures, tmp_path, make, reason
):
    golden = Path(__file__).parents[1] / "data/bundle-v1"
    make(explaining, golden, tmp_path / "bad.zip")
    opened.drop(tmp_path / "bad.zip")
    assert reason in opened.notice()
    opened.drop(pictures / "red.png")
    assert opened.said()[0].startswith("red ")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_and_every_control_is_large_enough(browser, page, pictures, width):
    opened = Page(browser, page.as_uri(), width=width, height=844)
    opened.drop(pictures / "red.png", pictures / "broken.jpg")
    opened.browser.one("#about summary").click()
    sizes = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth];"
    scroll, client = opened.browser.run(sizes)
    assert scroll <= client
    for button in opened.browser.all("button"):
        if button.is_displayed():
            assert button.size["height"] >= 36, button.text
            assert button.accessible_name
    opened.check_quiet()


def test_nothing_moves_while_answers_come(browser, page, pictures):
    browser.open(page.as_uri(), width=390, height=844)
    browser.run(
        "globalThis.moved = [];"
        "new PerformanceObserver((list) => {"
        "  const inside = ({ node }) => node?.closest?.('#gallery, header, #intake');"
        "  for (const entry of list.getEntries())"
        "    moved.push(...entry.sources.filter(inside).map(({ node }) => node.className));"
        "}).observe({ type: 'layout-shift', buffered: true });"
    )
    opened = Page.__new__(Page)
    opened.browser, opened.address = browser, page.as_uri()
    browser.until(lambda: opened.status.startswith("Ready"))
    opened.drop(pictures / "red.png", pictures / "grey.png")
    browser.run("await new Promise((resolve) => setTimeout(resolve, 300));")
    assert browser.run("return moved;") == []


def test_everything_can_be_reached_with_the_keyboard(browser, page, pictures):
    from selenium.webdriver.common.keys import Keys

    opened = Page(browser, page.as_uri())
    opened.drop(pictures / "red.png")
    browser.run("document.activeElement.blur(); window.focus();")
    reached = []
    for _ in range(14):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        element = browser.driver.switch_to.active_element
        reached.append(element.accessible_name or element.text)
    names = ["Choose pictures", "Use the camera", "Copy CSV", "Remove all", "Remove red.png"]
    assert set(names) <= set(reached)
    assert any(name.startswith("red") for name in reached)
    browser.one("button.row").send_keys(Keys.ENTER)
    opened.browser.until(lambda: browser.all("[aria-pressed=true]"))


def test_answers_are_announced(opened, pictures):
    opened.drop(pictures / "red.png")
    said = opened.browser.until(
        lambda: opened.browser.one("#announcer").get_property("textContent")
    )
    assert said.startswith("red.png: red ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, page, pictures, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.command("Emulation.setEmulatedMedia", {"features": features})
    opened = Page(browser, page.as_uri())
    opened.drop(pictures / "red.png", pictures / "grey.png", pictures / "broken.jpg")
    colors = browser.run(
        """
        const solid = (element) => {
            for (let each = element; each; each = each.parentElement) {
                const color = getComputedStyle(each).backgroundColor;
                if (!/, 0\\)$/.test(color)) return color;
            }
        };
        const texts = [...document.querySelectorAll("h1, h2, p, button, .label, .share, summary")];
        const shown = (each) => each.offsetParent && each.textContent.trim() && !each.disabled;
        return texts.filter(shown)
            .map((each) => [each.textContent.trim(), getComputedStyle(each).color, solid(each)]);
        """
    )
    browser.command("Emulation.setEmulatedMedia", {"features": []})
    assert len(colors) > 20
    for text, ink, ground in colors:
        if "rgba" not in ink + ground:
            assert contrast(ink, ground) >= 4.5, (text, ink, ground)


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color):
    shares = [int(part) / 255 for part in color[4:-1].split(",")]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# --- the folder for a static host -----------------------------------------------------------------


def test_the_folder_answers_under_its_strict_policy(browser, site, pictures):
    opened = Page(browser, site)
    opened.drop(pictures / "red.png", pictures / "grey.png")
    assert [each.split()[0] for each in opened.said()] == ["red", "Unknown"]
    opened.browser.one("button.row").click()
    opened.browser.until(lambda: browser.all("[aria-pressed=true]"))
    opened.check_quiet()


def test_the_policy_forbids_what_the_page_does_not_need(browser, site):
    Page(browser, site)
    refused = browser.run(
        "const said = [];"
        "const note = ({ effectiveDirective }) => said.push(effectiveDirective);"
        "document.addEventListener('securitypolicyviolation', note);"
        "await fetch('https://example.com/').catch(() => {});"
        "const script = document.createElement('script');"
        "document.body.append(Object.assign(script, { textContent: '1' }));"
        "await new Promise((resolve) => setTimeout(resolve, 100));"
        "return said;"
    )
    assert {"connect-src", "script-src-elem"} <= set(refused)
    browser.complaints()  # of what was just tried


def test_a_bundle_that_was_damaged_on_its_way_is_said(
    browser, cautious, page_parts, serve, tmp_path
):
    from fic_runtime.bundle.pages import write_site

    write_site(cautious, tmp_path / "site")
    file = tmp_path / "site/bundle.zip"
    file.write_bytes(file.read_bytes()[:-300])
    browser.open(serve(tmp_path / "site"))
    status = browser.until(lambda: (said := browser.text("#status")) and "zip" in said and said)
    assert "is no zip archive that can be read" in status
    browser.complaints()


# --- browsers of their own ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Return a y4m film of four red frames, 64 x 48 (BT.601: Y, Cb, Cr)."""
    file = tmp_path_factory.mktemp("film") / "red.y4m"
    planes = bytes([82]) * (64 * 48) + bytes([90]) * (32 * 24) + bytes([240]) * (32 * 24)
    frames = b"".join(b"FRAME\n" + planes for _ in range(4))
    file.write_bytes(b"YUV4MPEG2 W64 H48 F10:1 Ip A1:1 C420\n" + frames)
    return file


def test_the_camera_is_answered_while_it_runs_and_its_pictures_are_kept(make_browser, page, film):
    browser = make_browser(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    )
    opened = Page(browser, page.as_uri(), width=390, height=844)
    browser.one("#camera-start").click()
    browser.until(lambda: browser.text("#camera .verdict").startswith("red "))
    browser.one("#camera-take").click()
    browser.until(lambda: opened.said() and opened.said()[0].startswith("red "))
    assert opened.said(".file")[0].startswith("camera ")
    browser.one("#camera-stop").click()
    browser.until(lambda: not browser.one("#camera").is_displayed())
    browser.one("#camera-start").click()  # once more
    browser.until(lambda: browser.text("#camera .verdict").startswith("red "))
    opened.check_quiet()
    browser.close()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ([], "No camera was found here"),
        (["--use-fake-device-for-media-stream", "--deny-permission-prompts"], "may not be used"),
    ],
    ids=["none", "refused"],
)
def test_without_a_camera_one_sentence_says_why(make_browser, page, pictures, flags, reason):
    browser = make_browser(*flags)
    opened = Page(browser, page.as_uri())
    browser.one("#camera-start").click()
    assert reason in opened.notice()
    opened.drop(pictures / "red.png")
    assert opened.said()[0].startswith("red ")
    opened.check_quiet()
    browser.close()


def test_without_webassembly_one_sentence_says_so(browser, page, pictures):
    source = {"source": "delete globalThis.WebAssembly;"}
    added = browser.command("Page.addScriptToEvaluateOnNewDocument", source)
    browser.open(page.as_uri())
    browser.command("Page.removeScriptToEvaluateOnNewDocument", added)
    status = browser.until(
        lambda: (said := browser.text("#status")) and "Loading" not in said and said
    )
    assert "no WebAssembly" in status
    browser.run(DROP, given(pictures / "red.png"))
    browser.until(lambda: "no WebAssembly" in browser.text("#gallery .why"))
    assert browser.complaints() == []


def test_the_same_bundle_gives_the_same_page(cautious, page, page_parts, tmp_path):
    copy = shutil.copytree(cautious, tmp_path / "copy")
    write_page(copy, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()
