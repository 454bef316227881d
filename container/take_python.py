"""Copies the interpreter that runs it into a folder that needs nothing of its surroundings but the C library.

A step of the image's build: it runs in AWS's Python image, and what it copies runs on the base image of any runtime.
"""

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

UNUSED = shutil.ignore_patterns(
    *("__pycache__", "site-packages", "dist-packages", "test", "tests", "config-*", "*.a"),
    *("ensurepip", "idlelib", "lib2to3", "pydoc_data", "tkinter", "turtle*", "venv", "sqlite3", "dbm", "curses"),
    *("_test*.so", "_ctypes_test*.so", "_xx*.so", "xx*.so"),
    *("_tkinter*.so", "_sqlite3*.so", "_dbm*.so", "_gdbm*.so", "_curses*.so", "readline*.so", "nis.*"),
)
"""What the runner never imports, and the libraries that only those modules need."""

C_LIBRARY = re.compile(r"(linux-vdso|ld-linux|ld64|lib(c|m|dl|pthread|rt|util|resolv|nsl|anl|mvec))\b")
"""Files of glibc, which every base image has, in the version that its kernel interface and locales fit."""


def take(target: Path) -> None:
    """Copy the interpreter, its standard library and the shared libraries of both, and compile the library."""
    binary = target / "bin/python3"
    binary.parent.mkdir(parents=True)
    shutil.copy(Path(sys.executable).resolve(), binary)
    library = Path(os.__file__).parent
    shutil.copytree(library, target / "lib" / library.name, ignore=UNUSED, ignore_dangling_symlinks=True)
    for needed in shared_libraries(binary, (target / "lib" / library.name).rglob("*.so")):
        shutil.copy(needed, target / "lib")
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(target / "lib", quiet=1, workers=0, invalidation_mode=unchecked)


def shared_libraries(binary: Path, modules: Iterable[Path]) -> Iterator[Path]:
    """Ask the loader what a program and its compiled modules are linked with; base images needn't have ``ldd``."""
    preloaded = {"LD_PRELOAD": ":".join(map(str, modules)), "LD_TRACE_LOADED_OBJECTS": "1"}
    listed = subprocess.run([binary], env={**os.environ, **preloaded}, capture_output=True, text=True, check=True)
    for name, path in re.findall(r"^\s*(\S+) => (/\S+)", listed.stdout, re.MULTILINE):
        if not C_LIBRARY.match(name):
            yield Path(path)


if __name__ == "__main__":
    take(Path(sys.argv[1]))
