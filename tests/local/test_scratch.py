import subprocess
import sys
from pathlib import Path

from immortal_local.scratch import open_scratch

HOLDER = """
import sys
from pathlib import Path
from immortal_local.scratch import open_scratch

with open_scratch(Path(sys.argv[1])) as scratch:
    (scratch / "code").mkdir()
    (scratch / "code" / "app.py").write_text("x = 1")
    print(scratch, flush=True)
    sys.stdin.read()
"""


def hold(within: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(within)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def told(process: "subprocess.Popen[str]") -> Path:
    assert process.stdout
    return Path(process.stdout.readline().strip())


def test_what_a_killed_one_left_is_swept_and_what_lives_is_kept(tmp_path: Path) -> None:
    with hold(tmp_path) as doomed, hold(tmp_path) as living:
        left, kept = told(doomed), told(living)
        doomed.kill()
        doomed.wait()
        assert left.exists()

        with open_scratch(tmp_path) as scratch:
            assert not left.exists()
            assert (kept / "code" / "app.py").exists()
            assert scratch.exists()
        living.communicate("")

    assert list(tmp_path.iterdir()) == []


def test_others_may_pass_through_but_not_list(tmp_path: Path) -> None:
    with open_scratch(tmp_path) as scratch:
        assert scratch.stat().st_mode & 0o777 == 0o711


def test_a_link_of_that_name_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / "immortal-local-trap").symlink_to(precious)

    with open_scratch(tmp_path):
        assert (precious / "file").exists()
