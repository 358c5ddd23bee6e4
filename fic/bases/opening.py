"""Opens the base that options name: a row of the table, a file, or a repository of the hub."""

from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from ..data.remote import local
from ..errors import BaseOptionError
from ..fingerprint import Fingerprint
from ..options import BaseOptions, CacheDtype
from .files import HUB, KERAS_SUFFIX, is_file, local_file
from .frozen import FrozenBase
from .kept_files import found_file
from .onnx_base import OnnxBase

AnyBase: TypeAlias = FrozenBase | OnnxBase
"""A base, whatever it is made of."""


def open_base(
    options: BaseOptions,
    cache_dir: Path,
    *,
    dtype: CacheDtype = "float32",
    fingerprint: Fingerprint | None = None,
    tuned_weights: Path | None = None,
) -> AnyBase:
    """Return the base that the options name; see `FrozenBase` for the arguments.

    Raises:
        UnknownBaseError: no row has this name.
        BaseOptionError: the file is not there, or what is said of it does not fit.
        WeightsError: the hub does not give it.
    """
    if not is_file(options.base_model):
        _check_row(options)
        return FrozenBase(
            options, cache_dir, dtype=dtype, fingerprint=fingerprint, tuned_weights=tuned_weights
        )
    if options.base_model.startswith(HUB):
        from .hub import hub_file

        file = hub_file(options.base_model, needed=fingerprint is None)
    else:
        file = local_file(options.base_model, needed=fingerprint is None)
    if file.path.suffix.casefold() == KERAS_SUFFIX:
        from .keras_file import open_keras_file

        if fingerprint is not None:
            folder = local(cache_dir) / fingerprint.folder_name
            file = replace(file, path=found_file(file.path, folder))
        return FrozenBase(
            options,
            cache_dir,
            dtype=dtype,
            fingerprint=fingerprint,
            tuned_weights=tuned_weights,
            own=open_keras_file(options, file),
        )
    return OnnxBase(options, file, cache_dir, dtype=dtype, fingerprint=fingerprint)


def _check_row(options: BaseOptions) -> None:
    """Refuse options of files for a base of the table, which knows its pixels."""
    for name, value in (("--pixels", options.pixels), ("--preprocessor", options.preprocessor)):
        if value is not None:
            raise BaseOptionError(
                f"{name} {value}: is for a base in a file; {options.base_model} knows what its "
                "pixels must become"
            )
    if options.pooling == "cls":
        raise BaseOptionError(
            f"--pooling cls: takes the first of several tokens, and {options.base_model} gives a "
            "map; give avg, max or none"
        )
