"""Studies that run a model over images themselves, instead of asking tables.

They are loops in one process and no jobs of `runs/`. What they keep of an image (maps of every token, pooled vectors)
is far larger than a row, and is needed together: an image's objects are looked for in the maps of other images, probes
are fitted to all vectors at once. A few thousand images are enough for a study, which takes minutes; after an
interruption it begins again. `--limit` makes it shorter.
"""
