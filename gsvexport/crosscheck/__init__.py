"""Our TFLite emitter beside onnx2tf, on one vocoder: why this project does not depend on the latter."""
