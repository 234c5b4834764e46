"""Tasks of interest: an image and its reconstruction in, numbers out."""
