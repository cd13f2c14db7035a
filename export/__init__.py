"""From a model file to what runs elsewhere: ONNX, FP16 and INT8, engines, their checks, and deployment files."""
