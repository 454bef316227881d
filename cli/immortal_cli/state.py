"""Where a running local AWS leaves word of itself, so that another shell finds it."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def state_file(environment: Mapping[str, str] = os.environ) -> Path:
    """The file in the user's state directory. Source: XDG base directory specification."""
    home = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "immortal" / "local.json"


def leave_word(description: Mapping[str, str], file: Path) -> None:
    """Write how a local AWS is reached; only its user may read it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(dict(description)), encoding="utf-8")
    fresh.replace(file)


def find_word(file: Path) -> dict[str, str] | None:
    """Read how the local AWS that was started last is reached; None when none left word."""
    try:
        found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def take_word_back(description: Mapping[str, str], file: Path) -> None:
    """Remove the word of a local AWS that has stopped, unless another one has left its own since."""
    if find_word(file) == dict(description):
        with suppress(OSError):
            file.unlink()
