"""A network in a file that the user named, on this disk or on the Hugging Face hub."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BaseOptionError
from ..options import BaseOptions
from .preprocessor import CONFIG_FILE, RULES, Processor, find_config, read_processor

HUB = "hf://"
ONNX_SUFFIX, KERAS_SUFFIX = ".onnx", ".keras"


@dataclass(frozen=True, kw_only=True)
class BaseFile:
    """Where a network is, and what is said of its pixels.

    Attributes:
        path: the file.
        name: what messages call it.
        base_model: what finds it again, from every working folder.
        source: where it comes from, for manifests.
        folder: holds the configs of its publisher.
    """

    path: Path
    name: str
    base_model: str
    folder: Path
    source: Mapping[str, str] = field(default_factory=dict)

    def processor(self, options: BaseOptions) -> Processor | None:
        """Return what a picture must become, by the options or by the config beside the file.

        Raises:
            BaseOptionError: two of the options say it, or a config cannot be followed.
        """
        if options.pixels is not None:
            if options.preprocessor is not None:
                raise BaseOptionError(
                    "--pixels and --preprocessor both say what pixels become; give one of them"
                )
            return Processor(rule=RULES[options.pixels], geometry=None, source="--pixels")
        if options.preprocessor is not None:
            return read_processor(Path(options.preprocessor))
        config = find_config(self.folder)
        return None if config is None else read_processor(config)

    @property
    def pixels_unknown(self) -> str:
        """The message where nothing says it."""
        return (
            f"{self.name}: nothing says what its pixels must become; put the publisher's "
            f"{CONFIG_FILE} beside it, or give --preprocessor FILE, or "
            f"--pixels {'|'.join(RULES)} with --image-size and --resize"
        )


def is_file(base_model: str) -> bool:
    """Tell whether a base is named by a file, and not by a row of the table."""
    return base_model.startswith(HUB) or base_model.casefold().endswith((ONNX_SUFFIX, KERAS_SUFFIX))


def local_file(base_model: str, *, needed: bool = True) -> BaseFile:
    """Return the file of this path.

    Args:
        base_model: the path.
        needed: whether it must be there: a cache that holds its graph does without it.

    Raises:
        BaseOptionError: it is not there.
    """
    path = Path(base_model)
    if needed and not path.is_file():
        raise BaseOptionError(
            f"{path}: no such file; --base-model takes a name of `fic bases`, a file that ends in "
            f"{ONNX_SUFFIX} or {KERAS_SUFFIX}, or {HUB}ORG/NAME"
        )
    folder = path.parent
    # A copy of a repository of the hub, where the graphs have a folder of their own.
    if folder.name == "onnx" and find_config(folder) is None:
        folder = folder.parent
    return BaseFile(
        path=path,
        name=path.name,
        base_model=str(path.absolute()),
        folder=folder,
        source={"file": path.name},
    )
