"""The dispatcher's zip: library and dispatcher as they are installed here, byte for byte the same each time."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

PACKAGES = ("immortal_lambda", "immortal_dispatcher")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can name."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A zip and the key that names its content."""

    data: bytes

    @property
    def key(self) -> str:
        """Where it lies in the bucket; code that changed gets another key, so that the stack sees the change."""
        return f"code/dispatcher-{hashlib.sha256(self.data).hexdigest()[:32]}.zip"


def pack() -> Bundle:
    """Pack the dispatcher; boto3 comes with Lambda's runtime."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for name, data in _walk(files(package), package):
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, data)
    return Bundle(buffer.getvalue())


def _walk(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    for member in sorted(folder.iterdir(), key=lambda found: found.name):
        if member.is_dir():
            if member.name != "__pycache__":
                yield from _walk(member, f"{name}/{member.name}")
        elif member.name.endswith((".py", ".typed")):
            yield f"{name}/{member.name}", member.read_bytes()
