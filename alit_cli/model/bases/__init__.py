"""Base tokenizers: convolutional autoencoders between pixels and a grid of features."""
