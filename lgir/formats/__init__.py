"""Files that hold graphs: the text form, the ONNX container, netlists, and exported code."""
