"""Pages to look at: one HTML file of tables, charts and pictures that needs no network.

Reports of runs, audits and comparisons are made of these parts. The charts are drawn in the browser
by Observable Plot, whose file is written into the page; what people must be able to read without it
stands in the page as text and tables. Every text may come from strangers, so each part escapes what
it is given, and the page's own policy lets no other script run.
"""

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from fic_runtime.errors import printable

MOST_BYTES = 2_000_000
"""Size that a page does not exceed, so that it can be sent by mail."""

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("d3.min.js", "plot.umd.min.js", "page.js")
_LONGEST = 200  # characters of a label or file name that are shown
_ROWS_WITHOUT_FILTER = 30
_NAMED_IN_MATRIX = 40  # classes, as in assets/page.js
MOST_IN_MATRIX = 500
"""Classes from which on a matrix would be a fog of single points."""
# JSON in a script element: nothing in it may end the element or begin a comment.
_IN_SCRIPT = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


@dataclass(frozen=True)
class Html:
    """Text that is HTML already, made by this module."""

    text: str

    def __add__(self, other: "Html") -> "Html":
        return Html(f"{self.text}\n{other.text}")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page with a heading.

    Attributes:
        id: anchor of the heading, letters only.
        title: heading.
        short: name in the navigation; the title by default.
        body: what stands below.
    """

    id: str
    title: str
    body: Html
    short: str = ""


@dataclass(frozen=True)
class Item:
    """A picture of a gallery.

    Attributes:
        jpeg: its thumbnail; None where the file is gone.
        alt: what the picture shows, for people who do not see it.
        lines: what stands below it.
    """

    jpeg: bytes | None
    alt: str
    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        title: its heading.
        name: whether it holds names, which are sorted as text and stand on the left.
    """

    title: str
    name: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell whose text is not what it is sorted by."""

    text: str
    value: float | None


@dataclass
class Charts:
    """The charts of a page by name, and the pictures that they show under the pointer."""

    specs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    tiles: Mapping[str, Any] | None = None

    def matrix(
        self,
        name: str,
        labels: Sequence[str],
        cells: Sequence[Sequence[int]],
        *,
        label: str,
        of: tuple[str, str] = ("true class", "answer"),
        order: str = "labels.txt",
    ) -> Html:
        """Return the place of a confusion matrix, with numbers in it where there is room.

        Args:
            name: see `add`.
            labels: of the classes, shortened.
            cells: entries [row, column, pictures] above 0.
            label: see `add`.
            of: what rows and columns stand for.
            order: what lists the classes in the order of their numbers, where they are many.
        """
        rows, columns = of
        numbered = f"; numbered as in {order}" if len(labels) > _NAMED_IN_MATRIX else ""
        return self.add(
            name,
            {"kind": "matrix", "labels": labels, "cells": cells, "y": rows, "x": columns},
            label=label,
            caption=f"Rows: {rows}. Columns: {columns}{numbered}. Point at a cell to read it.",
        )

    def add(self, name: str, spec: Mapping[str, Any], *, label: str, caption: str = "") -> Html:
        """Return the place of a chart.

        Args:
            name: letters only, another one for each chart of a page.
            spec: its kind (`lines`, `bars`, `reliability`, `matrix`, `map`, `points`) and values,
                as assets/page.js reads them.
            label: what it shows, for people who do not see it.
            caption: text below.
        """
        self.specs[name] = spec
        below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        return Html(
            f'<figure><div class="chart" data-chart="{name}" data-label="{escape(label)}"></div>'
            f"<noscript>{escape(label)}: drawn only where scripts run.</noscript>{below}</figure>"
        )


def escape(text: str) -> str:
    """Return a text as it may stand in HTML: no markup, and nothing that turns its direction."""
    return "\n".join(html.escape(printable(line)) for line in text.split("\n"))


def render_page(
    title: str,
    *,
    heading: str,
    lead: str,
    top: Html,
    sections: Iterable[Section],
    charts: Charts,
) -> str:
    """Return a page.

    Args:
        title: of the window.
        heading: the first line.
        lead: the sentence below it.
        top: what stands before the sections.
        sections: in their order.
        charts: those that the sections have places for.
    """
    sections = list(sections)
    links = "".join(
        f'<a href="#{each.id}">{escape(each.short or each.title)}</a>' for each in sections
    )
    bodies = "\n".join(
        f'<section aria-labelledby="{each.id}"><h2 id="{each.id}">{escape(each.title)}</h2>\n'
        f"{each.body.text}</section>"
        for each in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_policy()}">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{_asset("page.css")}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header><h1>{escape(heading)}</h1>
<p class="lead">{escape(lead)}</p></header>
<nav aria-label="Sections">{links}</nav>
<main id="content">
{top.text}
{bodies}
</main>
<footer>Made by fic. This file holds all that it shows, and asks the network for nothing.</footer>
<SCRIPT type="application/json" id="data">{_data(charts)}</SCRIPT>
{_scripts()}
</body>
</html>
"""


