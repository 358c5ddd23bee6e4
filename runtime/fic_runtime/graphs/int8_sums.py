"""Whether this processor adds products of uint8 and int8 without losing any of the sum.

x86 processors without VNNI add them in pairs of 16 bits, and a pair can be larger than that: int8
bases lost up to nine points of accuracy there. ONNX Runtime has other kernels for such processors,
which take twice the time of the quick ones where nothing is lost. So it is tried, not looked up: a
convolution whose right answer is known, once for this processor and this ONNX Runtime.
"""

import platform
from functools import cache
from typing import Any

import numpy as np

from .cache import graph_cache
from .onnx_runtime import onnxruntime

_X86 = frozenset({"x86_64", "AMD64", "i386", "i686", "x86"})
_FACT = "int8-sums"
_EXACT, _SATURATED = "exact", "saturated"

# QLinearConv at opset 13 from `x`, uint8 (1, 64, 1, 1), to `y`, uint8 (1, 16, 1, 1), with a kernel
# of nothing but 127. All inputs at 255 give the largest sum there is, and its scale makes it 200;
# in pairs of 16 bits it would be 101.
_CHANNELS, _OUTPUTS, _RIGHT = 64, 16, 200
_LARGEST_SUM = (
    b"\x08\x08:\xaa\t\n)\n\x01x\n\x01s\n\x01z\n\x01w\n\x01s\n\x02zw\n\x01q\n\x01z\x12\x01y"
    b'"\x0bQLinearConv\x12\x01g*\x0b\x10\x01B\x01sJ\x04\x00\x00\x80?*\x08\x10\x02B\x01zJ\x01\x00'
    b"*\x90\x08\x08\x10\x08@\x08\x01\x08\x01\x10\x03B\x01wJ\x80\x08"
    + b"\x7f"
    * (_CHANNELS * _OUTPUTS)
    + b"*\t\x10\x03B\x02zwJ\x01\x00*\x0b\x10\x01B\x01qJ\x04\xcd\xec!F"
    b"Z\x1b\n\x01x\x12\x16\n\x14\x08\x02\x12\x10\n\x02\x08\x01\n\x02\x08@\n\x02\x08\x01\n\x02\x08\x01"
    b"b\x1b\n\x01y\x12\x16\n\x14\x08\x02\x12\x10\n\x02\x08\x01\n\x02\x08\x10\n\x02\x08\x01\n\x02\x08\x01"
    b"B\x04\n\x00\x10\r"
)


@cache
def int8_sums_saturate() -> bool:
    """Return whether sums of int8 lose something here unless ONNX Runtime takes other kernels.

    Tried once and then remembered beside the optimised graphs of this machine.
    """
    if platform.machine() not in _X86:
        return False  # kernels of other processors have no such pairs
    memory = graph_cache()
    known = None if memory is None else memory.fact(_FACT)
    if known not in (_EXACT, _SATURATED):
        known = _EXACT if largest_sum() == _RIGHT else _SATURATED
        if memory is not None:
            memory.keep_fact(_FACT, known)
    return known == _SATURATED


def largest_sum(*entries: tuple[str, str]) -> int:
    """Return what the convolution gives here, 200 where nothing is lost.

    Args:
        entries: ONNX Runtime's session options to be set for it, with their values.
    """
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    for entry in entries:
        options.add_session_config_entry(*entry)
    session = onnxruntime.InferenceSession(
        _LARGEST_SUM, options, providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"x": np.full((1, _CHANNELS, 1, 1), 255, np.uint8)})
    return int(found.min())
