"""ONNX graphs on a device."""
