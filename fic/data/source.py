"""Source of the pictures of a run, and their split into training and validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from fic_runtime.images.picture_files import FileUse

from ..errors import DataError
from ..options import VAL_SPLIT, AnyPath, SkipOrFail, StrPath
from ..progress import Progress
from .csv_files import read_csv
from .dataset import Dataset, Skipped, Split
from .duplicates import Duplicates, find_duplicates
from .file_memo import FileDigests
from .folders import read_folder
from .remote import RemotePath, location
from .remote_folders import read_remote_folder
from .splitting import split_dataset


class _AnyLocation(AnyPath[Path | None]):
    """As `AnyPath`, and a text that is a URL becomes a `RemotePath`."""

    def __set__(self, instance: object, value: StrPath | None) -> None:
        super().__set__(instance, location(value) if isinstance(value, str) else value)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set to be split, or two that are split already.

    Each is a folder with one sub-folder per class, or a CSV file (`fic.data.csv_files.read_csv`);
    `fic.data.remote.RemotePath` is one at a URL.

    Attributes:
        data: all pictures; a CSV file with the column `split` is split already.
        val_split: share of `data` for validation.
        train: the training pictures, instead of `data`.
        val: the validation pictures.
    """

    data: AnyPath[Path | None] = _AnyLocation(None)  # a descriptor
    val_split: float = VAL_SPLIT
    train: AnyPath[Path | None] = _AnyLocation(None)  # a descriptor
    val: AnyPath[Path | None] = _AnyLocation(None)  # a descriptor

    def __post_init__(self) -> None:
        if len(self.paths) != (2 if self.data is None else 1):
            raise ValueError("give either data, or both train and val")

    @property
    def paths(self) -> list[Path]:
        """The folders and CSV files that hold or list the pictures."""
        return [path for path in (self.data, self.train, self.val) if path is not None]

    def absolute(self) -> "Source":
        """Return the same source with absolute paths."""
        return Source(
            val_split=self.val_split,
            **{
                name: None if path is None else path.absolute()
                for name, path in (("data", self.data), ("train", self.train), ("val", self.val))
            },
        )

    def keep_apart(self, *outputs: Path) -> None:
        """Refuse to write among the pictures: results there would be the next run's extra class.

        The pictures of a CSV file are listed one by one, so there only the file itself is kept.

        Raises:
            DataError: an output lies inside one of the folders, or is one of the files.
        """
        for path in self.paths:
            for output in outputs:
                if not output.resolve().is_relative_to(path.resolve()):
                    continue
                if _is_csv(path):
                    raise DataError(f"{output}: is the list of the pictures; give another path")
                raise DataError(
                    f"{output}: lies inside the pictures in {path}; give a folder beside them"
                )


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures of a run: two data sets with the same classes.

    `digests` holds the 16-byte content digest of every file in them; `skipped` are the files that
    could not be read, and `files` says what became of all that were found.
    """

    train: Dataset
    val: Dataset
    digests: Mapping[Path, bytes]
    skipped: Sequence[Skipped]
    files: FileUse = field(default=FileUse(), repr=False)

    def part(self, part: int, parts: int) -> "Pictures":
        """Return part number `part` of `parts`, from 1, by the content of the pictures."""
        train, val = (
            dataset.subset(
                [
                    i
                    for i, path in enumerate(dataset.paths)
                    if int.from_bytes(self.digests[path], "big") % parts == part - 1
                ]
            )
            for dataset in (self.train, self.val)
        )
        return replace(self, train=train, val=val)

    def note_duplicates(self, progress: Progress) -> Duplicates:
        """Find the pictures that are there twice, and tell the user of them."""
        duplicates = find_duplicates(self.train, self.val, self.digests)
        for note in duplicates.notes():
            progress.note(note)
        return duplicates

    def with_labels(self, labels: Sequence[str]) -> "Pictures":
        """Return the same pictures, with other labels, all of theirs among them."""
        if self.train.labels == tuple(labels):
            return self
        return replace(self, train=self.train.with_labels(labels), val=self.val.with_labels(labels))


class Reader(Protocol):
    """Reader of all files of one data set that is to be split, or of training and validation."""

    def __call__(
        self, datasets: Sequence[Dataset], memo: Path | None, progress: Progress, /
    ) -> tuple[dict[Path, bytes], list[Skipped]]:
        """Return the content digest of each file, and the files that are left out."""


def read_pictures(
    source: Source,
    *,
    memo: Path | None,
    seed: int | None,
    on_error: SkipOrFail,
    progress: Progress,
    reader: Reader | None = None,
) -> Pictures:
    """List the pictures, read their digests, and split them if they are not split already.

    Args:
        memo: file that remembers digests of unchanged files, or none.
        seed: of the split; None takes all pictures that are not split for training.
        reader: who reads the files, instead of `read_digests`.

    Raises:
        DataError: a data set cannot be used, or, with `on_error="fail"`, a file cannot be read.
    """
    datasets, files, unusable = _datasets(source, on_error)
    if source.data is not None and len(datasets) == 2 and seed is not None:
        progress.note(f"{source.data}: split as its column says, not by --val-split")
    digests, unreadable = (reader or read_digests)(datasets, memo, progress)
    skipped = [*unusable, *unreadable]
    if skipped and on_error == "fail":
        raise DataError(skipped[0].reason)
    readable = [
        dataset.subset([i for i, path in enumerate(dataset.paths) if path in digests])
        for dataset in datasets
    ]
    if len(readable) == 2:
        train, val = readable
    elif seed is None:
        (train,) = readable
        val = train.subset([])
    else:
        (whole,) = readable
        split = split_dataset(
            whole,
            [digests[path] for path in whole.paths],
            fraction=source.val_split,
            seed=seed,
        )
        train, val = split.train, split.val
    return Pictures(train=train, val=val, digests=digests, skipped=skipped, files=files)


def read_dataset(
    path: Path, *, labels: Sequence[str] | None = None, on_error: SkipOrFail = "fail"
) -> Dataset | Split:
    """Read a folder of classes, or a CSV file of the name `*.csv`, local or at a URL.

    Returns:
        A split where a CSV file has the column `split`, else the data set.

    Raises:
        DataError: see `fic.data.folders.read_folder` and `fic.data.csv_files.read_csv`.
    """
    if _is_csv(path):
        return read_csv(path, labels=labels, on_error=on_error)
    if isinstance(path, RemotePath):
        return read_remote_folder(path, labels=labels)
    return read_folder(path, labels=labels, on_error=on_error)


def is_split(source: Source) -> bool:
    """Return whether the source itself says which pictures are for validation.

    Raises:
        DataError: see `read_dataset`.
    """
    if source.data is None:
        return True
    return isinstance(read_dataset(source.data, on_error="skip"), Split)


def read_validation(
    path: Path, *, labels: Sequence[str] | None = None, on_error: SkipOrFail = "fail"
) -> Dataset:
    """Read the pictures to measure on: all, or those that the column `split` marks `val`.

    Raises:
        DataError: see `read_dataset`.
    """
    data = read_dataset(path, labels=labels, on_error=on_error)
    if isinstance(data, Split):
        return replace(data.val, files=data.files, skipped=data.skipped)
    return data


def split_pictures(
    path: Path, *, fraction: float, seed: int, progress: Progress, memo: Path | None = None
) -> Split:
    """Split a folder of classes, or a CSV file, as `fic train --data` does.

    Args:
        memo: file that remembers digests of unchanged files, or none.

    Raises:
        DataError: the data set cannot be used, a file of it is at a URL or cannot be read, or the
            memo would lie among the pictures.
    """
    source = Source(data=path, val_split=fraction)
    source.keep_apart(*([] if memo is None else [memo]))
    pictures = read_pictures(
        source, memo=memo, seed=seed, on_error="fail", progress=progress, reader=_local_digests
    )
    pictures.note_duplicates(progress)
    return Split(train=pictures.train, val=pictures.val, files=pictures.files)


def read_digests(
    datasets: Sequence[Dataset], memo: Path | None, progress: Progress
) -> tuple[dict[Path, bytes], list[Skipped]]:
    """Return the content digest of each file, and the files that cannot be read."""
    paths = {path for dataset in datasets for path in dataset.paths}
    progress.start("reading", len(paths), unit="file")
    try:
        with FileDigests(memo) as files:
            digests, failures = files.digests(paths, progress=progress.advance)
    finally:
        progress.finish()
    return digests, [Skipped(path, reason) for path, reason in failures.items()]


def _local_digests(
    datasets: Sequence[Dataset], memo: Path | None, progress: Progress
) -> tuple[dict[Path, bytes], list[Skipped]]:
    """As `read_digests`; pictures at URLs are refused before any is read."""
    for dataset in datasets:
        for path in dataset.paths:
            if isinstance(path, RemotePath):
                raise DataError(
                    f"{path}: is at a URL, and folders are made of files on this machine; give the "
                    "list to fic train --data, which splits it in the same way"
                )
    return read_digests(datasets, memo, progress)


def _datasets(source: Source, on_error: SkipOrFail) -> tuple[list[Dataset], FileUse, list[Skipped]]:
    """Return one data set that is to be split, or training and validation.

    Returns:
        Beside them what became of the files, and the pictures that were named in vain.
    """
    if source.data is None:
        train_path, val_path = source.paths
        train = _unsplit(train_path, on_error=on_error)
        val = _unsplit(val_path, labels=train.labels, on_error=on_error)
        return [train, val], train.files + val.files, [*train.skipped, *val.skipped]
    data = read_dataset(source.data, on_error=on_error)
    parts = [data] if isinstance(data, Dataset) else [data.train, data.val]
    return parts, data.files, [*data.skipped]


def _unsplit(path: Path, *, labels: Sequence[str] | None = None, on_error: SkipOrFail) -> Dataset:
    data = read_dataset(path, labels=labels, on_error=on_error)
    if isinstance(data, Split):
        raise DataError(
            f"{path}: has a column split, so it holds both sides; give it as --data, or leave "
            "out the column"
        )
    return data


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and not path.is_dir()
