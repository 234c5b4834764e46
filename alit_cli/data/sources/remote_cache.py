"""Copies of remote tars and Parquet files in a work folder, so that listing and reading them fetch each byte once."""

import hashlib
import os
import shutil
from pathlib import Path

from alit_cli.data.files import FULL, open_output
from alit_cli.data.sources import remote
from alit_cli.errors import InputError

COPY = "_copy-{}"
"""The name of a remote file's copy in the work folder."""


class RemoteCache:
    """Copies files into a folder while there is room for them.

    Args:
        folder: the work folder, which exists when the first file is asked for.
        most: bytes that all copies may have; they also never take more than half of what the disk has free.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most = folder, most
        self.used = 0

    def of(self, entry: remote.Entry) -> str | None:
        """Where the copy of a file lies, made now unless an earlier run has made it; None where there is no room.

        Raises InputError: the file cannot be fetched. AlitError: the copy cannot be written.
        """
        if entry.url.startswith(remote.NEAR) or entry.size <= 0:
            return None
        # Size and time of change are part of the name: a remote file that has changed is copied again.
        name = hashlib.sha256(f"{entry.url}\0{entry.size}\0{entry.mtime_ns}".encode()).hexdigest()[:16]
        path = os.path.join(os.path.abspath(self.folder), COPY.format(name))
        # A copy has this name only when it is whole, so an earlier run's can be used without a look inside.
        if not os.path.exists(path):
            if not self._room(entry.size):
                return None
            with open_output(path, "working file", tidy=True) as file:
                try:
                    remote.fetch(entry.url, file.name)
                except OSError as problem:
                    # `open_output` has a sentence of its own for a full disk, which is no fault of the remote file.
                    if problem.errno in FULL:
                        raise
                    raise InputError(f"'{entry.url}' cannot be fetched: {remote.short(problem)}.") from problem
                if (size := os.path.getsize(file.name)) != entry.size:
                    raise InputError(f"'{entry.url}' has {size:,} bytes, not {entry.size:,}: it changes meanwhile.")
        # Copies of an earlier run count too: the limit is about the folder, not about this run.
        self.used += entry.size
        return path

    def _room(self, size: int) -> bool:
        # Copies have already lowered what is free; half of the two together leaves room for the table itself.
        both = shutil.disk_usage(self.folder).free + self.used
        return self.used + size <= min(self.most, both // 2)
