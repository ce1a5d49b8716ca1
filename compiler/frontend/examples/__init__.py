"""Data and helpers that TensorFlow's tutorials import."""
