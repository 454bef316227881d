"""The image's entry point: starts the runner with its own modules, which the function's process never sees."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
runpy.run_module("immortal_runner", run_name="__main__", alter_sys=True)
