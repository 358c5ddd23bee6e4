"""What is fuzzed: each target takes any bytes and may raise nothing but a FicError.

Bytes that a target passes over have no meaning for it. A crash, a hang, and memory without bound
are for whoever runs it to notice.
"""

import hashlib
import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import training_targets

from fic.data import Dataset, Split
from fic.data.csv_files import read_csv
from fic.data.folders import read_folder
from fic_runtime.bundle import CLASS_WEIGHTS_FILE, GOLDEN_FILE, MANIFEST_FILE, open_bundle
from fic_runtime.bundle.graph_contents import contents_of_file
from fic_runtime.bundle.manifest import Manifest
from fic_runtime.classifier import Classifier
from fic_runtime.diagnostics.selftest import run_selftest
from fic_runtime.errors import FicError
from fic_runtime.images import decode_image, read_image
from fic_runtime.images.picture_files import list_pictures
from fic_runtime.preprocessing import Geometry

BUNDLE = Path(__file__).parents[1] / "tests/data/explaining-bundle"

_LISTS = [
    b"path,label\n1.jpg,a\n2.jpg,b\ngone.jpg,a\n",
    b'\xef\xbb\xbfsplit;path;label;by\r\nTrain;1.jpg;a;me\r\ntrain;"p\\3.jpg";b;me\r\nval;2.jpg;a;\r\n',
    b"sep=\t\nlabel\tpath\tsplit\na\t1.jpg\ttest\nb\t2.jpg\ttrain\nb\tp/3.jpg\tdev\n",
]
_TREE = (
    b"d\0a\nd\0b\nd\1x\nd\0@eaDir\nf\0loose.jpg\nf\1one.jpg\t\xff\xd8\xff\nf\2two.PNG\nf\1three\t\xff\xd8\xff"
    b"\nf\2four.heic\tHEIC\nf\4thumb.jpg\nl\1up\t..\nl\3round\t../x\nl\2link.jpg\tnowhere\nl\0c\ta\np\2pipe.jpg\nr\3\t\0"
)
_GEOMETRY = Geometry(height=8, width=8)
_MOST_PIXELS = 1 << 20
EXTREMES = ("1e999", "-0", "1e308", "9" * 400, "4294967297", "0.1e-400", "NaN", "[" * 20 + "]" * 20)


def decode(data: bytes) -> None:
    """Decode a picture file, whole and as small as the input allows."""
    for geometry in (None, _GEOMETRY):
        try:
            pixels = decode_image(data, geometry=geometry, max_pixels=_MOST_PIXELS)
        except FicError as error:
            _check_sentence(error)
            continue
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise AssertionError(f"{pixels.dtype} {pixels.shape} is not an RGB picture")
        if pixels.size > 3 * _MOST_PIXELS:
            raise AssertionError(f"{pixels.shape} is past the limit")


def manifest(data: bytes) -> None:
    """Read a manifest; what was read is written and read again."""
    try:
        found = Manifest.from_json(data.decode("utf-8", "replace"))
        again = found.to_json()
    except FicError as error:
        _check_sentence(error)
    else:
        if Manifest.from_json(again).to_json() != again:
            raise AssertionError("the manifest changes when it is written and read")


def archive(data: bytes) -> None:
    """Open a bundle that is a zip archive."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bundle.zip"
        file.write_bytes(data)
        _tolerate(lambda: open_bundle(file))


def golden(data: bytes) -> None:
    """Run the self-test on recorded results."""
    _with_file(GOLDEN_FILE, data, lambda folder: run_selftest(folder, device="cpu", threads=1))


def linear_head(data: bytes) -> None:
    """Open a bundle with the linear form of its head."""
    _with_file(CLASS_WEIGHTS_FILE, data, lambda folder: Classifier(folder, device="cpu", threads=1))


def graph(data: bytes) -> None:
    """Look into a graph; what ONNX Runtime makes of a damaged one is not looked at here."""
    try:
        contents_of_file(data)
    except ValueError:  # which `open_bundle` turns into a sentence
        return


def csv_file(data: bytes) -> None:
    """Read a CSV file of pictures, strictly and with broken lines skipped; no row is lost."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("1.jpg", "2.jpg", "p/3.jpg"):
            (Path(folder) / name).parent.mkdir(exist_ok=True)
            (Path(folder) / name).touch()
        file = Path(folder) / "list.csv"
        file.write_bytes(data)
        for on_error in ("skip", "fail"):
            _tolerate(lambda on_error=on_error: _check_read(read_csv(file, on_error=on_error)))


