"""The rule that splits a data set by the content of its pictures."""

from collections.abc import Sequence
from hashlib import blake2b

from ..errors import DataError
from .dataset import Dataset, Split


def split_dataset(
    dataset: Dataset, digests: Sequence[bytes], *, fraction: float, seed: int = 0
) -> Split:
    """Split a data set by content: the same content is always on the same side.

    A picture's position is blake2b("<seed>:" + digest) read as a number in [0, 1); below `fraction`
    it is for validation. So a picture stays where it is when others are added, and copies stay
    together. One rule overrides this: each class has a content in training, and one in validation
    too if it has two (unless classes share pictures in such a way that another class would lose
    its training). The content whose position is nearest to `fraction` moves over, with all its
    copies, and moves back once a picture that is added fills the gap.

    Args:
        dataset: the pictures.
        digests: for each path of `dataset` the digest of the file's content.
        fraction: share of each class for validation, to within sampling.
        seed: another seed gives another split.

    Raises:
        DataError: the fraction is not between 0 and 1, or nothing is left for validation.
    """
    if not 0 < fraction < 1:
        raise DataError(
            f"a validation share of {fraction} leaves one side empty; "
            f"give a number between 0 and 1, such as 0.2"
        )
    if len(digests) != len(dataset):
        raise ValueError(f"{len(digests)} digests do not go with {len(dataset)} pictures")
    positions = {digest: _position(digest, seed) for digest in digests}
    contents: list[set[bytes]] = [set() for _ in dataset.labels]
    for digest, label in zip(digests, dataset.targets, strict=True):
        contents[label].add(digest)
    val = {digest for digest, position in positions.items() if position < fraction}
    train = positions.keys() - val
    _fill_sides([own for own in contents if own], train, val, positions)
    if not val:
        raise DataError(
            "no class has two different pictures, so none is left for validation; add pictures"
        )
    return Split(
        train=dataset.subset([i for i, digest in enumerate(digests) if digest in train]),
        val=dataset.subset([i for i, digest in enumerate(digests) if digest in val]),
    )


def is_validation(digest: bytes, seed: int, fraction: float) -> bool:
    """Tell on which side of a split a content is, before a class without one side is filled."""
    return _position(digest, seed) < fraction


def _position(digest: bytes, seed: int) -> float:
    number = blake2b(b"%d:" % seed + digest, digest_size=8).digest()
    return int.from_bytes(number, "big") / 2**64


def _fill_sides(
    contents: Sequence[set[bytes]],
    train: set[bytes],
    val: set[bytes],
    positions: dict[bytes, float],
) -> None:
    """Move contents over until each class has training, and validation where it can."""
    for own in contents:
        if own <= val:
            nearest = max(own, key=lambda digest: positions[digest])
            val.remove(nearest)
            train.add(nearest)
    for own in contents:
        if len(own) < 2 or not own <= train:
            continue
        for digest in sorted(own, key=lambda digest: positions[digest]):
            # A picture that another class holds too may be all that it has in training.
            others = [other for other in contents if digest in other]
            if all(other & train != {digest} for other in others):
                train.remove(digest)
                val.add(digest)
                break
