"""Where the pictures of a run come from, and which of them are for validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .dataset import Dataset, read_folder
from .digests import FileDigests
from .errors import DataError
from .extraction import Skipped
from .options import OnError
from .progress import Progress
from .splitting import Split, split_dataset


@dataclass(frozen=True, kw_only=True)
class Source:
    """One folder to be split, or two that are split already.

    Attributes:
        data: folder with one sub-folder per class.
        val_split: share of `data` for validation.
        train: folder of the training pictures, instead of `data`.
        val: folder of the validation pictures.
    """

    data: Path | None = None
    val_split: float = 0.2
    train: Path | None = None
    val: Path | None = None

    def __post_init__(self) -> None:
        if len(self.folders) != (2 if self.data is None else 1):
            raise ValueError("give either data, or both train and val")

    @property
    def folders(self) -> list[Path]:
        """The folders that hold the pictures."""
        return [folder for folder in (self.data, self.train, self.val) if folder is not None]

    def absolute(self) -> "Source":
        """Return the same source with paths that hold in every working folder."""
        return Source(
            val_split=self.val_split,
            **{
                name: None if folder is None else folder.absolute()
                for name, folder in (("data", self.data), ("train", self.train), ("val", self.val))
            },
        )

    def keep_apart(self, *outputs: Path) -> None:
        """Refuse to write among the pictures: results there would be the next run's extra class.

        Raises:
            DataError: an output lies inside one of the folders.
        """
        for folder in self.folders:
            for output in outputs:
                if output.resolve().is_relative_to(folder.resolve()):
                    raise DataError(
                        f"{output}: lies inside the pictures in {folder}; give a folder beside them"
                    )


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures of a run: two data sets with the same classes.

    `digests` holds the 16-byte content digest of every file in them; `skipped` are the files that
    could not be read.
    """

    train: Dataset
    val: Dataset
    digests: Mapping[Path, bytes]
    skipped: Sequence[Skipped]

    def part(self, part: int, parts: int) -> "Pictures":
        """Return the pictures whose content falls into this one of `parts`, counted from 1."""
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
        return Pictures(train=train, val=val, digests=self.digests, skipped=self.skipped)


def read_pictures(
    source: Source,
    *,
    memo: Path | None,
    seed: int | None,
    on_error: OnError,
    progress: Progress,
) -> Pictures:
    """List the pictures, read their digests, and split them if they are not split already.

    Args:
        memo: file that remembers digests of unchanged files, or none.
        seed: of the split; None takes all pictures of one folder for training.

    Raises:
        DataError: a folder cannot be used, or, with `on_error="fail"`, a file cannot be read.
    """
    if source.data is not None:
        datasets = [read_folder(source.data)]
    else:
        train_folder, val_folder = source.folders
        train = read_folder(train_folder)
        datasets = [train, read_folder(val_folder, classes=train.classes)]
    digests, skipped = read_digests(datasets, memo, progress)
    if skipped and on_error == "fail":
        raise DataError(skipped[0].reason)
    readable = [
        dataset.subset([i for i, path in enumerate(dataset.paths) if path in digests])
        for dataset in datasets
    ]
    if source.data is None:
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
    return Pictures(train=train, val=val, digests=digests, skipped=skipped)


def split_folder(folder: Path, *, fraction: float, seed: int, progress: Progress) -> Split:
    """Split a folder of classes as `fic train --data` does.

    Raises:
        DataError: the folder cannot be used, or a file in it cannot be read.
    """
    source = Source(data=folder, val_split=fraction)
    pictures = read_pictures(source, memo=None, seed=seed, on_error="fail", progress=progress)
    return Split(train=pictures.train, val=pictures.val)


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
