"""`fic-runtime html`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FicError
from .options import add_bundle, some_path

if TYPE_CHECKING:
    from .options import Commands


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "html",
        help="write a web page that classifies pictures",
        description="Write a bundle as a web page that classifies pictures in any browser, "
        "on the device that shows it. Needs `pip install 'fic-runtime[html]'`.",
    )
    parser.set_defaults(command=_run, parser=parser)
    add_bundle(parser)
    parser.add_argument(
        "--out",
        type=some_path,
        metavar="FILE",
        help="output file: one HTML page, which needs neither a network nor a server",
    )
    parser.add_argument(
        "--web", type=some_path, metavar="DIR", help="output folder for a static host"
    )
    parser.add_argument(
        "--title", metavar="TEXT", help="title of the page (default: the labels as a question)"
    )


def _run(options: argparse.Namespace) -> int:
    if options.out is None and options.web is None:
        options.parser.error("give --out FILE, --web DIR, or both")
    lines = write_pages(
        options.bundle,
        options.out,
        options.web,
        title=options.title,
        public_key=options.public_key,
    )
    for line in lines:
        print(line)
    return 0


def check_pages(page: Path | None, site: Path | None, *, head_only: bool = False) -> None:
    """Make sure that what `write_pages` writes can be written, before the bundle is made.

    Raises:
        FicError: fic-runtime-html is not installed, or the bundle will be a head only.
    """
    if page is None and site is None:
        return
    from ..bundle.pages import check_installed, check_page, check_site

    if head_only:
        raise FicError("a page needs the base, and --head-only writes none; leave one of them out")
    check_installed()
    if page is not None:
        check_page(page)
    if site is not None:
        check_site(site)


def write_pages(
    bundle: Path,
    page: Path | None,
    site: Path | None,
    *,
    title: str | None = None,
    public_key: Path | None = None,
) -> list[str]:
    """Write the page, the folder, or both, and return a line on each for the terminal.

    Raises:
        FicError: see `fic_runtime.bundle.pages`.
    """
    from ..bundle.pages import write_page, write_site

    lines = []
    if page is not None:
        size = write_page(bundle, page, title=title, public_key=public_key)
        lines.append(f"page written to {page} ({size / 1e6:.1f} MB); open it in a browser")
    if site is not None:
        size = write_site(bundle, site, title=title, public_key=public_key)
        lines.append(f"site written to {site} ({size / 1e6:.1f} MB); serve it over https")
    return lines
