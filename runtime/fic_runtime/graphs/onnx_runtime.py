"""ONNX Runtime, imported with its telemetry off.

From version 1.29 the official builds start a thread on import that sends usage data to Microsoft.
A classifier on somebody's device has nothing to send, and a process that is forked beside that
thread hangs when it exits. ORT_DISABLE_TELEMETRY=0 in the environment keeps it on; a program that
imports onnxruntime before fic_runtime has decided for itself.
"""

import os

_SWITCH = "ORT_DISABLE_TELEMETRY"  # read once, while ONNX Runtime loads

if _SWITCH in os.environ:
    import onnxruntime as onnxruntime
else:
    os.environ[_SWITCH] = "1"
    try:
        import onnxruntime as onnxruntime
    finally:
        del os.environ[_SWITCH]
