"""Run a target on inputs from standard input, in little memory: python fuzz/worker.py TARGET

An input comes as its length, four bytes with the highest first, and its bytes. The answer is
likewise: nothing, or what the target should not have done.
"""

import struct
import sys
import traceback

from targets import TARGETS

_MEMORY = 3 << 30  # bytes of address space, of which the libraries take about one


def main() -> None:
    try:
        import resource
    except ImportError:  # Windows
        pass
    else:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    target = TARGETS[sys.argv[1]]
    while head := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(*struct.unpack(">I", head))
        try:
            target(data)
            complaint = b""
        except Exception:
            complaint = traceback.format_exc().encode()
        sys.stdout.buffer.write(struct.pack(">I", len(complaint)) + complaint)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
