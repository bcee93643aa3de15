"""One ONNX graph of many parts: the builder, parts that have an ONNX form, and the session that runs it."""
