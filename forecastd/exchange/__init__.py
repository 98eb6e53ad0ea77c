"""Weights to and from other systems: their layouts, the files, and ONNX graphs of a step."""
