"""The files of a head-only bundle, some kilobytes for a base that is deployed already.

`fic export --head-only` writes them, and so does whatever makes a head on a device.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError, one_line
from .manifest import MANIFEST_FILE, Manifest
from .opening import GOLDEN_FILE, Bundle

_SHOWN = 12  # digits of a digest that tell two apart for a reader


def head_files(manifest: Manifest, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return all files of a head-only bundle by their names, `manifest.json` among them.

    Args:
        manifest: of the head; its `files` must hold the digests of the base's files, as those of
            the deployed bundle do, and whatever else it has in `files` does not count.
        files: the content of the head's graph and of every other file of the bundle.

    Raises:
        ValueError: the head's graph or a digest of the base is missing, or a file would stand in
            for one of the base's or for the manifest.
    """
    base = manifest.base_files
    if manifest.head.file not in files or manifest.base.file not in base:
        raise ValueError(f"{manifest.head.file} and the digest of {manifest.base.file} are needed")
    own = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    files_by_name = dict(sorted({**base, **own}.items()))
    manifest = replace(manifest, head_only=True, files=files_by_name, single_graph={})
    if MANIFEST_FILE in own or manifest.own_files.keys() != own.keys():
        raise ValueError(f"a head-only bundle holds no such file: {', '.join(sorted(own))}")
    return {**files, MANIFEST_FILE: manifest.to_json().encode()}


def head_golden(
    bottlenecks: NDArray[Any],
    probabilities: NDArray[Any],
    ood_scores: NDArray[Any] | None = None,
) -> dict[str, bytes]:
    """Return the `golden.npz` of a head by its name: what it gave for these bottlenecks.

    Args:
        bottlenecks: float32 (n, *bottleneck), as in the golden results of the base's bundle.
        probabilities: float32 (n, labels), of the head's graph on a CPU.
        ood_scores: float32 (n,), what the head's score gave for both, if it has one.
    """
    file = io.BytesIO()
    arrays = {"bottlenecks": bottlenecks, "probabilities": probabilities}
    if ood_scores is not None:
        arrays["ood_scores"] = ood_scores
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type] # names are keys
    return {GOLDEN_FILE: file.getvalue()}


def files_of_the_head(bundle: Bundle) -> dict[str, bytes]:
    """Return what is in a whole bundle for its head alone, ready for `head_files`.

    All files but the manifest, those of the base and the two graphs in one; of the golden results
    the pictures are left out, which the bundle of the base has.
    """
    manifest = bundle.manifest
    others = manifest.own_files.keys() - manifest.base_files.keys()
    others -= {manifest.single_graph.get("file")}
    files = {file: bundle.files.read(file) for file in sorted(others)}
    if GOLDEN_FILE in files:
        from .arrays import read_golden_arrays

        path = bundle.files.path(GOLDEN_FILE)
        try:
            arrays = read_golden_arrays(bundle.files, manifest)
            scores = arrays.get("ood_scores")
            files |= head_golden(arrays["bottlenecks"], arrays["probabilities"], scores)
        except (OSError, ValueError, KeyError) as error:
            raise BundleError(
                f"{path}: cannot be read ({one_line(error)}); export the bundle again"
            ) from error
    return files


def check_has_base(bundle: Bundle) -> None:
    """Make sure that a bundle can be served by itself.

    Raises:
        BundleError: it is a head only.
    """
    if bundle.manifest.head_only:
        path = bundle.files.path("")
        raise BundleError(
            f"{path}: is a head without its base {shown_base(bundle.manifest)}; give the bundle "
            f"that has the base first: Classifier(BUNDLE, head={str(path)!r}), or "
            f"`fic-runtime predict BUNDLE --head {path}`"
        )


def shown_base(manifest: Manifest) -> str:
    """Return enough of the digests of a head's base to tell two bases apart."""
    # The weights are what differs most often, and they may lie in a second file.
    return "+".join(digest[:_SHOWN] for _, digest in sorted(manifest.base_files.items()))
