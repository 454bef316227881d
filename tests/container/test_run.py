"""The script that the image's entry point runs."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

from immortal_cli.build_context import container_folder

WAITS = "import signal\nprint('imported', flush=True)\nsignal.pause()\n"


def test_a_task_that_is_stopped_while_it_starts_ends_at_once_and_says_so(tmp_path: Path) -> None:
    """By an exit status: a container's first process dies of no signal that it does not handle."""
    script = shutil.copy(container_folder() / "run.py", tmp_path)
    (tmp_path / "waits.py").write_text(WAITS)
    with subprocess.Popen([sys.executable, "-I", script, "waits"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "imported\n"
        process.terminate()
        assert process.wait(timeout=10) == 128 + signal.SIGTERM
