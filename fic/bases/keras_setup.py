"""Keras and TensorFlow as fic needs them, whatever they are set to elsewhere, and quiet.

Neither is imported here: what is set waits for the import, which costs seconds.
"""

import contextlib
import importlib.machinery
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Any

from ..errors import FicError, one_line

_LOGS = ("tensorflow", "absl")
_BACKEND = "KERAS_BACKEND"
_VERBOSITY = "TF_CPP_MIN_LOG_LEVEL"


@contextmanager
def keras_settings() -> Iterator[None]:
    """Let Keras compute in the block as fic's results need it; afterwards it is as it was.

    The backend is TensorFlow, the numbers are float32, images have their channels last, whatever
    `keras.json`, the environment or the caller says. Notices about the machine and about retracing
    are kept back, unless TF_CPP_MIN_LOG_LEVEL asks for them.

    Raises:
        FicError: Keras runs on another backend already, or cannot be loaded.
    """
    with contextlib.ExitStack() as undo:
        if os.environ.get(_VERBOSITY) not in ("0", "1"):
            undo.enter_context(_quiet_logs())
        if "keras" in sys.modules:
            undo.enter_context(_own_settings())
        else:
            undo.enter_context(_import_as_wanted(undo))
        yield


def quiet_tensorflow() -> None:
    """Keep TensorFlow's notices about this machine out of the user's way, once it is imported."""
    # Its notices about the processor and absent GPUs would bury what the user asked for.
    asked = os.environ.setdefault(_VERBOSITY, "3") in ("0", "1")
    waits = any(
        isinstance(each, _Importing) and each.waits_for("tensorflow") for each in sys.meta_path
    )
    if not (asked or waits or "tensorflow" in sys.modules):
        sys.meta_path.insert(0, _Importing("tensorflow", _held_back))


@contextmanager
def _quiet_logs() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in _LOGS}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _import_as_wanted(undo: contextlib.ExitStack) -> Iterator[None]:
    """Wait for the import of Keras, and set it up then."""
    before = os.environ.get(_BACKEND)

    def load(run: Callable[[Any], None], module: Any) -> None:
        try:
            run(module)
        except MemoryError:
            raise
        except ImportError as error:
            raise FicError(
                f"Keras cannot be loaded ({one_line(error)}); free memory or install fic again"
            ) from error
        except OSError as error:
            raise FicError(
                f"Keras cannot be loaded ({one_line(error)}); it needs a temporary folder "
                "(TMPDIR) and must be able to read its files"
            ) from error
        except Exception as error:  # Keras asserts what keras.json says
            raise FicError(
                f"Keras cannot be loaded ({one_line(error)}); correct or delete keras.json in "
                "KERAS_HOME (~/.keras), or install fic again"
            ) from error
        undo.enter_context(_own_settings())

    waiting = _Importing("keras", load)
    quiet_tensorflow()
    os.environ[_BACKEND] = "tensorflow"
    sys.meta_path.insert(0, waiting)
    try:
        yield
    finally:
        if waiting in sys.meta_path:
            sys.meta_path.remove(waiting)
        if before is None:
            os.environ.pop(_BACKEND, None)
        else:
            os.environ[_BACKEND] = before


@contextmanager
def _own_settings() -> Iterator[None]:
    import keras

    if keras.config.backend() != "tensorflow":
        raise FicError(
            f"Keras runs on {keras.config.backend()} in this process, and fic trains with "
            "TensorFlow; set KERAS_BACKEND=tensorflow before keras is imported"
        )
    config = keras.config
    before = (config.floatx(), config.epsilon(), config.image_data_format())
    policy = config.dtype_policy()
    config.set_floatx("float32")
    config.set_epsilon(1e-7)
    config.set_image_data_format("channels_last")
    config.set_dtype_policy("float32")
    try:
        yield
    finally:
        config.set_floatx(before[0])
        config.set_epsilon(before[1])
        config.set_image_data_format(before[2])
        config.set_dtype_policy(policy)


class _Importing(MetaPathFinder):
    """Runs a package's import in a function of fic's, once.

    Args:
        name: of the package.
        load: is given what imports the module, and the module.
    """

    def __init__(self, name: str, load: Callable[[Callable[[Any], None], Any], None]) -> None:
        self._name = name
        self._load = load

    def waits_for(self, name: str) -> bool:
        """Return whether this is for that package."""
        return name == self._name

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find the package like everybody else, and wrap its loader."""
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = (  # type: ignore[method-assign] # of this loader, not its class
                lambda module: self._load(run, module)
            )
        return spec


def _held_back(run: Callable[[Any], None], module: Any) -> None:
    """Import TensorFlow with standard error held back.

    Its notices are written by C++ before any setting of theirs is read. If the import fails, what
    was held back is printed.
    """
    try:
        terminal = os.dup(2)
    except OSError:  # no such stream, so nobody is disturbed
        run(module)
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as notices, contextlib.ExitStack() as undo:
        undo.callback(os.close, terminal)
        os.dup2(notices.fileno(), 2)
        try:
            run(module)
        except BaseException:
            os.dup2(terminal, 2)
            notices.seek(0)
            os.write(2, notices.read())
            raise
        finally:
            os.dup2(terminal, 2)
