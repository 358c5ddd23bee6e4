"""Data sets in object storage: one sub-folder of pictures per class, found by listing."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from fic_runtime.bundle.labels import is_label
from fic_runtime.images.picture_files import (
    IMAGE_SUFFIXES,
    FileUse,
    LeftOut,
    is_rubbish,
    suffix_kind,
)

from ..errors import DataError
from .dataset import Dataset
from .folders import LAYOUT
from .remote import RemotePath, file_system, retried, version_of, without_query
from .sides import sides_among

_DEEPEST = 8  # folders within each other on a web server, whose links may go round


def read_remote_folder(folder: RemotePath, *, labels: Sequence[str] | None = None) -> Dataset:
    """List the pictures below a URL whose sub-folders are the classes; the rules of `read_folder`.

    Sizes and ETags come with the listing, so an unchanged picture is not even asked about again.

    Args:
        folder: the URL to read.
        labels: the classes of the training set, when this is the validation set.

    Raises:
        DataError: it cannot be listed, or does not hold what a data set must.
    """
    class_urls = _class_urls(folder)
    if labels is None and len(class_urls) < 2:
        found = f"found {len(class_urls)}{''.join(f' ({name})' for name in class_urls)}"
        raise DataError(f"{folder}: needs at least two class folders, {found}; {LAYOUT}")
    if labels is not None and (extra := sorted(class_urls.keys() - set(labels))):
        raise DataError(
            f"{folder / extra[0]}: the training set has no class {extra[0]!r}; "
            "add it to the training set or remove the folder"
        )
    names = tuple(sorted(class_urls) if labels is None else labels)
    paths: list[RemotePath] = []
    targets: list[int] = []
    others: list[LeftOut] = []
    for target, name in enumerate(names):
        pictures, left_out = _files(class_urls[name]) if name in class_urls else ([], [])
        if not pictures and labels is None:
            formats = ", ".join(sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES))
            raise DataError(
                f"{folder / name}: no pictures of a format that fic reads ({formats}); add some "
                "or remove the folder"
            )
        paths += pictures
        others += left_out
        targets += [target] * len(pictures)
    if not paths:
        raise DataError(f"{folder}: no pictures of any class; {LAYOUT}")
    if labels is None:
        _refuse_sides(folder, class_urls, paths)
    files = FileUse(len(paths), left_out=tuple(others))
    return Dataset(tuple(paths), tuple(targets), names, folder, files=files)


def listed(folder: RemotePath, *, deep: bool) -> Mapping[str, Mapping[str, Any]]:
    """Return the entries of fsspec below a URL, by their URLs.

    Args:
        deep: all files at any depth, instead of the files and folders right there.

    Raises:
        OSError: it cannot be listed.
    """
    files = file_system(folder.url)
    above = f"{files._strip_protocol(without_query(folder.url)).rstrip('/')}/"
    depth = _DEEPEST if folder.url.lower().startswith("http") else None

    def ask() -> Mapping[str, Mapping[str, Any]]:
        if deep:
            entries = files.find(folder.url, maxdepth=depth, detail=True)
        else:
            entries = {entry["name"]: entry for entry in files.ls(folder.url, detail=True)}
        # A page that lists files may link to any place of its host.
        return {
            str(files.unstrip_protocol(name)): entry
            for name, entry in entries.items()
            if files._strip_protocol(name).startswith(above)
        }

    return retried(ask, folder)


def _class_urls(folder: RemotePath) -> dict[str, RemotePath]:
    """Return the URL of each class by its normalized name."""
    try:
        entries = listed(folder, deep=False)
    except FileNotFoundError as error:
        raise DataError(f"{folder}: no such folder or bucket; {LAYOUT}") from error
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from error
    found: dict[str, RemotePath] = {}
    for url, entry in sorted(entries.items()):
        raw = url.rstrip("/").rpartition("/")[2]
        if entry.get("type") != "directory" or is_rubbish(raw):
            continue
        name = unicodedata.normalize("NFC", raw)
        if not is_label(name):
            raise DataError(
                f"{f'{folder}/{raw}'!a}: a class name may hold no line break or control "
                "character; rename the folder"
            )
        if name in found:
            raise DataError(
                f"{folder}: two class folders are both called {name!r}, once with composed and "
                "once with combining characters; put their pictures into one folder"
            )
        found[name] = RemotePath(url.rstrip("/"))
    return found


def _files(class_url: RemotePath) -> tuple[list[RemotePath], list[LeftOut]]:
    """Return the pictures below a class, by their names, and the other files."""
    try:
        entries = listed(class_url, deep=True)
    except OSError as error:
        raise DataError(f"{class_url}: cannot be listed ({error.strerror})") from error
    start = len(class_url.url) + 1
    pictures: list[RemotePath] = []
    others: list[LeftOut] = []
    for url in sorted(entries, key=lambda url: url.split("/")):
        # An object that ends in a slash stands for a folder.
        if any(is_rubbish(part) for part in url[start:].split("/")) or url.endswith("/"):
            continue
        name = url.rpartition("/")[2]
        if f".{name.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES and "." in name:
            pictures.append(RemotePath(url, version_of(dict(entries[url]))))
        else:
            others.append(LeftOut(RemotePath(url), suffix_kind(name)))
    return pictures, others


def _refuse_sides(
    folder: RemotePath, class_urls: Mapping[str, RemotePath], pictures: Sequence[RemotePath]
) -> None:
    """Refuse sides of a split as classes, where all their pictures lie in folders below."""
    found = sides_among(class_urls)
    train, val = found.get("train"), found.get("val") or found.get("test")
    if not (train and val):
        return
    starts = [f"{class_urls[name].url}/" for name in (train, val)]
    below = [
        path.url[len(start) :]
        for start in starts
        for path in pictures
        if path.url.startswith(start)
    ]
    if below and all("/" in name for name in below):
        raise DataError(
            f"{folder}: is already split into {train} and {val}; give these folders as the "
            f"training and the validation set (--train {folder / train} --val {folder / val})"
        )
