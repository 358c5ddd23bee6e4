"""Options out of a `run.json`, which may be a stranger's: each is checked before it is used."""

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..data.remote import location
from ..options import AnyPath, BaseOptions, CacheOptions, TrainingOptions

_Options = TypeVar("_Options", BaseOptions, CacheOptions, TrainingOptions)

_MOST = 2**31 - 1  # of a number that counts something
# Sizes that decide how much memory a step takes: far above what is of use, far below what is there.
_MOST_OF: Mapping[str, int] = MappingProxyType(
    {"image_size": 1 << 14, "batch_size": 1 << 16, "views": 1 << 16, "seed": 2**32 - 1}
)
_LEAST_OF: Mapping[str, int] = MappingProxyType(
    {"image_size": 1, "batch_size": 1, "views": 1, "fine_tune_epochs": 1}
)

_AT_URLS = frozenset({"data", "train", "val", "bottleneck_dir"})  # whose paths may be URLs


def checked_values(kind: type, values: object) -> dict[str, Any]:
    """Return the recorded values of the fields of a class of options; others are left out.

    Args:
        kind: a dataclass of options.
        values: what a record holds of them.

    Raises:
        ValueError: they are no object, or one has another type than its field, or is out of range.
    """
    if not isinstance(values, dict):
        raise ValueError("it is not an object")
    hints = get_type_hints(kind)
    return {
        field.name: checked_value(field.name, hints[field.name], values[field.name])
        for field in fields(kind)
        if field.name in values
    }


def recorded_options(kind: type[_Options], values: object) -> _Options:
    """Return options as a record holds them.

    Raises:
        ValueError: see `checked_values`.
    """
    return kind(**checked_values(kind, values))


def checked_value(name: str, annotation: Any, value: Any) -> Any:
    """Return a recorded value of a field as the type that the field has.

    Raises:
        ValueError: it cannot be one.
    """
    if get_origin(annotation) is AnyPath:  # a path, however it may be given from Python
        (annotation,) = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        optional = [kind for kind in get_args(annotation) if kind is not NoneType]
        return None if value is None else checked_value(name, optional[0], value)
    if get_origin(annotation) is Literal:
        if isinstance(value, str) and value in get_args(annotation):
            return value
    elif annotation is bool:
        if isinstance(value, bool):
            return value
    elif annotation is int:
        if _is_count(name, value):
            return value
    elif annotation is float:
        number = _number(value)
        if number is not None:
            return number
    # A name with a null byte can be no file's, and its readers would raise whatever they like.
    elif isinstance(value, str) and "\0" not in value:
        return _path(name, value) if annotation is Path else value
    raise ValueError(f"{name} cannot be {_shown(value)}")


def _path(name: str, value: str) -> Path:
    return location(value) if name in _AT_URLS else Path(value)


def _is_count(name: str, value: Any) -> bool:
    least, most = _LEAST_OF.get(name, 0), _MOST_OF.get(name, _MOST)
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, str | float | bool) else f"of type {_type(value)}"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _type(value: Any) -> str:
    return type(value).__name__
