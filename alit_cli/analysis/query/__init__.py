"""The columns of token and score tables, found by name, joined by image and read in chunks."""
