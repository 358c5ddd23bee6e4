"""`report.html` of an audit: what was found, with the pictures."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data.thumbnails import Thumbnail
from ..runs import page
from ..runs.page import Cell, Charts, Column, Html, Item, Section
from .duplicates import DuplicateGroup
from .findings import Audit

_MOST_GROUPS = 40
_MOST_OF_A_GROUP = 6
_MOST_IN_GALLERY = 48
_MOST_ROWS = 500


def render_audit(
    audit: Audit,
    thumbnails: Mapping[Path, Thumbnail],
    matrix: Sequence[Sequence[int]],
    *,
    suspects: Path = Path("audit/suspects.csv"),
) -> str:
    """Return the findings as one HTML page of at most 2 MB.

    Args:
        audit: what was found.
        thumbnails: of the pictures.
        matrix: entries [label, judged, pictures] above 0, where `judged` is the class that a
            classifier gives which did not see the picture.
        suspects: the file to decide in.
    """
    for share in (1, 2, 4, 8, 1000):
        text = _render(audit, thumbnails, matrix, suspects, share)
        if len(text.encode()) <= page.MOST_BYTES:
            break
    return text


def _render(
    audit: Audit,
    thumbnails: Mapping[Path, Thumbnail],
    matrix: Sequence[Sequence[int]],
    suspects: Path,
    share: int,
) -> str:
    charts = Charts()
    wrong, total = len(audit.likely_wrong), len(audit.suspects)
    sections = [
        _leak_section(audit, thumbnails, share),
        _label_section(audit, thumbnails, share),
        _duplicate_section(audit, thumbnails, share),
        _outlier_section(audit, thumbnails, share),
        _class_section(audit, matrix, charts),
        _file_section(audit),
        _next_section(suspects),
    ]
    return page.render_page(
        f"Audit of {total} pictures",
        heading=_heading(audit),
        lead=f"{total} pictures of {len(audit.counts)} classes, looked at through the bottlenecks "
        f"of {audit.base}.",
        top=page.tiles(
            [
                ("Copies across the split", str(len(audit.leaks)), _plural(audit.leaks, "group")),
                ("Labels likely wrong", str(wrong), f"{wrong / max(1, total):.1%} of the pictures"),
                ("Copies", str(len(audit.duplicates)), "with those across the split"),
                ("Like no other", str(len(audit.outliers)), _plural(audit.outliers, "picture")),
                ("Files", str(len(audit.files)), "not what they seem"),
                ("Labels agreed with", f"{audit.agreement:.1%}", "by classifiers that saw others"),
            ]
        ),
        sections=sections,
        charts=charts,
    )


def _heading(audit: Audit) -> str:
    found = [*audit.likely_wrong, *audit.duplicates, *audit.outliers, *audit.files]
    return f"{len(found)} {_plural(found, 'finding')}"


def _plural(found: Sequence[object], what: str) -> str:
    return what if len(found) == 1 else f"{what}s"


def _leak_section(audit: Audit, thumbnails: Mapping[Path, Thumbnail], share: int) -> Section:
    body = page.paragraph(
        "Pictures that training and validation share make a classifier look better than it is. "
        "Reject one of each group."
    )
    return Section(
        id="leaks",
        title="Copies across the split",
        short="Across the split",
        body=body + _groups(audit.leaks, thumbnails, share),
    )


def _duplicate_section(audit: Audit, thumbnails: Mapping[Path, Thumbnail], share: int) -> Section:
    within = [group for group in audit.duplicates if not group.leaks]
    body = page.paragraph("The same picture again on one side of the split.")
    return Section(
        id="copies",
        title="Other copies",
        short="Copies",
        body=body + _groups(within, thumbnails, share),
    )


def _groups(
    groups: Sequence[DuplicateGroup], thumbnails: Mapping[Path, Thumbnail], share: int
) -> Html:
    if not groups:
        return page.paragraph("None.")
    most = _MOST_GROUPS // share
    shown = []
    for group in groups[:most]:
        members = list(zip(group.paths, group.labels, group.sides, strict=True))
        items = [
            Item(
                _jpeg(path, thumbnails),
                f"{page.shortened(label)}, {side}",
                [page.shortened(label), side, page.shortened(path.name)],
            )
            for path, label, side in members[:_MOST_OF_A_GROUP]
        ]
        more = f", {len(members)} pictures" if len(members) > 2 else ""
        labels = "; the labels differ" if group.disagrees else ""
        shown.append((f"{group.kind}{more}{labels}", page.gallery(items)))
    return page.groups(shown) + _rest(len(groups) - most, "groups")


def _label_section(audit: Audit, thumbnails: Mapping[Path, Thumbnail], share: int) -> Section:
    suspects = audit.likely_wrong
    most = _MOST_IN_GALLERY // share
    items = (
        Item(
            _jpeg(each.path, thumbnails),
            f"label {page.shortened(each.label)}, suggested {page.shortened(each.suggested)}",
            [
                f"label: {page.shortened(each.label)}",
                f"suggested: {page.shortened(each.suggested)}",
                f"score {each.score:.2f}",
                page.shortened(each.path.name),
            ],
        )
        for each in suspects[:most]
    )
    body = page.paragraph(
        "Classifiers that did not see these pictures are sure of another class. The most suspect "
        "ones come first."
    )
    body += page.gallery(items) if suspects else page.paragraph("None.")
    return Section(
        id="labels",
        title="Labels likely wrong",
        short="Labels",
        body=body + _rest(len(suspects) - most, "pictures"),
    )


def _outlier_section(audit: Audit, thumbnails: Mapping[Path, Thumbnail], share: int) -> Section:
    most = _MOST_IN_GALLERY // share
    items = (
        Item(
            _jpeg(each.path, thumbnails),
            f"labeled {page.shortened(each.label)}",
            [page.shortened(each.label), page.shortened(each.path.name)],
        )
        for each in audit.outliers[:most]
    )
    body = page.paragraph("Far from all others: they may belong to no class.")
    body += page.gallery(items) if audit.outliers else page.paragraph("None.")
    return Section(
        id="strangers",
        title="Pictures like no other",
        short="Strangers",
        body=body + _rest(len(audit.outliers) - most, "pictures"),
    )


def _class_section(audit: Audit, matrix: Sequence[Sequence[int]], charts: Charts) -> Section:
    labels = [page.shortened(label) for label in audit.counts]
    body = Html("")
    for pair in audit.confusions:
        if pair.merge:
            first, second = (page.shortened(label) for label in pair.classes)
            body += page.paragraph(
                f"{first} and {second} may be one class: {pair.share:.0%} of their pictures are "
                "taken for the other."
            )
    if audit.rare:
        names = ", ".join(page.shortened(label) for label in audit.rare[:20])
        body += page.paragraph(f"Classes with few pictures: {names}.")
    if len(labels) <= page.MOST_IN_MATRIX:
        body += charts.matrix(
            "classes",
            labels,
            matrix,
            label=f"matrix of {len(labels)} classes: labels, and the classes that classifiers give",
            of=("label", "class that classifiers give"),
            order="the table below",
        )
    counts: list[Sequence[str | Cell]] = [
        [label, Cell(str(count), count)]
        for label, count in list(zip(labels, audit.counts.values(), strict=True))[:_MOST_ROWS]
    ]
    columns = [Column(title="class", name=True), Column(title="pictures")]
    pairs: list[Sequence[str | Cell]] = [
        [
            page.shortened(each.classes[0]),
            page.shortened(each.classes[1]),
            Cell(str(each.count), each.count),
            Cell(f"{each.share:.1%}", each.share),
        ]
        for each in audit.confusions[:20]
    ]
    parts = [page.table("counts", columns, counts, caption="Pictures of each class")]
    if pairs:
        named = [
            Column(title="class", name=True),
            Column(title="and", name=True),
            Column(title="pictures"),
            Column(title="share"),
        ]
        parts.append(page.table("pairs", named, pairs, caption="Classes taken for each other"))
    return Section(id="classes", title="Classes", body=body + page.side_by_side(*parts))


def _file_section(audit: Audit) -> Section:
    if not audit.files:
        return Section(id="files", title="Files", body=page.paragraph("All are what they seem."))
    rows = [
        [page.shortened(str(each.path)), each.problem, page.shortened(each.reason)]
        for each in audit.files[:_MOST_ROWS]
    ]
    columns = [Column(title=title, name=True) for title in ("file", "problem", "reason")]
    caption = f"{len(audit.files)} files that are not what they seem"
    return Section(
        id="files", title="Files", body=page.table("problems", columns, rows, caption=caption)
    )


def _next_section(suspects: Path) -> Section:
    body = page.paragraph(
        f"{suspects.name} beside this page lists all pictures. Write reject, relabel (to the label "
        "in the column suggested) or the name of a class into its column decision, and then:"
    )
    file = page.shortened(shlex.quote(str(suspects)))
    body += page.code(f"fic audit --apply {file} --out cleaned.csv\nfic train --data cleaned.csv")
    return Section(id="decide", title="To decide", body=body, short="Decide")


def _rest(count: int, what: str) -> Html:
    return page.paragraph(f"{count} more {what} are in suspects.csv.") if count > 0 else Html("")


def _jpeg(path: Path, thumbnails: Mapping[Path, Thumbnail]) -> bytes | None:
    return thumbnails[path].jpeg if path in thumbnails else None
