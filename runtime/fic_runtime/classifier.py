"""A bundle that answers: picture in, label and probabilities out."""

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from .bundle import HEAD_FILE, Bundle, open_bundle
from .bundle.head_only import check_has_base
from .bundle.manifest import Manifest
from .devices import CPU
from .errors import ImageError
from .graphs.graph import Batch, Graph, GraphOptions
from .heads.head import Head, are_finite, not_finite, open_head
from .images import Pixels8, load_image
from .images.batches import check_several, pixel_batches
from .images.headers import chosen_max_pixels
from .predictions import Prediction
from .preprocessing import ChannelOrder

if TYPE_CHECKING:
    from .explaining import Explanation
    from .images import ImageSource
    from .streaming import Answer, OnError

_SMALL_HEAD = 1 << 20  # bytes of a graph; one thread does its arithmetic in microseconds


class ServingOptions(GraphOptions, total=False):
    """The options of a classifier; `Classifier` says what they mean."""

    channel_order: ChannelOrder
    graph_cache: bool
    max_pixels: int | None
    public_key: str | Path | None


class Classifier:
    """An image classifier that `fic export` wrote.

    It may be used from many threads and in a forked process, which opens the graphs anew, and it
    may be pickled: the receiver opens the bundle again, by its path. A head that was taught travels
    in the pickle.

    A picture is a path, the bytes of an image file, an open file or an upload with `read()`, a
    uint8 array of shape (height, width, 3), (height, width, 4) or (height, width), or a PIL image.

    Args:
        bundle: the folder of the bundle, or its zip archive.
        head: another bundle whose head is taken instead, head-only (`fic export --head-only`) or
            whole; it must have been made for the very base of `bundle`.
        device: `cpu`, `cuda`, or `auto`, which takes CUDA where it works; FIC_DEVICE or `auto` by
            default.
        providers: ONNX Runtime's execution providers instead of `device`; strict, in this order.
        allow_fallback: take the CPU where `device` or `providers` cannot be had.
        threads: threads for one prediction; FIC_THREADS or as many as this process may use by
            default.
        channel_order: the order of the channels in arrays, `rgb` or `bgr` (as OpenCV gives them).
        lean_memory: give memory back after each prediction instead of keeping it for the next.
        graph_cache: keep the optimised form of a large base in the user's cache folder, where the
            next start finds it; FIC_CACHE_DIR names the folder, and turns it off when empty.
        max_pixels: the most pixels of a picture that is yet to be decoded; FIC_MAX_PIXELS or
            134 217 728 by default.
        public_key: a PEM file; the bundle, and every head, must have been signed with its private
            key (`fic export --sign`). Needs `pip install 'fic-runtime[sign]'`.

    Raises:
        BundleError: no bundle there, it is damaged or of a newer format, or `head` is for another
            base.
        DeviceError: the device or a provider that was asked for cannot be used here.
        SignatureError: a bundle was not signed with `public_key`, or changed since.
        SigningError: a signature cannot be checked here.
    """

    manifest: Manifest
    _open: "tuple[ServedBase, Head] | None"

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        head: str | os.PathLike[str] | None = None,
        **options: Unpack[ServingOptions],
    ) -> None:
        base = ServedBase(bundle, **options)
        self._changing = threading.Lock()
        self._serve(base, base.open_head(bundle if head is None else head))

    @property
    def channel_order(self) -> ChannelOrder:
        """The order of the channels in arrays."""
        return self._channel_order

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.manifest.labels

    @property
    def provider(self) -> str:
        """The execution provider that ONNX Runtime really uses for the base."""
        return self._serving()[0].graph.provider

    @property
    def device(self) -> str:
        """Where the base runs: `cpu`, `cuda`, or the name of another provider in small letters."""
        return self.provider.removesuffix("ExecutionProvider").lower()

    def predict(self, image: "ImageSource") -> Prediction:
        """Classify one picture.

        Raises:
            ImageError: it is not a picture that can be classified.
        """
        base, head = self._serving()
        return head.predict(base.run(base.load(image)[None]))[0]

    def predict_batch(
        self, images: Iterable["ImageSource"], batch_size: int | None = None
    ) -> list[Prediction]:
        """Classify many pictures, and return their predictions in the same order.

        Args:
            images: the pictures.
            batch_size: how many are computed at once. By default 1 on the CPU, where as many
                threads as a prediction has compute a picture each, with the very numbers of
                `predict`, and 32 on other devices.

        Raises:
            ImageError: one is not a picture that can be classified; the message says which.
        """
        base, _ = self._serving()
        return answers_in_order(base.answers(images, self._predictions, batch_size))

    @overload
    def stream(
        self,
        images: Iterable["ImageSource"],
        batch_size: int | None = None,
        *,
        on_error: Literal["raise"] = "raise",
        workers: int | None = None,
    ) -> Generator[Prediction, None, None]: ...

    @overload
    def stream(
        self,
        images: Iterable["ImageSource"],
        batch_size: int | None = None,
        *,
        on_error: Literal["yield"],
        workers: int | None = None,
    ) -> Generator[Prediction | ImageError, None, None]: ...

    def stream(
        self,
        images: Iterable["ImageSource"],
        batch_size: int | None = None,
        *,
        on_error: "OnError" = "raise",
        workers: int | None = None,
    ) -> Generator[Prediction | ImageError, None, None]:
        """Classify pictures as they come, and yield one answer for each, in order.

        The source may be endless. Threads take from it and decode ahead, at most
        `2 * batch_size + 2 * workers` pictures; so an array must not be changed before its answer
        has come. Nothing waits for a batch to fill. Close the generator to end the threads early.

        Args:
            images: the source, iterated in a thread of its own.
            batch_size: the most pictures computed at once. By default 1 on the CPU, where each
                worker computes what it has decoded, and 32 on other devices.
            on_error: raise the ImageError of a picture, or yield it in the picture's place.
            workers: threads that decode; by default as many as this process may use.

        Raises:
            ImageError: one is not a picture that can be classified; the message says which.
        """
        base, _ = self._serving()
        return base.stream(
            images, self._predictions, batch_size=batch_size, workers=workers, on_error=on_error
        )

    def extract(
        self, images: Iterable["ImageSource"], batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """Return the bottlenecks of pictures: float32, shape (number of pictures, *bottleneck).

        `batch_size` is that of `predict_batch`.

        Raises:
            ImageError: one is not a picture that can be classified; the message says which.
        """
        base, _ = self._serving()
        rows = answers_in_order(base.answers(images, finite_rows, batch_size))
        if not rows:
            return np.empty((0, *self.manifest.base.output.item_shape), np.float32)
        return np.stack(rows)

    def extract_batches(
        self, images: Iterable["ImageSource"], batch_size: int = 32
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the bottlenecks of pictures as they are made, `batch_size` pictures at a time.

        Raises:
            ImageError: one is not a picture that can be classified; the message says which.
        """
        base, _ = self._serving()
        number = 0
        for batch in base.batches(images, batch_size):
            bottlenecks = self.bottlenecks(batch)
            finite = are_finite(bottlenecks)
            if not finite.all():
                raise ImageError(f"picture {number + int(finite.argmin())}: {not_finite()}")
            number += len(bottlenecks)
            yield bottlenecks

    @overload
    def extract_stream(
        self,
        images: Iterable["ImageSource"],
        batch_size: int | None = None,
        *,
        on_error: Literal["raise"] = "raise",
        workers: int | None = None,
    ) -> Generator[NDArray[np.float32], None, None]: ...

    @overload
    def extract_stream(
        self,
        images: Iterable["ImageSource"],
        batch_size: int | None = None,
        *,
        on_error: Literal["yield"],
        workers: int | None = None,
    ) -> Generator[NDArray[np.float32] | ImageError, None, None]: ...

    def extract_stream(
        self,
        images: Iterable["ImageSource"],
        batch_size: int | None = None,
        *,
        on_error: "OnError" = "raise",
        workers: int | None = None,
    ) -> Generator[NDArray[np.float32] | ImageError, None, None]:
        """Yield the bottleneck of each picture as it comes, float32 of the bottleneck's shape.

        In order, from a source that may be endless; the arguments are those of `stream`.

        Raises:
            ImageError: one is not a picture that can be classified; the message says which.
        """
        base, _ = self._serving()
        return base.stream(
            images,
            finite_rows,
            batch_size=batch_size,
            workers=workers,
            on_error=on_error,
        )

    def bottlenecks(self, pixels: Pixels8) -> NDArray[np.float32]:
        """Run the base alone: pictures resized already, as in `run`, to (n, *bottleneck)."""
        return np.asarray(self.bottlenecks_on_device(pixels))

    def bottlenecks_on_device(self, pixels: Pixels8) -> Batch:
        """Run the base alone, and leave the bottlenecks on its device for heads that are there."""
        return self._serving()[0].run(pixels)

    def explain(self, image: "ImageSource", label: str | None = None) -> "Explanation":
        """Show where in a picture the head sees a label, the most probable one unless given.

        Raises:
            BundleError: the bundle was exported without --with-feature-map, or has no such label.
            ImageError: it is not a picture that can be classified.
        """
        from .explaining import explain

        base, head = self._serving()
        return explain(
            image,
            label,
            base=base.graph,
            head=head,
            feature_map=base.bundle.manifest.feature_map,
            channel_order=base.channel_order,
            max_pixels=base.max_pixels,
        )

    def check_explainable(self, label: str | None = None) -> None:
        """Make sure that `explain` can be used, and that a label is one of the bundle's.

        Raises:
            BundleError: see `explain`.
        """
        from .explaining import explainable

        base, head = self._serving()
        explainable(base.bundle.manifest.feature_map, head, label)

    def probabilities(self, bottlenecks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the head alone: bottlenecks (n, *bottleneck) to probabilities (n, labels)."""
        return self._serving()[1].run(bottlenecks)

    def run(self, pixels: Pixels8) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return bottlenecks and probabilities of pictures that are resized already.

        Args:
            pixels: uint8 RGB, shape (n, height, width, 3) with the size of the bundle's geometry.
        """
        base, head = self._serving()
        bottlenecks = base.run(pixels)
        return np.asarray(bottlenecks), head.run(bottlenecks)

    def open_head(self, head: str | os.PathLike[str]) -> Head:
        """Open another head for this base, to be run on the bottlenecks of `extract`.

        Raises:
            BundleError: it cannot be read, or it was made for another base.
        """
        return self._serving()[0].open_head(head)

    def swap_head(self, head: str | os.PathLike[str]) -> None:
        """Go on with the head of another bundle, which was made for the same base.

        Other threads may predict meanwhile: each prediction is wholly of one head, its labels
        included. If the new head cannot be used, the old one stays.

        Args:
            head: a bundle, head-only (`fic export --head-only`) or whole.

        Raises:
            BundleError: it cannot be read, or it was made for another base.
        """
        served = self.open_head(head)
        with self._changing:
            base, _ = self._serving()
            self._serve(base, served)

    def teach(self, label: str, images: Iterable["ImageSource"]) -> None:
        """Add a label, or more pictures of an existing one; other threads may predict meanwhile.

        The head is computed anew from the statistics of all classes. `known` goes, since its
        threshold was fitted without the new pictures, and what the old head measured, too. If
        anything fails, nothing changes.

        Raises:
            BundleError: the bundle was exported without --teachable.
            ImageError: one is not a picture, or there is none; the message says which.
            ValueError: the label is new and not one line of printable text.
        """
        from .heads.taught import check_teachable, taught_head

        check_teachable(self._serving()[1], label)
        bottlenecks = self.extract(images)
        if not len(bottlenecks):
            raise ImageError(f"no picture is given for {label!r}; give at least one")
        with self._changing:
            base, head = self._serving()
            taught = taught_head(head, label, bottlenecks, base.bundle, base.head_graph)
            self._serve(base, taught)

    def forget(self, label: str) -> None:
        """Remove a label; other threads may predict meanwhile.

        Raises:
            BundleError: the bundle was exported without --teachable, has no such label, or would
                be left with fewer than two.
        """
        from .heads.taught import forgotten_head

        with self._changing:
            base, head = self._serving()
            self._serve(base, forgotten_head(head, label, base.bundle, base.head_graph))

    def save_head(self, path: str | os.PathLike[str]) -> None:
        """Write the head that was taught as a head-only bundle, a folder or an archive (.zip).

        It appears whole or not at all; only an earlier head is replaced.

        Raises:
            OutputError: something else is there, or it cannot be written.
            ValueError: nothing was taught.
        """
        from .heads.taught import save_head

        _, head = self._serving()
        save_head(head, Path(path))

    def close(self) -> None:
        """Free the two graphs; the classifier cannot be used afterwards."""
        with self._changing:
            self._open = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        base, head = self._serving()
        return {"base": base, "head": head.path.absolute(), "taught": dict(head.files)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._changing = threading.Lock()
        base: ServedBase = state["base"]
        if state["taught"]:
            from .heads.taught import held_head

            graph = base.head_graph(state["taught"][HEAD_FILE])
            self._serve(base, held_head(state["head"], state["taught"], graph))
        else:
            self._serve(base, base.open_head(state["head"]))

    def __repr__(self) -> str:
        return f"<Classifier {len(self.labels)} labels, {self.manifest.origin.get('base', '?')}>"

    def _serve(self, base: "ServedBase", head: Head) -> None:
        # Base and head are read together and replaced together: a prediction has both of one time.
        self._open = (base, head)
        self._channel_order = base.channel_order
        self.manifest = head.manifest

    def _serving(self) -> tuple["ServedBase", Head]:
        # One read: another thread may close the classifier or swap the head between two.
        serving = self._open
        if serving is None:
            raise ValueError("this classifier is closed; make a new one")
        return serving

    def _predictions(self, bottlenecks: Batch) -> list[Prediction | ImageError]:
        return self._serving()[1].answers(bottlenecks)


def finite_rows(bottlenecks: Batch) -> list[NDArray[np.float32] | ImageError]:
    """Return each bottleneck, and an error in the place of one that is not finite."""
    rows = np.asarray(bottlenecks)
    return [
        row if usable else not_finite()
        for row, usable in zip(rows, are_finite(rows).tolist(), strict=True)
    ]


def answers_in_order(answers: "Iterable[Answer | ImageError]") -> "list[Answer]":
    """Return the answers to many pictures.

    Raises:
        ImageError: one has none; the message says which.
    """
    found: list[Answer] = []
    for answer in answers:
        if isinstance(answer, ImageError):
            raise ImageError(f"picture {len(found)}: {answer}") from answer
        found.append(answer)
    return found


class ServedBase:
    """The base of a bundle, opened for one head or many: pictures in, bottlenecks out.

    What `Classifier` and `MultiClassifier` share. A pickle opens the bundle again, by its path.

    Args:
        bundle: see `Classifier`, as for all that follow.
        channel_order: the order of the channels in arrays.
        graph_cache: keep the optimised form of a large base in the user's cache folder.
        max_pixels: the most pixels of a picture that is yet to be decoded.
        public_key: a PEM file; the bundle, and every head, must have been signed with its key.
        options: see `GraphOptions`.

    Raises:
        BundleError: no bundle there, it is damaged or of a newer format, or a head alone.
        DeviceError: the device or a provider that was asked for cannot be used here.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        channel_order: ChannelOrder = "rgb",
        graph_cache: bool = True,
        max_pixels: int | None = None,
        public_key: str | Path | None = None,
        **options: Unpack[GraphOptions],
    ) -> None:
        if channel_order not in ("rgb", "bgr"):
            raise ValueError(f"channel_order is 'rgb' or 'bgr'; received {channel_order!r}")
        self.max_pixels: int | None = None if max_pixels is None else chosen_max_pixels(max_pixels)
        self._public_key = None if public_key is None else Path(public_key).absolute()
        opened = open_bundle(bundle, public_key=self._public_key)
        check_has_base(opened)
        self.bundle: Bundle = opened.released()
        self.channel_order: ChannelOrder = channel_order
        self._graph_cache = graph_cache
        self._options = options
        manifest = self.bundle.manifest
        self._geometry = manifest.preprocessing.geometry
        self.graph: Graph = self._open_graph(opened, manifest.base.file)
        self.graph.check(manifest.base, manifest.further_outputs)

    def load(self, image: "ImageSource") -> Pixels8:
        """Return the pixels of a picture as the base takes them, (height, width, 3)."""
        return load_image(
            image,
            self._geometry,
            channel_order=self.channel_order,
            max_pixels=self.max_pixels,
        )

    def batches(self, images: Iterable["ImageSource"], batch_size: int) -> Iterator[Pixels8]:
        """Yield the pixels of pictures; see `pixel_batches`."""
        return pixel_batches(
            images,
            batch_size,
            self._geometry,
            channel_order=self.channel_order,
            max_pixels=self.max_pixels,
        )

    def run(self, pixels: Pixels8) -> Batch:
        """Return the bottlenecks of pixels, (n, *bottleneck), where they were computed."""
        return self.graph.run_on_device(pixels)

    def answers(
        self,
        images: Iterable["ImageSource"],
        answer: "Callable[[Batch], Sequence[Answer]]",
        batch_size: int | None,
    ) -> "Iterator[Answer]":
        """Yield one answer for each picture, in order; see `Classifier.predict_batch`.

        Args:
            images: the pictures.
            answer: from n bottlenecks to n answers.
            batch_size: how many are computed at once.
        """
        if batch_size is not None or self.graph.provider != CPU:
            for batch in self.batches(images, 32 if batch_size is None else batch_size):
                yield from answer(self.run(batch))
            return
        few = isinstance(images, Sized) and len(images) < self.graph.threads
        if few or self.graph.threads == 1:
            for batch in self.batches(images, 1):
                yield from answer(self.run(batch))
            return
        from .streaming import answer_all  # most programs start without it

        check_several(images)
        graph = self.graph.with_one_thread()
        yield from answer_all(
            images,
            self.load,
            lambda pixels: answer(graph.run(pixels)),
            workers=self.graph.threads,
            interrupt=self.graph.interrupt,
        )

    def stream(
        self,
        images: Iterable["ImageSource"],
        answer: "Callable[[Batch], Sequence[Answer | ImageError]]",
        *,
        batch_size: int | None,
        workers: int | None,
        on_error: "OnError",
    ) -> "Generator[Answer | ImageError, None, None]":
        """Yield one answer for each picture, in order; see `Classifier.stream`.

        Args:
            images: the source.
            answer: from n bottlenecks to n answers, with an error in the place of some.
            batch_size: the most pictures computed at once.
            workers: threads that decode.
            on_error: raise the ImageError of a picture, or yield it in the picture's place.
        """
        from .streaming import stream_pictures  # most programs start without it

        check_several(images)
        on_cpu = self.graph.provider == CPU
        # The workers compute then, at the same time.
        one_by_one = on_cpu and batch_size in (None, 1)
        graph = self.graph.with_one_thread if one_by_one else lambda: self.graph
        return stream_pictures(
            images,
            self.load,
            lambda pixels: answer(graph().run_on_device(pixels)),
            on_cpu=on_cpu,
            batch_size=batch_size,
            workers=workers,
            on_error=on_error,
            interrupt=self.graph.interrupt,
        )

    def open_head(self, head: str | os.PathLike[str]) -> Head:
        """Open the head of a bundle, made for this base.

        Raises:
            BundleError: it cannot be read, or it was made for another base.
            SignatureError: it was not signed with the key that this base was opened with.
        """
        return open_head(head, self.bundle, self._open_graph)

    def head_graph(self, model: bytes) -> Graph:
        """Open the graph of a head that was taught here."""
        return Graph(model, name="the taught head", **self._options_for(len(model)))

    def _open_graph(self, bundle: Bundle, file: str) -> Graph:
        manifest, options, further = bundle.manifest, self._options, 0
        if file == manifest.head.file:
            options = self._options_for(bundle.files.size(file))
        if file == manifest.base.file:
            further = len(manifest.further_outputs)
        return Graph(
            bundle.model(file),
            name=str(bundle.files.path(file)),
            digest=bundle.graph_digest(file) if self._graph_cache else None,
            reopen=partial(bundle.released().checked_model, file),
            further_outputs=further,
            **options,
        )

    def _options_for(self, head_size: int) -> GraphOptions:
        # Threads of its own would spin for a while after each run, in the way of the base's.
        return {**self._options, "threads": 1} if head_size < _SMALL_HEAD else self._options

    def __getstate__(self) -> dict[str, Any]:
        return {
            "bundle": self.bundle.path,
            "channel_order": self.channel_order,
            "graph_cache": self._graph_cache,
            "max_pixels": self.max_pixels,
            "public_key": self._public_key,
            **self._options,
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc] # on purpose: the other process opens it
