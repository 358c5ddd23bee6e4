"""Many heads on one base: a picture goes through the base once, and through each head."""

import os
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from .bundle.manifest import Manifest
from .classifier import ServedBase, ServingOptions, answers_in_order
from .errors import BundleError, ImageError
from .graphs.graph import Batch
from .heads.head import Head, answered
from .predictions import Prediction

if TYPE_CHECKING:
    from .images import ImageSource
    from .streaming import OnError


class MultiClassifier:
    """Several classifiers that share the base of a bundle, and its pass over each picture.

    Safe to use from many threads, and picklable like a `Classifier`; heads may come and go
    meanwhile. A call has the heads that were there when it began.

    Args:
        bundle: the folder or zip archive of the bundle that has the base. Its own head answers only
            if it is among `heads`.
        heads: bundles, head-only (`fic export --head-only`) or whole, made for this very base; each
            goes by the name of its folder or archive, or by its name in a mapping.
        device: see `Classifier`, as for all that follow.
        providers: ONNX Runtime's execution providers instead of `device`.
        allow_fallback: take the CPU where they cannot be had.
        threads: threads for one prediction.
        channel_order: the order of the channels in arrays.
        lean_memory: give memory back after each prediction instead of keeping it for the next.
        graph_cache: keep the optimised form of a large base in the user's cache folder.
        max_pixels: the most pixels of a picture that is yet to be decoded.
        public_key: a PEM file; the bundle and all heads must have been signed with its key.

    Raises:
        BundleError: a bundle cannot be read, a head is for another base, or two have one name.
        DeviceError: the device or a provider that was asked for cannot be used here.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        heads: Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]] = (),
        **options: Unpack[ServingOptions],
    ) -> None:
        if isinstance(heads, str | os.PathLike):
            raise TypeError(f"heads is a list of bundles or a mapping; received {heads!r}")
        self._begin(ServedBase(bundle, **options), heads)

    def _begin(
        self,
        base: ServedBase,
        heads: Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]],
    ) -> None:
        self._base: ServedBase | None = base
        # Never changed, only replaced: who reads it once has the heads of one time.
        self._heads: Mapping[str, Head] = {}
        self._changing = threading.Lock()
        named = heads.items() if isinstance(heads, Mapping) else ((None, head) for head in heads)
        for name, head in named:
            self.attach(head, name)

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The class names of each head by its name, in the order of its probabilities."""
        return {name: head.labels for name, head in self._heads.items()}

    @property
    def manifests(self) -> dict[str, Manifest]:
        """What each head's bundle holds, by the name of the head."""
        return {name: head.manifest for name, head in self._heads.items()}

    @property
    def provider(self) -> str:
        """The execution provider that ONNX Runtime really uses for the base."""
        return self._serving().graph.provider

    def predict(self, image: "ImageSource") -> dict[str, Prediction]:
        """Classify one picture; return what each head says by its name, in the order attached.

        Raises:
            ImageError: it is not a picture that can be classified.
        """
        base, heads = self._serving(), self._heads
        return answered(_answers(heads, base.run(base.load(image)[None]))[0])

    def predict_batch(
        self, images: Iterable["ImageSource"], batch_size: int | None = None
    ) -> list[dict[str, Prediction]]:
        """Classify many pictures, and return what each head says of them in the same order.

        `batch_size` is that of `Classifier.predict_batch`.

        Raises:
            ImageError: one is not a picture that can be classified; the message says which.
        """
        base, heads = self._serving(), self._heads
        return answers_in_order(base.answers(images, partial(_answers, heads), batch_size))

    @overload
    def stream(
        self,
        images: Iterable["ImageSource"],
        batch_size: int | None = None,
        *,
        on_error: Literal["raise"] = "raise",
        workers: int | None = None,
    ) -> Generator[dict[str, Prediction], None, None]: ...

    @overload
    def stream(
        self,
        images: Iterable["ImageSource"],
        batch_size: int | None = None,
        *,
        on_error: Literal["yield"],
        workers: int | None = None,
    ) -> Generator[dict[str, Prediction] | ImageError, None, None]: ...

    def stream(
        self,
        images: Iterable["ImageSource"],
        batch_size: int | None = None,
        *,
        on_error: "OnError" = "raise",
        workers: int | None = None,
    ) -> Generator[dict[str, Prediction] | ImageError, None, None]:
        """Classify pictures as they come, in order; see `Classifier.stream`.

        Heads may come and go meanwhile: an answer has those that were there when its picture was
        computed.
        """
        return self._serving().stream(
            images,
            lambda bottlenecks: _answers(self._heads, bottlenecks),
            batch_size=batch_size,
            workers=workers,
            on_error=on_error,
        )

    def attach(
        self, head: str | os.PathLike[str], name: str | None = None, *, replace: bool = False
    ) -> None:
        """Let one more head answer; other threads may predict meanwhile.

        Args:
            head: a bundle, head-only or whole, made for this very base.
            name: what its answers are called; by default the name of the folder or archive.
            replace: it may take the place of a head of this name.

        Raises:
            BundleError: it cannot be used on this base, or its name is taken.
        """
        name = head_name(head) if name is None else name
        opened = self._serving().open_head(head)
        with self._changing:
            if name in self._heads and not replace:
                raise BundleError(
                    f"{head}: a head called {name!r} is there already, from "
                    f"{self._heads[name].path}; give each a name of its own, NAME=HEAD on the "
                    "command line"
                )
            self._heads = {**self._heads, name: opened}

    def detach(self, name: str) -> None:
        """Let a head answer no more; other threads may predict meanwhile."""
        with self._changing:
            if name not in self._heads:
                known = ", ".join(self._heads) or "none"
                raise ValueError(f"no head is called {name!r}; there are: {known}")
            self._heads = {other: head for other, head in self._heads.items() if other != name}

    def close(self) -> None:
        """Free all graphs; the classifier cannot be used afterwards."""
        with self._changing:
            self._base, self._heads = None, {}

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
        heads = {name: head.path.absolute() for name, head in self._heads.items()}
        return {"base": self._serving(), "heads": heads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._begin(state["base"], state["heads"])

    def __repr__(self) -> str:
        name = "?" if self._base is None else self._base.bundle.manifest.origin.get("base", "?")
        return f"<MultiClassifier {', '.join(self._heads) or 'no heads'} on {name}>"

    def _serving(self) -> ServedBase:
        base = self._base  # one read: another thread may close the classifier
        if base is None:
            raise ValueError("this classifier is closed; make a new one")
        return base


def head_name(head: str | os.PathLike[str]) -> str:
    """Return the name that a head goes by: that of its folder, or of its archive without .zip."""
    path = Path(head).absolute()
    return path.stem if path.suffix.lower() == ".zip" else path.name


def _answers(
    heads: Mapping[str, Head], bottlenecks: Batch
) -> list[dict[str, Prediction] | ImageError]:
    by_head = {name: head.answers(bottlenecks) for name, head in heads.items()}
    return [
        _together({name: rows[number] for name, rows in by_head.items()})
        for number in range(len(bottlenecks))
    ]


def _together(
    answers: Mapping[str, Prediction | ImageError],
) -> dict[str, Prediction] | ImageError:
    """Return what all heads say of one picture, or why one of them says nothing."""
    found: dict[str, Prediction] = {}
    for name, answer in answers.items():
        if isinstance(answer, ImageError):
            return answer
        found[name] = answer
    return found
