"""Duplicates: the same file twice, and the same picture resized, compressed, mirrored or cropped.

Bottlenecks find the candidates, since a copy is among the nearest neighbors of its original; the
pixels of thumbnails decide, since similar pictures of one subject are near each other as well.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fic_runtime.devices import usable_cpus

from ..data.memo import batches
from ..data.thumbnails import Thumbnail
from .cached_pictures import CachedPictures, Side
from .neighbors import Neighbors

Kind = Literal["exact", "same picture", "mirrored", "cropped"]

# Cosines of bottlenecks below which nobody looks at the pixels. Of planted copies of the flowers,
# halves, compressed and mirrored ones had 0.67 and more, 98 % of crops of half the area 0.75.
_CANDIDATE = 0.5
_CROP_CANDIDATE = 0.72
# Correlations of gray pixels. Whole copies of the flowers have 0.995 and more, the most similar two
# other pictures 0.92, and those are two shots of one flower.
_WHOLE = 0.97
_PART = 0.94
_WHOLE_SIDE = 32
_COARSE_SIDE, _FINE_SIDE = 48, 128
_COARSE_LEAST = 0.75
_SCALES = np.geomspace(0.5, 1.0, 12)
_FINE_SCALES = np.geomspace(0.94, 1.06, 9)
# Two pictures without any structure correlate by chance.
_LEAST_CONTRAST = 2.0

Gray = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class DuplicateGroup:
    """Pictures that show the same.

    Attributes:
        paths: of the pictures, in the order of the data set.
        labels: the label of each.
        sides: the side of the split of each.
        kind: how the two differ that differ most.
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    sides: tuple[Side, ...]
    kind: Kind

    @property
    def leaks(self) -> bool:
        """Whether training and validation both have one of them."""
        return len(set(self.sides)) > 1

    @property
    def disagrees(self) -> bool:
        """Whether they have different labels."""
        return len(set(self.labels)) > 1


def find_duplicates(
    pictures: CachedPictures,
    neighbors: Neighbors,
    thumbnails: Mapping[Path, Thumbnail],
    *,
    progress: Callable[[int], object] | None = None,
) -> list[DuplicateGroup]:
    """Return the groups of duplicates: those across the split first, the larger ones before.

    Args:
        neighbors: of each picture.
        thumbnails: of the pictures; one that has none is compared by its content alone.
        progress: called with the number of candidates that were just looked at.
    """
    links = _exact(pictures)
    grays = _Grays(pictures.paths, thumbnails)

    def look(pair: tuple[int, int, float]) -> Kind | None:
        first, second, cosine = pair
        return same_picture(grays[first], grays[second], crops=cosine)

    with ThreadPoolExecutor(usable_cpus(), thread_name_prefix="duplicates") as pool:
        for batch in batches(candidate_pairs(neighbors)):
            for (first, second, _), kind in zip(batch, pool.map(look, batch), strict=True):
                if kind is not None and links.find(first) != links.find(second):
                    links.join(first, second, kind)
            if progress is not None:
                progress(len(batch))
    groups = [_group(pictures, members, kind) for members, kind in links.groups()]
    return sorted(groups, key=lambda group: (not group.leaks, not group.disagrees, group.paths))


def candidate_pairs(neighbors: Neighbors) -> list[tuple[int, int, float]]:
    """Return pairs of rows that may be duplicates with their cosines, the most similar first."""
    rows, ranks = np.nonzero(neighbors.similarities >= _CANDIDATE)
    others = neighbors.indices[rows, ranks]
    pairs = np.sort(np.stack([rows, others], axis=1), axis=1)
    unique, first = np.unique(pairs, axis=0, return_index=True)
    cosines = neighbors.similarities[rows, ranks][first]
    order = np.argsort(-cosines, kind="stable")
    return [(int(unique[i, 0]), int(unique[i, 1]), float(cosines[i])) for i in order]


def same_picture(first: Gray | None, second: Gray | None, *, crops: float = 1.0) -> Kind | None:
    """Return how two thumbnails show the same picture, or None if they do not.

    Args:
        first: gray pixels, uint8 (height, width); None for a picture without structure.
        second: likewise.
        crops: cosine of the bottlenecks, which decides whether crops are looked for.
    """
    if first is None or second is None:
        return None
    mirrored = np.ascontiguousarray(second[:, ::-1])
    a, b, c = (_whole(pixels) for pixels in (first, second, mirrored))
    if float((a * b).mean()) >= _WHOLE:
        return "same picture"
    if float((a * c).mean()) >= _WHOLE:
        return "mirrored"
    if crops < _CROP_CANDIDATE:
        return None
    pairs = ((first, second), (second, first), (first, mirrored), (mirrored, first))
    return "cropped" if any(_is_part(whole, part) for whole, part in pairs) else None


