"""Training through the whole network: each epoch sends every picture through the base anew.

It decodes and augments what the cache would have kept; in return each epoch shows other views.
"""

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fic_runtime.errors import ImageError
from fic_runtime.preprocessing import Geometry

from ..bases.opening import AnyBase
from ..data import Dataset, Pictures
from ..data.dataset import Skipped, each_once
from ..options import CacheOptions
from ..progress import Progress
from .cached import CacheUse
from .engines import Engine, choose_engine
from .extraction import Batch, Picture, bottleneck_batches, pixel_batches

# Views are numbered in four bytes; 0 is the plain picture.
_VIEWS = 2**32


@dataclass(frozen=True, kw_only=True)
class LivePictures:
    """The pictures of one data set, decoded again for every epoch.

    Attributes:
        digests: the content digest of each file.
        batch_size: pictures that are decoded, and go through the base, together.
        stop_on_error: whether a picture that cannot be read ends the run.
    """

    dataset: Dataset
    digests: Mapping[Path, bytes]
    geometry: Geometry
    batch_size: int
    stop_on_error: bool
    progress: Progress

    @property
    def targets(self) -> NDArray[Any]:
        """Index of each picture's class, shape (pictures,)."""
        return np.asarray(self.dataset.targets)

    def augmented(self, random: np.random.Generator) -> list[Picture]:
        """Return the pictures in a new order, each as a view of its own."""
        count = len(self.dataset)
        order = random.permutation(count)
        views = random.integers(1, _VIEWS, size=count)
        paths = [self.dataset.paths[index] for index in order]
        return [
            Picture(path, self.digests[path], [int(view)])
            for path, view in zip(paths, views, strict=True)
        ]

    def unaugmented(self) -> list[Picture]:
        """Return the plain pictures, in their order."""
        return [Picture(path, self.digests[path], [0]) for path in self.dataset.paths]

    def pixels(self, pictures: Iterable[Picture]) -> Generator[Batch, None, None]:
        """Decode and resize pictures, in their order."""
        return pixel_batches(pictures, self.geometry, batch_size=self.batch_size)

    def epoch_of(
        self, batches: Generator[Batch, None, None], batch_size: int
    ) -> Generator[tuple[NDArray[Any], NDArray[Any]], None, Sequence[Skipped]]:
        """Yield rows and targets in batches of `batch_size`; pictures may be missing.

        Returns:
            The pictures that could not be read.

        Raises:
            ImageError: a picture cannot be read, and that ends the run; or none can any more.
        """
        skipped: list[Skipped] = []
        shown = 0
        target = dict(zip(self.dataset.paths, self.dataset.targets, strict=True))
        rows: list[NDArray[Any]] = []
        targets: list[int] = []
        for batch in self._watch("training", batches, all_needed=self.stop_on_error):
            skipped += batch.skipped
            shown += len(batch.rows)
            rows.append(batch.rows)
            targets += [target[path] for path in batch.paths]
            while len(targets) >= batch_size:
                whole = np.concatenate(rows)
                yield whole[:batch_size], np.asarray(targets[:batch_size])
                rows, targets = [whole[batch_size:]], targets[batch_size:]
        if targets:
            yield np.concatenate(rows), np.asarray(targets)
        if not shown:
            raise ImageError(
                f"{skipped[-1].reason}; nor can any other training picture: are they still "
                "where they were?"
            )
        return skipped

    def all_of(
        self, title: str, batches: Generator[Batch, None, None], *, all_needed: bool = True
    ) -> Generator[NDArray[Any], None, None]:
        """Yield the rows of each batch.

        Args:
            all_needed: raise for a picture that cannot be read: of validation pictures none may
                go missing on the way, or the epochs could not be compared.

        Raises:
            ImageError: a picture cannot be read, and all are needed.
        """
        for batch in self._watch(title, batches, all_needed=all_needed):
            if batch.paths:
                yield batch.rows

    def readable(self) -> tuple[Dataset, list[Skipped]]:
        """Return the pictures that can be decoded, and the others.

        Raises:
            ImageError: a picture cannot be read, and that ends the run.
        """
        batches = self.pixels(self.unaugmented())
        skipped: list[Skipped] = []
        for batch in self._watch("checking", batches, all_needed=self.stop_on_error):
            skipped += batch.skipped
        unreadable = {picture.path for picture in skipped}
        readable = [
            index for index, path in enumerate(self.dataset.paths) if path not in unreadable
        ]
        return self.dataset.subset(readable), skipped

    def _watch(
        self, title: str, batches: Generator[Batch, None, None], *, all_needed: bool
    ) -> Generator[Batch, None, None]:
        self.progress.start(title, len(self.dataset), unit="image")
        try:
            with closing(batches):
                for batch in batches:
                    if batch.skipped and all_needed:
                        raise ImageError(batch.skipped[0].reason)
                    self.progress.advance(len(batch.paths), batch.lost)
                    yield batch
        finally:
            self.progress.finish()


