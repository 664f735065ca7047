"""The inference service: images in, masks out, by students in ONNX Runtime."""
