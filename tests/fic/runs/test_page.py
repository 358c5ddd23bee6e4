import hashlib
import re

from fic.runs import page
from fic.runs.page import Cell, Charts, Column, Html, Item, Section


def test_the_libraries_are_those_that_the_notice_names() -> None:
    notice = (page._ASSETS / "NOTICE.txt").read_text("utf-8")
    named = dict(
        reversed(line.split()[1:]) for line in notice.splitlines() if line.startswith("sha256")
    )
    assert named.keys() == {"plot.umd.min.js", "d3.min.js"}
    for name, digest in named.items():
        content = (page._ASSETS / name).read_bytes().replace(b"\r\n", b"\n")
        assert hashlib.sha256(content).hexdigest() == digest


def test_a_page_has_what_it_is_made_of() -> None:
    charts = Charts()
    body = charts.add("curve", {"kind": "lines"}, label='a "curve"', caption="below") + page.table(
        "figures",
        [Column(title="name", name=True), Column(title="share")],
        [["<a>", Cell("50 %", 0.5)], ["b", Cell("-", None)]],
        caption="Shares",
    )
    text = page.render_page(
        "T", heading="H", lead="L", top=page.tiles([("n", "v", "")]), charts=charts,
        sections=[Section(id="one", title="One", body=body)],
    )  # fmt: skip
    assert '<a href="#one">One</a>' in text
    assert 'data-label="a &quot;curve&quot;"' in text
    assert '<th scope="row" class="name">&lt;a&gt;</th><td data-value="0.5">50 %</td>' in text
    assert '<td data-value="">-</td>' in text
    assert '{"charts":{"curve":{"kind":"lines"}}}' in text


def test_only_long_tables_have_a_search() -> None:
    def search(rows: int) -> bool:
        columns = [Column(title="name", name=True)]
        return "<input" in page.table("t", columns, [["a"]] * rows, caption="c").text

    assert not search(30)
    assert search(31)


def test_long_and_broken_names_are_shortened() -> None:
    assert len(page.shortened("x" * 1000)) == 200
    assert page.shortened("a\udcffb") == "a?b"


def test_no_library_of_the_page_closes_its_script() -> None:
    for name in page._SCRIPTS:
        assert not re.search(r"</script|<!--", page._asset(name), re.IGNORECASE)


def test_parts_follow_each_other() -> None:
    assert (Html("a") + Html("b")).text == "a\nb"


def test_no_text_turns_the_direction_of_a_page() -> None:
    name = "photo\u202egpj.exe\x1b\u2066\x07"
    parts = [
        page.paragraph(name),
        page.heading(name),
        page.code(f"one\n{name}"),
        page.tiles([(name, name, name)]),
        page.gallery([Item(None, name, [name])]),
        page.table("t", [Column(title=name, name=True)], [[name]], caption=name),
    ]
    text = "".join(part.text for part in parts)
    assert not {"\u202e", "\x1b", "\u2066", "\x07"} & set(text)
    assert r"photo\u202egpj.exe" in text
    assert "<code>one\nphoto" in text