@dataclass(frozen=True)
class LiveBottlenecks:
    """The bottlenecks of one data set, made anew whenever they are asked for."""

    pictures: LivePictures
    engine: Engine
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def dataset(self) -> Dataset:
        """The pictures, with their classes."""
        return self.pictures.dataset

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of `targets`."""
        return self.dataset.labels

    @property
    def targets(self) -> NDArray[Any]:
        """Index of each picture's class, shape (pictures,)."""
        return self.pictures.targets

    def epoch(
        self, random: np.random.Generator, batch_size: int
    ) -> Generator[tuple[NDArray[Any], NDArray[Any]], None, Sequence[Skipped]]:
        """Yield each picture once, in a new order, as a view that is drawn for this epoch."""
        return self.pictures.epoch_of(self._batches(self.pictures.augmented(random)), batch_size)

    def plain(self) -> Generator[NDArray[Any], None, None]:
        """Yield blocks of the plain view's bottlenecks.

        Raises:
            ImageError: a picture cannot be read any more.
        """
        return self.pictures.all_of("validating", self._batches(self.pictures.unaugmented()))

    def for_statistics(self) -> Generator[NDArray[Any], None, None]:
        """Yield blocks of the plain view's bottlenecks: the other views have no end.

        A picture that cannot be read any more is missing here, and told of by `epoch`.
        """
        return self.pictures.all_of(
            "statistics",
            self._batches(self.pictures.unaugmented()),
            all_needed=self.pictures.stop_on_error,
        )

    def close(self) -> None:
        """Do nothing: no file is open."""

    def _batches(self, pictures: Iterable[Picture]) -> Generator[Batch, None, None]:
        own = self.pictures
        return bottleneck_batches(
            pictures, self.engine, own.geometry, batch_size=own.batch_size, in_order=True
        )


def prepare_live(
    pictures: Pictures, base: AnyBase, options: CacheOptions, progress: Progress
) -> tuple[LiveBottlenecks, LiveBottlenecks, CacheUse]:
    """Return training and validation pictures as bottlenecks that are made on the way.

    All pictures are decoded once, so that those that cannot be read are known before the training.

    Raises:
        ImageError: a picture cannot be decoded, and the options say to stop then.
    """
    started = time.perf_counter()
    duplicates = pictures.note_duplicates(progress)
    chosen = choose_engine(options.engine, base)
    progress.note(f"engine {chosen.engine.name}: {chosen.reason}")

    def part(dataset: Dataset) -> tuple[LiveBottlenecks, list[Skipped]]:
        readable, skipped = live_pictures(dataset, pictures, base, options, progress).readable()
        own = live_pictures(readable, pictures, base, options, progress)
        return LiveBottlenecks(own, chosen.engine, base.fingerprint.shape), skipped

    train, train_skipped = part(pictures.train)
    val, val_skipped = part(pictures.val)
    use = CacheUse(
        skipped=each_once([*pictures.skipped, *train_skipped, *val_skipped]),
        files=pictures.files,
        duplicates=duplicates,
        engine=chosen.engine.name,
        seconds=time.perf_counter() - started,
    )
    return train, val, use


def live_pictures(
    dataset: Dataset,
    pictures: Pictures,
    base: AnyBase,
    options: CacheOptions,
    progress: Progress,
) -> LivePictures:
    """Return a data set whose pictures are decoded for every epoch; see `LivePictures`."""
    return LivePictures(
        dataset=dataset,
        digests=pictures.digests,
        geometry=base.preprocessing.geometry,
        batch_size=options.batch_size,
        stop_on_error=options.on_error == "fail",
        progress=progress,
    )
