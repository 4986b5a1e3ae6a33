"""Export of a model as an ONNX file, with a receipt."""
