"""flowc: TensorFlow's graph API, compiled to native code."""