def _whole(pixels: Gray) -> Gray:
    """Return a picture stretched to a small square, with mean 0 and variance 1."""
    import cv2

    side = (_WHOLE_SIDE, _WHOLE_SIDE)
    small = cv2.resize(pixels, side, interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    return np.asarray(small / (small.std() + 1e-6))


def _is_part(whole: Gray, part: Gray) -> bool:
    coarse, scale = _best_match(whole, part, _COARSE_SIDE, _SCALES)
    if coarse < _COARSE_LEAST:
        return False
    return _best_match(whole, part, _FINE_SIDE, scale * _FINE_SCALES)[0] >= _PART


def _best_match(whole: Gray, part: Gray, side: int, scales: Gray) -> tuple[float, float]:
    """Return the best correlation of a part at any place and these scales, and its scale.

    A scale of 1 is the largest at which the part still fits in.
    """
    import cv2

    shrink = min(1.0, side / max(whole.shape))
    height, width = (max(1, round(length * shrink)) for length in whole.shape)
    ground = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    largest = min(height / part.shape[0], width / part.shape[1])
    best, at = 0.0, 1.0
    for scale in scales:
        size = (round(part.shape[1] * largest * scale), round(part.shape[0] * largest * scale))
        if not (8 <= size[0] <= width and 8 <= size[1] <= height):
            continue
        template = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        found = float(cv2.matchTemplate(ground, template, cv2.TM_CCOEFF_NORMED).max())
        if found > best:
            best, at = found, float(scale)
    return best, at


class _Grays:
    """Gray pixels of the thumbnails, decoded on demand."""

    def __init__(self, paths: Sequence[Path], thumbnails: Mapping[Path, Thumbnail]) -> None:
        self._paths, self._thumbnails = paths, thumbnails
        self._decoded: dict[int, Gray | None] = {}

    def __getitem__(self, index: int) -> Gray | None:
        if index not in self._decoded:
            self._decoded[index] = self._decode(index)
        return self._decoded[index]

    def _decode(self, index: int) -> Gray | None:
        import cv2

        thumbnail = self._thumbnails.get(self._paths[index])
        if thumbnail is None:
            return None
        data = np.frombuffer(thumbnail.jpeg, np.uint8)
        pixels: Any = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        return None if pixels is None or pixels.std() < _LEAST_CONTRAST else pixels


class _Links:
    """Groups of pictures that grow together, with the kinds of what joined them."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))
        self._kinds: dict[int, set[Kind]] = defaultdict(set)

    def find(self, index: int) -> int:
        while self._parents[index] != index:
            self._parents[index] = self._parents[self._parents[index]]
            index = self._parents[index]
        return index

    def join(self, first: int, second: int, kind: Kind) -> None:
        a, b = sorted((self.find(first), self.find(second)))
        self._parents[b] = a
        self._kinds[a] |= {kind} | (self._kinds.pop(b, set()) if a != b else set())

    def groups(self) -> list[tuple[list[int], Kind]]:
        members: dict[int, list[int]] = defaultdict(list)
        for index in range(len(self._parents)):
            members[self.find(index)].append(index)
        order: tuple[Kind, ...] = ("cropped", "mirrored", "same picture", "exact")
        return [
            (group, next(kind for kind in order if kind in self._kinds[root]))
            for root, group in members.items()
            if len(group) > 1
        ]


def _exact(pictures: CachedPictures) -> _Links:
    links = _Links(len(pictures))
    first: dict[bytes, int] = {}
    for index, path in enumerate(pictures.paths):
        original = first.setdefault(pictures.digests[path], index)
        if original != index:
            links.join(original, index, "exact")
    return links


def _group(pictures: CachedPictures, members: Sequence[int], kind: Kind) -> DuplicateGroup:
    return DuplicateGroup(
        paths=tuple(pictures.paths[index] for index in members),
        labels=tuple(pictures.labels[pictures.targets[index]] for index in members),
        sides=tuple(pictures.sides[index] for index in members),
        kind=kind,
    )
