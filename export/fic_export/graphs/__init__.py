"""ONNX graphs: changing them without changing what they compute, and writing them."""
