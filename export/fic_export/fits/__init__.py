"""Statistics that are fitted on bottlenecks; none of it knows ONNX."""
