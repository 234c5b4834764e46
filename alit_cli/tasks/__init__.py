"""Tasks of interest: an image and its reconstructions in, numbers out; a new one is a file here and its name below."""

TASKS = ("recon", "baselines", "classify", "depth", "features", "language")
"""Every task; `alit_cli.tasks.<name>` holds its `build`."""

WITH_MODEL = ("classify", "depth", "features", "language")
"""Those that look through a network of the user's choice."""
