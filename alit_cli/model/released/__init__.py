"""Files that others released: how they are read, what they are, and what their tensors are called here."""