def _check_read(found: Dataset | Split) -> None:
    parts = [found] if isinstance(found, Dataset) else [found.train, found.val]
    paths = [path for part in parts for path in part.paths]
    if len(set(paths)) != len(paths) or len(paths) != found.files.used:
        raise AssertionError(f"{paths} are not the pictures of {found.files}")
    if found.skipped and not all(path.is_file() for path in paths):
        raise AssertionError(f"{paths} are not all there, though what is not was to be skipped")
    if any("\n" in picture.reason for picture in found.skipped):
        raise AssertionError(f"{found.skipped} are not sentences")


def walker(data: bytes) -> None:
    """List the pictures of a tree of files, folders and links with any names and rights.

    Each line makes one of them: a letter for its kind, the number of the folder that it goes into,
    its name, and after a tab what it holds, leads to, or who may read it.
    """
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "data"
        root.mkdir()
        folders = [root]
        for line in data.split(b"\n")[:60]:
            _grow(line, folders)
        try:
            _tolerate(lambda: _check_listed(root))
            _tolerate(lambda: _check_read(read_folder(root)))
        finally:
            for folder in folders:
                folder.chmod(0o700)


def _grow(line: bytes, folders: list[Path]) -> None:
    kind, number, (name, _, more) = line[:1], line[1:2], line[2:].partition(b"\t")
    parent = folders[(number or b"\0")[0] % len(folders)]
    # One name and no path: nothing is made outside.
    name = name.replace(b"/", b"_").replace(b"\0", b"_")[:100]
    path = parent / os.fsdecode(name)
    try:
        if name in (b"", b".", b".."):
            return
        if kind == b"d":
            path.mkdir()
            folders.append(path)
        elif kind == b"l":
            path.symlink_to(os.fsdecode(more.replace(b"\0", b"_")[:100]))
        elif kind == b"r":
            parent.chmod(int.from_bytes(more[:1], "big") | 0o200)
        elif kind == b"p":
            os.mkfifo(path)
        else:
            with path.open("xb") as file:  # into no pipe, and through no link
                file.write(more)
    except OSError:  # it is there already, or the system knows no such name
        return


def _check_listed(root: Path) -> None:
    listing = list_pictures([root])
    if len(set(listing.pictures)) != len(listing):
        raise AssertionError(f"{listing.pictures} holds one twice")
    if len(listing) < listing.files.used:
        raise AssertionError(f"{listing.files} counts more than {listing.pictures}")
    if "\n" in listing.files.line():
        raise AssertionError(f"{listing.files.line()!r} is not one line")
    for path in listing:
        if not path.is_dir():
            _tolerate(lambda path=path: read_image(path, geometry=_GEOMETRY))


def options(data: bytes) -> None:
    """Run `fic-runtime` with any arguments: it ends with 0 to 3, and changes none of its inputs."""
    from fic_runtime.cli import main

    words = [os.fsdecode(word) for word in data.split(b"\0") if word != b"-"]
    # Those that would go on until they are told to end, or measure for seconds.
    if not words or words[0] in ("serve", "watch", "bench", "doctor"):
        return
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        inputs = {Path("bundle", name): content for name, content in _files().items()}
        inputs |= {Path("photos", f"{i}.png"): content for i, content in enumerate(_pictures()[:2])}
        for path, content in inputs.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        if any(os.path.isabs(word) or ".." in word for word in words):  # noqa: PTH117  # any text
            return
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main(words)
            except SystemExit as end:
                if end.code not in (None, 0, 1, 2, 3):
                    raise AssertionError(f"exit code {end.code!r}") from end
        if any(path.read_bytes() != content for path, content in inputs.items()):
            raise AssertionError("an input was changed")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "decode": decode,
    "manifest": manifest,
    "archive": archive,
    "golden": golden,
    "linear_head": linear_head,
    "graph": graph,
    **training_targets.TARGETS,
    "csv_file": csv_file,
    "walker": walker,
    "options": options,
}


def seeds(target: str) -> list[bytes]:
    """Return valid inputs of a target."""
    if target in training_targets.TARGETS:
        return training_targets.seeds(target)
    if target == "decode":
        return _pictures()
    if target == "csv_file":
        return _LISTS
    if target == "walker":
        return [_TREE]
    if target == "archive":
        packed = [_zipped(zipfile.ZIP_STORED), _zipped(zipfile.ZIP_DEFLATED)]
        # What an attack begins with: names that are alike, and sizes that are not what they are.
        return [*packed, _zipped(zipfile.ZIP_STORED, LABELS_TXT=b"x"), _lying(packed[1])]
    if target == "manifest":
        return [_files()[MANIFEST_FILE], *map(_extreme, EXTREMES)]
    if target == "options":
        lines = [
            "predict bundle photos --json",
            "extract bundle photos --out f.npz",
            "explain bundle photos/0.png --out seen.png --label a",
            "teach bundle new photos --out head.zip",
            "selftest bundle",
        ]
        return [line.replace(" ", "\0").encode() for line in lines]
    if target == "golden":
        return [_recorded(np.savez), _recorded(np.savez_compressed)]
    file = {
        "linear_head": CLASS_WEIGHTS_FILE,
        "graph": "base.onnx",
    }[target]
    return [(BUNDLE / file).read_bytes()]


