"""Pages as files: what is in them, where they may be written, and what they may do in a browser."""

import base64
import gzip
import hashlib
import io
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.pages import question_of, write_page, write_site
from fic_runtime.errors import BundleError, FicError, OutputError

PARTS = {
    "page.html": '<title>{{title}}</title><meta content="{{policy}}">{{style}}'
    "<body {{attributes}}>{{scripts}}",
    "page.css": "body { color: red }",
    "page.js": "start({{ braces: 1 }});",
    "worker.js": "work();",
}
WASM = b"\0asm"


@pytest.fixture(autouse=True)
def parts(tmp_path_factory, monkeypatch):
    """Put a small stand-in of fic-runtime-html where it is found first."""
    place = tmp_path_factory.mktemp("parts")
    built = place / "fic_runtime_html/built"
    built.mkdir(parents=True)
    (built.parent / "__init__.py").touch()
    for name, text in PARTS.items():
        (built / name).write_text(text, encoding="utf-8")
    (built / "ort-wasm-simd-threaded.wasm.gz").write_bytes(gzip.compress(WASM))
    monkeypatch.syspath_prepend(place)
    monkeypatch.delitem(sys.modules, "fic_runtime_html", raising=False)
    yield built
    sys.modules.pop("fic_runtime_html", None)


def held(page, name):
    found = re.search(f'id="{name}">([^<]*)</script>', page.read_text("utf-8"))
    return base64.b64decode(found[1])


def test_a_page_holds_the_engine_and_a_bundle_that_can_be_opened(golden, tmp_path):
    size = write_page(golden, tmp_path / "page.html")
    page = tmp_path / "page.html"
    assert size == page.stat().st_size
    assert gzip.decompress(held(page, "wasm")) == WASM
    assert gzip.decompress(held(page, "worker")) == b"work();"
    (tmp_path / "bundle.zip").write_bytes(held(page, "bundle"))
    assert (
        open_bundle(tmp_path / "bundle.zip").manifest.labels == open_bundle(golden).manifest.labels
    )


def test_what_a_page_does_not_need_stays_out(tmp_path):
    earlier = Path(__file__).parents[1] / "data/before-wings/bundle.zip"
    assert "teaching.npz" in open_bundle(earlier).manifest.files
    write_page(earlier, tmp_path / "page.html")
    with zipfile.ZipFile(io.BytesIO(held(tmp_path / "page.html", "bundle"))) as packed:
        assert "teaching.npz" not in packed.namelist()
        assert "golden.npz" in packed.namelist()


def test_the_policy_allows_this_script_and_nothing_of_a_network(golden, tmp_path):
    write_page(golden, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    policy = re.search('content="([^"]*)"', text)[1].replace("&#x27;", "'")
    script = re.search('<script type="module">(.*)</script>', text)[1]
    assert script == PARTS["page.js"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert policy.count("default-src 'none'") == 1
    assert "connect-src" not in policy
    assert "unsafe-inline" not in policy


def test_a_title_cannot_become_markup(golden, tmp_path):
    write_page(golden, tmp_path / "page.html", title="<b>{{scripts}}")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert text.startswith("<title>&lt;b&gt;{{scripts}}</title>")


@pytest.mark.parametrize(
    ("labels", "title"),
    [
        (["dog"], "dog?"),
        (["cat", "dog"], "cat or dog?"),
        (["ant", "bee", "cat"], "ant, bee or cat?"),
        ([str(number) for number in range(7)], "Which of 7 classes?"),
    ],
)
def test_the_title_asks_which_label_it_is(labels, title):
    assert question_of(labels) == title


def test_the_same_bundle_gives_the_same_bytes(golden, tmp_path):
    for name in ("one.html", "two.html"):
        write_page(golden, tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_a_folder_holds_the_same_in_files(golden, tmp_path):
    write_site(golden, tmp_path / "site")
    names = {file.name for file in (tmp_path / "site").iterdir()}
    assert {"index.html", "bundle.zip", "worker.js", "_headers"} <= names
    open_bundle(tmp_path / "site/bundle.zip")
    headers = (tmp_path / "site/_headers").read_text("utf-8")
    assert "Content-Security-Policy: script-src 'self' 'wasm-unsafe-eval'; " in headers
    assert "unsafe-inline" not in headers


def test_an_earlier_folder_is_replaced_and_anything_else_is_not(golden, tmp_path):
    write_site(golden, tmp_path / "site")
    (tmp_path / "site/page.css").write_text("old")
    write_site(golden, tmp_path / "site")
    assert (tmp_path / "site/page.css").read_text() != "old"
    (tmp_path / "site/left.txt").touch()
    with pytest.raises(OutputError, match=r"holds left\.txt"):
        write_site(golden, tmp_path / "site")
    assert (tmp_path / "site/left.txt").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/diary.txt").touch()
    with pytest.raises(OutputError, match="holds something"):
        write_site(golden, tmp_path / "mine")
    assert (tmp_path / "mine/diary.txt").exists()


def test_only_a_page_of_its_own_is_replaced_by_a_page(golden, tmp_path):
    for _ in range(2):
        write_page(golden, tmp_path / "page.html")
    (tmp_path / "mine.html").write_text("<!doctype html>precious")
    with pytest.raises(OutputError, match="is there already"):
        write_page(golden, tmp_path / "mine.html")
    assert (tmp_path / "mine.html").read_text() == "<!doctype html>precious"


def test_a_folder_is_not_replaced_by_a_page(golden, tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        write_page(golden, tmp_path)


def test_a_head_alone_makes_no_page(make_head, tmp_path):
    with pytest.raises(BundleError, match="without its base"):
        write_page(make_head(tmp_path / "head"), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_without_its_package_one_sentence_says_what_to_install(parts, golden, tmp_path):
    shutil.rmtree(parts)
    with pytest.raises(FicError, match=re.escape("pip install 'fic-runtime[html]'")):
        write_page(golden, tmp_path / "page.html")


def test_the_command_says_what_it_wrote(run, golden, tmp_path):
    page, site = tmp_path / "page.html", tmp_path / "site"
    code, out, err = run("html", golden, "--out", page, "--web", site, "--title", "What is it?")
    assert (code, err) == (0, "")
    assert f"page written to {page} (" in out
    assert f"site written to {site} (" in out
    assert "<title>What is it?</title>" in page.read_text("utf-8")


def test_the_command_asks_where_to_write(run, golden):
    code, _, err = run("html", golden)
    assert code == 2
    assert "give --out FILE, --web DIR, or both" in err
