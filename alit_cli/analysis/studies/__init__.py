"""One file per study: capacity, complexity, familiarity, strength, quality."""
