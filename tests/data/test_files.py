"""Files that appear whole or not at all: what a killed process leaves is removed, what another writes is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from alit_cli.data.files import open_output

WRITER = """
import sys, time
from alit_cli.data.files import open_output
with open_output(sys.argv[1], "working file") as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path: Path) -> None:
    path, other = tmp_path / "t.parquet", tmp_path / "t.parquet.old.tmp"
    other.write_bytes(b"not of alit")
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        (temporary,) = set(tmp_path.iterdir()) - {other}
        os.utime(temporary, (time.time() - 60,) * 2)
        with open_output(path, "working file", tidy=True) as file:
            file.write(b"whole")
        assert temporary.exists()  # somebody is writing it
        writer.send_signal(signal.SIGKILL)
    with open_output(path, "working file") as file:
        file.write(b"whole")
    assert temporary.exists()  # nobody asked
    with open_output(path, "working file", tidy=True) as file:
        file.write(b"whole")
    assert set(tmp_path.iterdir()) == {path, other}
    assert path.read_bytes() == b"whole"
