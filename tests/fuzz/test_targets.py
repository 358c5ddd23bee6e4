"""Damaged pictures and bundles give an answer or one sentence: no crash, no hang, no traceback.

Hypothesis makes the damage; a process of its own with little memory takes it, since a decoder in
C++ that fails takes its process along. `make fuzz` goes on where this ends.
"""

import json
import select
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "fuzz"))

from targets import TARGETS, manifest, seeds  # noqa: E402 # the path comes first

SECONDS = 60  # an input that takes as long hangs

FUZZ = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Worker:
    """A process that runs one target; a new one takes the place of one that died."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, data: bytes) -> str:
        """Return what went wrong; nothing if all is well."""
        if self._process is None:
            command = [sys.executable, str(ROOT / "fuzz/worker.py"), self._target]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(struct.pack(">I", len(data)) + data)
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], SECONDS)
        if not ready:
            self.close()
            return f"no answer in {SECONDS} seconds"
        head = process.stdout.read(4)
        if len(head) < 4:
            self._process = None
            return f"the process died with {process.wait()}"
        return process.stdout.read(*struct.unpack(">I", head)).decode()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture(scope="module", params=[name for name in TARGETS if name != "manifest"])
def target(request: pytest.FixtureRequest) -> Iterator[tuple[str, Worker]]:
    worker = Worker(request.param)
    yield request.param, worker
    worker.close()


@st.composite
def damaged(draw: st.DrawFn, valid: list[bytes]) -> bytes:
    """Return one of the inputs with bytes changed, cut off, put in, or taken from another one."""
    data = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        # The beginning holds sizes and types, where damage does the most.
        at = draw(st.sampled_from((at, at % 64)))
        kind = draw(st.sampled_from(("set", "set", "set", "cut", "insert", "splice", "number")))
        if kind == "set":
            data[at : at + 1] = bytes([draw(st.sampled_from((0, 1, 127, 128, 255, at % 256)))])
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "number":
            data[at : at + 4] = draw(st.sampled_from((b"\xff" * 4, b"\x7f" + b"\xff" * 3)))
        else:
            other = draw(st.sampled_from(valid))
            start = draw(st.integers(0, len(other)))
            data[at:] = other[start:]
    return bytes(data)


def test_a_valid_input_passes(target: tuple[str, Worker]) -> None:
    name, worker = target
    assert len(seeds(name)) >= 1
    for seed in seeds(name):
        assert worker.run(seed) == ""


def test_a_damaged_input_gives_an_answer_or_one_sentence(target: tuple[str, Worker]) -> None:
    name, worker = target
    valid = seeds(name)

    @FUZZ
    @given(damaged(valid))
    def check(data: bytes) -> None:
        assert worker.run(data) == ""

    check()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../x", "base.onnx", "float32", "crop", "nhwc", "\ud800", "\0"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def places(values: Any) -> list[tuple[Any, Any]]:
    """Return every container within JSON values with every key or number that it has."""
    if not isinstance(values, dict | list):
        return []
    keys = list(values) if isinstance(values, dict) else list(range(len(values)))
    return [(values, key) for key in keys] + [
        place for key in keys for place in places(values[key])
    ]


@pytest.mark.parametrize("number", range(len(seeds("manifest"))))
def test_a_manifest_with_extreme_numbers_is_read_or_refused_in_one_sentence(number: int) -> None:
    manifest(seeds("manifest")[number])


@FUZZ
@given(st.data())
def test_a_manifest_of_other_values_is_read_or_refused_in_one_sentence(data: st.DataObject) -> None:
    values = json.loads(seeds("manifest")[0])
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(values)))
        if data.draw(st.booleans()):
            container[key] = data.draw(JSON)
        else:
            del container[key]
        if not values:
            break
    manifest(json.dumps(values).encode("utf-8", "surrogatepass"))
