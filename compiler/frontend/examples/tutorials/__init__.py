"""Data that TensorFlow's tutorials import."""
