"""The dispatcher's zip."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

from immortal_cli.bundle import pack


def test_the_same_code_gives_the_same_bytes_and_the_same_key() -> None:
    assert pack() == pack()
    assert pack().key.startswith("code/dispatcher-")


def test_it_holds_the_library_and_the_dispatcher_and_nothing_else() -> None:
    names = zipfile.ZipFile(io.BytesIO(pack().data)).namelist()
    assert {name.partition("/")[0] for name in names} == {"immortal_lambda", "immortal_dispatcher"}
    assert not [name for name in names if "__pycache__" in name]


def test_its_handlers_can_be_imported_from_it_alone(tmp_path: Path) -> None:
    file = tmp_path / "dispatcher.zip"
    file.write_bytes(pack().data)
    program = (
        "import sys, botocore; from immortal_dispatcher import handler; "
        "assert sys.argv[1] in handler.__file__; print(callable(handler.handler), callable(handler.reconcile))"
    )
    said = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, sys.argv[1]); {program}", str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["True", "True"]
