"""What is served: a classifier, or several heads on one base, each a model with a name."""

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from ..bundle.manifest import Manifest
from ..classifier import Classifier
from ..errors import BundleError, FicError, Log
from ..images import Pixels8
from ..multi_classifier import MultiClassifier, head_name
from ..predictions import Prediction
from ..preprocessing import Geometry

log: Log = Log(__name__)

HeadAnswers: TypeAlias = Mapping[str, Prediction]

_UNUSUAL = re.compile(r"[^\w.-]+")


class Models:
    """The models of one server; each head has one.

    Args:
        classifier: takes arrays as RGB.
        name: of the model, where the classifier is one; heads have names of their own.

    Raises:
        ValueError: the classifier takes BGR, or it has no heads.
    """

    def __init__(self, classifier: Classifier | MultiClassifier, name: str) -> None:
        if getattr(classifier, "channel_order", "rgb") != "rgb":
            raise ValueError("a classifier to be served has the channel order 'rgb'")
        self._classifier = classifier
        self._name = name
        self._changing = threading.Lock()
        manifests = list(self.manifests.values())
        if not manifests:
            raise ValueError("a MultiClassifier to be served has at least one head")
        self.geometry: Geometry = manifests[0].preprocessing.geometry

    @property
    def several(self) -> bool:
        """Whether answers tell heads apart."""
        return isinstance(self._classifier, MultiClassifier)

    @property
    def provider(self) -> str:
        """The execution provider of the base."""
        return self._classifier.provider

    @property
    def manifests(self) -> dict[str, Manifest]:
        """What is known of each model, by its name."""
        if isinstance(self._classifier, MultiClassifier):
            return self._classifier.manifests
        return {self._name: self._classifier.manifest}

    def predict(self, pixels: Pixels8) -> HeadAnswers:
        """Classify one picture, uint8 RGB (h, w, 3); return what each model says."""
        if isinstance(self._classifier, MultiClassifier):
            return self._classifier.predict(pixels)
        return {self._name: self._classifier.predict(pixels)}

    def predict_batch(self, pictures: Sequence[Pixels8]) -> Sequence[HeadAnswers]:
        """Classify several pictures in one batch."""
        if isinstance(self._classifier, MultiClassifier):
            return self._classifier.predict_batch(pictures, len(pictures))
        predictions = self._classifier.predict_batch(pictures, len(pictures))
        return [{self._name: prediction} for prediction in predictions]

    def swap(self, name: str, head: Path) -> None:
        """Go on with another head under a name; what is being computed ends with the old one.

        Raises:
            BundleError: the head cannot be used on this base; the old one stays.
        """
        with self._changing:
            if isinstance(self._classifier, MultiClassifier):
                self._classifier.attach(head, name, replace=True)
            else:
                self._classifier.swap_head(head)
        log.info("the model %s goes on with the head %s", name, head)


class HeadsFolder:
    """A folder whose heads are served as soon as they appear there.

    Where one model is served, it takes the newest bundle of the folder; where several are, each
    bundle goes by its own name. A bundle that cannot be used is logged once and left out.
    """

    def __init__(self, folder: Path, models: Models) -> None:
        self._folder = folder
        self._models = models
        self._seen: dict[Path, int] = {}

    def take_new(self) -> None:
        """Look once, and take what has changed since the last look."""
        found = self._bundles()
        new = [path for path, when in found.items() if self._seen.get(path) != when]
        self._seen = found
        if not self._models.several:
            (name,) = self._models.manifests
            newest = max(found, key=lambda path: found[path], default=None)
            new = [path for path in new if path == newest]
        for path in new:
            try:
                self._models.swap(head_name(path) if self._models.several else name, path)
            except FicError as error:
                log.warning("%s; the heads that were there go on", error)

    def _bundles(self) -> dict[Path, int]:
        """Return the bundles, each with the time of its last change."""
        found = {}
        try:
            for path in sorted(self._folder.iterdir()):
                file = path if path.suffix == ".zip" else path / "manifest.json"
                if not path.name.startswith(".") and file.is_file():
                    # A folder may be copied file by file, its manifest first.
                    files = [path] if file == path else [*path.iterdir()]
                    found[path] = max(each.stat().st_mtime_ns for each in files if each.is_file())
        except OSError as error:
            if self._seen:
                log.warning("%s: cannot be read (%s)", self._folder, error.strerror)
        return found


def model_name(bundle: Path) -> str:
    """Return the name of a bundle's model: that of its folder or archive, fit for a URL."""
    return _UNUSUAL.sub("-", head_name(bundle)) or "classifier"


def check_folder(folder: Path) -> None:
    """Make sure that a folder of heads is there.

    Raises:
        BundleError: it is not.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; make it, heads may come later")
