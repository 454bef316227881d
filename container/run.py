"""Runs one of the image's own modules: they lie where the function's process never looks."""

import runpy
import sys
from pathlib import Path

here = Path(__file__).parent
sys.path[:0] = [str(here), str(here.with_name("packages"))]
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