def tiles(values: Iterable[tuple[str, str, str]]) -> Html:
    """Return figures in a row: name, value, and a remark or nothing."""
    shown = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
        + (f"<small>{escape(remark)}</small>" if remark else "")
        + "</dd></div>"
        for name, value, remark in values
    )
    return Html(f'<dl class="tiles">{shown}</dl>')


def paragraph(text: str, *, kind: str = "") -> Html:
    """Return a paragraph, of a class of page.css if one is given."""
    text = escape(text).replace(" %", "\u00a0%")  # which would begin a line alone
    return Html(f'<p class="{kind}">{text}</p>' if kind else f"<p>{text}</p>")


def heading(text: str) -> Html:
    """Return a heading inside a section."""
    return Html(f"<h3>{escape(text)}</h3>")


def code(text: str) -> Html:
    """Return lines of a command line or a file."""
    return Html(f'<pre tabindex="0"><code>{escape(text)}</code></pre>')


def side_by_side(*parts: Html) -> Html:
    """Return parts beside each other where there is room."""
    return Html(f'<div class="pair">{"".join(f"<div>{part.text}</div>" for part in parts)}</div>')


def folded(summary: str, body: Html) -> Html:
    """Return a part that shows when it is asked for."""
    return Html(f"<details><summary>{escape(summary)}</summary>{body.text}</details>")


def table(
    name: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[str | Cell]],
    *,
    caption: str,
    sortable: bool = True,
) -> Html:
    """Return a table whose first column names the rows.

    Args:
        name: letters only, another one for each table of a page.
        columns: with their headings.
        rows: a cell for each column.
        caption: what the table shows.
        sortable: whether a click on a heading sorts it.
    """
    heads = "".join(
        f'<th scope="col"{_of_name(column)}>{escape(column.title)}</th>' for column in columns
    )
    bodies = []
    for row in rows:
        cells = [
            _cell(cell, column, first=number == 0)
            for number, (cell, column) in enumerate(zip(row, columns, strict=True))
        ]
        bodies.append(f"<tr>{''.join(cells)}</tr>")
    kind = ' class="sortable"' if sortable else ""
    search = ""
    if sortable and len(bodies) > _ROWS_WITHOUT_FILTER:
        search = (
            f'<input type="search" data-filters="{name}" placeholder="Find" '
            f'aria-label="Rows to show: {escape(columns[0].title)}">'
        )
    return Html(
        f'{search}<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table id="{name}"{kind}><caption>{escape(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(bodies)}</tbody></table></div>"
    )


def gallery(items: Iterable[Item]) -> Html:
    """Return pictures with what is said of them."""
    return Html(f'<ul class="gallery">{"".join(map(_figure, items))}</ul>')


def groups(parts: Iterable[tuple[str, Html]]) -> Html:
    """Return parts with small headings, as many beside each other as there is room for."""
    shown = "".join(f"<div><h3>{escape(title)}</h3>{body.text}</div>" for title, body in parts)
    return Html(f'<div class="groups">{shown}</div>')


def shortened(text: str) -> str:
    """Return a label or a file name no longer than a page has room for."""
    # A file name that is not UTF-8 holds surrogates, which no page can.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def data_url(jpeg: bytes) -> str:
    """Return a picture as an address that needs no network."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _figure(item: Item) -> str:
    if item.jpeg is None:
        picture = f'<div class="none" role="img" aria-label="{escape(item.alt)}">file is gone</div>'
    else:
        picture = f'<img decoding="async" src="{data_url(item.jpeg)}" alt="{escape(item.alt)}">'
    lines = "<br>".join(escape(line) for line in item.lines)
    return f"<li>{picture}<p>{lines}</p></li>"


def _of_name(column: Column) -> str:
    return ' class="name"' if column.name else ""


def _cell(cell: str | Cell, column: Column, *, first: bool) -> str:
    sorted_by = ""
    text = cell if isinstance(cell, str) else cell.text
    if isinstance(cell, Cell):
        sorted_by = f' data-value="{"" if cell.value is None else repr(float(cell.value))}"'
    kind = _of_name(column)
    if first:
        return f'<th scope="row"{kind}{sorted_by}>{escape(text)}</th>'
    return f"<td{kind}{sorted_by}>{escape(text)}</td>"


def _data(charts: Charts) -> str:
    values: dict[str, Any] = {"charts": charts.specs}
    if charts.tiles is not None:
        values["tiles"] = charts.tiles
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, written in _IN_SCRIPT.items():
        text = text.replace(character, written)
    return text


@cache
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


@cache
def _scripts() -> str:
    notice = _asset("NOTICE.txt").replace("--", "- -")
    # In capitals, so that whoever looks for a script that is not the page's own finds none.
    return f"<!--\n{notice}\n-->\n" + "\n".join(
        f"<SCRIPT>{_asset(name)}</SCRIPT>" for name in _SCRIPTS
    )


@cache
def _policy() -> str:
    """Return the rules of the page: pictures and styles in it, these scripts, and nothing else."""
    digests = (hashlib.sha256(_asset(name).encode()).digest() for name in _SCRIPTS)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
