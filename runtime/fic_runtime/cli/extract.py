"""`fic-runtime extract`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageError
from .counting import Count
from .options import add_bundle, add_device, named_pictures, open_classifier

if TYPE_CHECKING:
    from .options import Commands


def add_to(commands: "Commands") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "extract",
        help="write the bottlenecks of pictures to a file",
        description="Write the bottlenecks of pictures to a file. A picture that cannot be read is "
        "named and left out, and the exit code is 1.",
    )
    parser.set_defaults(command=_run)
    add_bundle(parser)
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="an image file, a folder, or - for their paths on standard input, one a line",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="an .npz with the arrays `files` and `bottlenecks`, or a .csv with a line a picture",
    )
    add_device(parser)


def _run(options: argparse.Namespace) -> int:
    import numpy as np

    from ..feature_files import check_feature_file, write_features

    files: list[Path] = []
    rows: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    failures = 0
    count = Count(answers=False)
    with open_classifier(options) as classifier:
        shape = classifier.manifest.base.output.shape[1:]
        check_feature_file(options.out, len(shape))
        for path in count.of(named_pictures(options.images)):
            try:
                rows.append(classifier.extract([path], batch_size=1)[0])
                files.append(path)
            except ImageError as error:
                failures += 1
                count.complain(error)
    if not rows:
        raise ImageError("none of the pictures could be read; nothing was written")
    write_features(options.out, files, np.stack(rows))
    print(f"{len(rows)} bottlenecks of {' x '.join(map(str, shape))} written to {options.out}")
    return 1 if failures else 0