def _pictures() -> list[bytes]:
    """Return a small picture in every format that OpenCV writes here, and some that Pillow does."""
    import cv2

    y, x = np.mgrid[0:12, 0:16]
    colour = np.stack([x * 15, y * 20, (x + y) * 9], -1).astype(np.uint8)
    deep = colour.astype(np.uint16) * 257
    ways: list[tuple[str, np.ndarray, list[int]]] = [
        (".jpg", colour, []),
        (".jpg", colour, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        *((suffix, colour, []) for suffix in (".png", ".bmp", ".tif", ".webp", ".ppm", ".gif")),
        *((suffix, colour[..., 0], []) for suffix in (".png", ".pgm", ".tif", ".jpg")),
        *((suffix, deep, []) for suffix in (".png", ".tif", ".ppm")),
        (".avif", colour, []),
        (".pbm", colour[..., 0], []),
    ]
    found = []
    for suffix, pixels, options in ways:
        try:
            found.append(bytes(cv2.imencode(suffix, pixels, options)[1]))
        except cv2.error:
            continue  # this OpenCV does not write the format
    # A header that readers take for two sizes.
    return [*found, b"P5\n#\r40 30 255 \n1 1 255\n" + bytes(1200), *_with_pillow(colour)]


def _with_pillow(colour: np.ndarray) -> list[bytes]:
    try:
        from PIL import Image
    except ImportError:
        return []
    exif = Image.Exif()
    exif[274] = 6
    found = []
    for format, options in (
        ("JPEG", {"exif": exif}),
        ("PNG", {"exif": exif}),
        ("WEBP", {"exif": exif, "lossless": True}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate", "exif": exif}),
        ("GIF", {"save_all": True, "append_images": [Image.fromarray(colour[::-1].copy())]}),
    ):
        file = io.BytesIO()
        Image.fromarray(colour).save(file, format, **options)
        found.append(file.getvalue())
    return found


def _recorded(save: Any) -> bytes:
    """Return recorded results that are small, and fit the manifest."""
    import cv2

    black = np.zeros((1, 32, 40, 3), np.uint8)
    file = io.BytesIO()
    save(
        file,
        picture=np.asarray(cv2.imencode(".png", black[0])[1]).ravel(),
        images=black,
        bottlenecks=np.zeros((1, 3), np.float32),
        probabilities=np.zeros((1, 3), np.float32),
    )
    return file.getvalue()


def _zipped(compression: int, **more: bytes) -> bytes:
    file = io.BytesIO()
    others = {name.replace("_", "."): content for name, content in more.items()}
    with zipfile.ZipFile(file, "w", compression) as packed:
        for name, content in sorted({**_files(), **others}.items()):
            packed.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def _lying(archive: bytes) -> bytes:
    """Return an archive whose manifest unpacks to more than is stated."""
    size = len(_files()[MANIFEST_FILE])
    return archive.replace(size.to_bytes(4, "little"), (size // 2).to_bytes(4, "little"))


def _extreme(number: str) -> bytes:
    """Return a manifest in which one number of each kind is this one."""
    text = _files()[MANIFEST_FILE].decode()
    return re.sub(r"(?<=[\[ ])\d+(?:\.\d+)?(?=[,\n\]])", number, text, count=6).encode()


@cache
def _files() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in BUNDLE.iterdir()}


def _with_file(name: str, data: bytes, use: Callable[[Path], object]) -> None:
    """Use a bundle in which one file is another, with the right digest."""
    values = json.loads(_files()[MANIFEST_FILE])
    values["files"][name] = hashlib.sha256(data).hexdigest()
    changed = {name: data, MANIFEST_FILE: json.dumps(values).encode()}
    with tempfile.TemporaryDirectory() as folder:
        for file, content in {**_files(), **changed}.items():
            (Path(folder) / file).write_bytes(content)
        _tolerate(lambda: use(Path(folder)))


def _tolerate(use: Callable[[], object]) -> None:
    try:
        use()
    except FicError as error:
        _check_sentence(error)


def _check_sentence(error: FicError) -> None:
    if "\n" in str(error) or not str(error):
        raise AssertionError(f"{error!r} is not one sentence") from error
