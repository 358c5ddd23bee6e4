"""A bundle that answers: picture in, label and probabilities out."""

import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np

from .bundle import HEAD_FILE, Bundle, open_bundle
from .bundle.manifest import Manifest
from .devices import CPU, Device
from .errors import ImageError
from .graphs.graph import Batch, Graph, GraphOptions
from .heads.head import Head, check_has_base, open_head
from .images import load_image
from .images.batches import is_one_picture, pixel_batches
from .predictions import FloatArray, Prediction
from .preprocessing import ChannelOrder

if TYPE_CHECKING:
    from .explaining import Explanation
    from .images import ImageSource
    from .streaming import OnError

_SMALL_HEAD = 1 << 20  # bytes of a graph; one thread does its arithmetic in microseconds


class Classifier:
    """An image classifier that `fic export` wrote.

    It may be used from many threads and in a forked process, which opens the graphs anew, and it
    may be pickled: the receiver opens the bundle again, by its path. A head that was taught travels
    in the pickle.

    A picture is a path, the bytes of an image file, a uint8 array of shape (height, width, 3),
    (height, width, 4) or (height, width), or a PIL image.

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

    Raises:
        BundleError: no bundle there, it is damaged or of a newer format, or `head` is for another
            base.
        DeviceError: the device or a provider that was asked for cannot be used here.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        head: str | Path | None = None,
        device: Device | None = None,
        providers: Sequence[str] | None = None,
        allow_fallback: bool = False,
        threads: int | None = None,
        channel_order: ChannelOrder = "rgb",
        lean_memory: bool = False,
        graph_cache: bool = True,
    ) -> None:
        if channel_order not in ("rgb", "bgr"):
            raise ValueError(f"channel_order is 'rgb' or 'bgr'; received {channel_order!r}")
        self._bundle = open_bundle(bundle)
        check_has_base(self._bundle)
        options: GraphOptions = {
            "device": device,
            "providers": providers,
            "allow_fallback": allow_fallback,
            "threads": threads,
            "lean_memory": lean_memory,
        }
        # What pickle takes to another process, which opens the bundle again.
        self._arguments: dict[str, Any] = {
            "bundle": Path(bundle).absolute(),
            "channel_order": channel_order,
            "graph_cache": graph_cache,
            **options,
        }
        self._options = options
        self._open_graph = partial(_open_graph, options=options, graph_cache=graph_cache)
        self.channel_order: ChannelOrder = channel_order
        self._geometry = self._bundle.manifest.preprocessing.geometry
        spec = self._bundle.manifest.base
        base = self._open_graph(self._bundle, spec.file)
        base.check(spec, self._bundle.manifest.further_outputs)
        served = self.open_head(bundle if head is None else head)
        self.manifest: Manifest = served.manifest
        # Base and head are read together and replaced together: a prediction has both of one time.
        self._graphs: tuple[Graph, Head] | None = (base, served)
        self._changing = threading.Lock()

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.manifest.labels

    @property
    def provider(self) -> str:
        """The execution provider that ONNX Runtime really uses for the base."""
        return self._open_graphs()[0].provider

    @property
    def device(self) -> str:
        """Where the base runs: `cpu`, `cuda`, or the name of another provider in small letters."""
        return self.provider.removesuffix("ExecutionProvider").lower()

    def predict(self, image: "ImageSource") -> Prediction:
        """Classify one picture.

        Raises:
            ImageError: it is no picture that can be classified.
        """
        pixels = load_image(image, self._geometry, channel_order=self.channel_order)
        return self._predictions(pixels[None])[0]

    def predict_batch(
        self, images: Iterable["ImageSource"], batch_size: int = 32
    ) -> list[Prediction]:
        """Classify many pictures, `batch_size` at a time, and return them in the same order.

        Raises:
            ImageError: one is no picture that can be classified; the message says which.
        """
        return [
            prediction
            for batch in self._batches(images, batch_size)
            for prediction in self._predictions(batch)
        ]

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
            ImageError: one is no picture that can be classified; the message says which.
        """
        from .streaming import stream_pictures  # as below: most programs start without it

        if is_one_picture(images):
            raise TypeError("images is a series of pictures; for one picture use predict()")
        return stream_pictures(
            images,
            lambda image: load_image(image, self._geometry, channel_order=self.channel_order),
            self._predictions,
            on_cpu=self.provider == CPU,
            batch_size=batch_size,
            workers=workers,
            on_error=on_error,
        )

    def extract(self, images: Iterable["ImageSource"], batch_size: int = 32) -> FloatArray:
        """Return the bottlenecks of pictures: float32, shape (number of pictures, *bottleneck).

        Raises:
            ImageError: one is no picture that can be classified; the message says which.
        """
        batches = list(self.extract_batches(images, batch_size))
        if not batches:
            return np.empty((0, *self.manifest.base.output.shape[1:]), np.float32)
        return np.concatenate(batches)

    def extract_batches(
        self, images: Iterable["ImageSource"], batch_size: int = 32
    ) -> Iterator[FloatArray]:
        """Yield the bottlenecks of pictures as they are made, `batch_size` pictures at a time.

        Raises:
            ImageError: one is no picture that can be classified; the message says which.
        """
        for batch in self._batches(images, batch_size):
            yield self.bottlenecks(batch)

    def bottlenecks(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> FloatArray:
        """Run the base alone: pictures resized already, as in `run`, to (n, *bottleneck)."""
        return np.asarray(self.bottlenecks_on_device(pixels))

    def bottlenecks_on_device(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Batch:
        """Run the base alone, and leave the bottlenecks on its device for heads that are there."""
        base, _ = self._open_graphs()
        return base.run_on_device(pixels)

    def explain(self, image: "ImageSource", label: str | None = None) -> "Explanation":
        """Show where in a picture the head sees a label, the most probable one unless given.

        Raises:
            BundleError: the bundle was exported without --with-feature-map, or has no such label.
            ImageError: it is no picture that can be classified.
        """
        from .explaining import explain

        base, head = self._open_graphs()
        return explain(
            image,
            label,
            base=base,
            head=head,
            feature_map=self._bundle.manifest.feature_map,
            channel_order=self.channel_order,
        )

    def check_explainable(self, label: str | None = None) -> None:
        """Make sure that `explain` can be used, and that a label is one of the bundle's.

        Raises:
            BundleError: see `explain`.
        """
        from .explaining import explainable

        _, head = self._open_graphs()
        explainable(self._bundle.manifest.feature_map, head, label)

    def probabilities(self, bottlenecks: FloatArray) -> FloatArray:
        """Run the head alone: bottlenecks (n, *bottleneck) to probabilities (n, labels)."""
        _, head = self._open_graphs()
        return head.run(bottlenecks)

    def run(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[FloatArray, FloatArray]:
        """Return bottlenecks and probabilities of pictures that are resized already.

        Args:
            pixels: uint8 RGB, shape (n, height, width, 3) with the size of the bundle's geometry.
        """
        base, head = self._open_graphs()
        bottlenecks = base.run_on_device(pixels)
        return np.asarray(bottlenecks), head.run(bottlenecks)

    def open_head(self, head: str | Path) -> Head:
        """Open another head for this base, to be run on the bottlenecks of `extract`.

        Raises:
            BundleError: it cannot be read, or it was made for another base.
        """
        return open_head(head, self._bundle, self._open_graph)

    def swap_head(self, head: str | Path) -> None:
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
            base, _ = self._open_graphs()
            self._serve(base, served)

    def teach(self, label: str, images: Iterable["ImageSource"]) -> None:
        """Learn a new label from pictures, or an old one better; other threads may predict.

        The head is computed anew from the statistics of all classes. `known` goes, since its
        threshold was fitted without the new pictures, and what the old head measured, too. If
        anything fails, nothing changes.

        Raises:
            BundleError: the bundle was exported without --teachable.
            ImageError: one is no picture, or there is none; the message says which.
            ValueError: the label is new and not one line of printable text.
        """
        from .heads.taught import check_teachable, taught_head

        check_teachable(self._open_graphs()[1], label)
        bottlenecks = self.extract(images)
        if not len(bottlenecks):
            raise ImageError(f"no picture is given for {label!r}; give at least one")
        with self._changing:
            base, head = self._open_graphs()
            self._serve(base, taught_head(head, label, bottlenecks, self._bundle, self._head_graph))

    def forget(self, label: str) -> None:
        """Answer a label no more; other threads may predict meanwhile.

        Raises:
            BundleError: the bundle was exported without --teachable, has no such label, or would
                be left with fewer than two.
        """
        from .heads.taught import forgotten_head

        with self._changing:
            base, head = self._open_graphs()
            self._serve(base, forgotten_head(head, label, self._bundle, self._head_graph))

    def save_head(self, place: str | Path) -> None:
        """Write the head that was taught as a head-only bundle, a folder or an archive (.zip).

        It appears whole or not at all; only an earlier head is replaced.

        Raises:
            OutputError: something else is there, or it cannot be written.
            ValueError: nothing was taught.
        """
        from .heads.taught import save_head

        _, head = self._open_graphs()
        save_head(head, Path(place))

    def _serve(self, base: Graph, head: Head) -> None:
        self._graphs = (base, head)
        self.manifest = head.manifest

    def _head_graph(self, model: bytes) -> Graph:
        return Graph(model, name="the taught head", **_for_head(self._options, len(model)))

    def close(self) -> None:
        """Free the two graphs; the classifier cannot be used afterwards."""
        with self._changing:
            self._graphs = None

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
        _, head = self._open_graphs()
        arguments = {**self._arguments, "head": head.place.absolute()}
        return {"arguments": arguments, "taught": dict(head.files)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        arguments, taught = state["arguments"], state["taught"]
        self.__init__(**arguments)  # type: ignore[misc] # on purpose: the other process opens it
        if taught:
            from .heads.taught import held_head

            base, _ = self._open_graphs()
            graph = self._head_graph(taught[HEAD_FILE])
            self._serve(base, held_head(arguments["head"], taught, graph))

    def __repr__(self) -> str:
        return f"<Classifier {len(self.labels)} labels, {self.manifest.origin.get('base', '?')}>"

    def _open_graphs(self) -> tuple[Graph, Head]:
        # One read: another thread may close the classifier or swap the head between two.
        graphs = self._graphs
        if graphs is None:
            raise ValueError("this classifier is closed; make a new one")
        return graphs

    def _predictions(self, pixels: np.ndarray[Any, Any]) -> list[Prediction]:
        base, head = self._open_graphs()
        return head.predict(base.run_on_device(pixels))

    def _batches(
        self, images: Iterable["ImageSource"], batch_size: int
    ) -> Iterator[np.ndarray[Any, Any]]:
        return pixel_batches(images, batch_size, self._geometry, channel_order=self.channel_order)


def _open_graph(bundle: Bundle, file: str, *, options: GraphOptions, graph_cache: bool) -> Graph:
    if file == bundle.manifest.head.file:
        options = _for_head(options, bundle.files.size(file))
    return Graph(
        bundle.files.model(file),
        name=str(bundle.files.path(file)),
        digest=bundle.graph_digest(file) if graph_cache else None,
        reopen=partial(bundle.checked_model, file),
        further_outputs=(
            len(bundle.manifest.further_outputs) if file == bundle.manifest.base.file else 0
        ),
        **options,
    )


def _for_head(options: GraphOptions, size: int) -> GraphOptions:
    # Threads of its own would spin for a while after each run, in the way of the base's.
    return {**options, "threads": 1} if size < _SMALL_HEAD else options
