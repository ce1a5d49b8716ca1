"""The MNIST digits, as TensorFlow's tutorials read them."""
