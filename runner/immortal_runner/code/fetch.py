"""A function's code and layers, downloaded and checked."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import urllib3

from immortal_lambda.errors import ImmortalError, ServiceUnavailable

_CHUNK_BYTES = 256 * 1024
_RETRIES = urllib3.Retry(total=4, backoff_factor=0.3, status_forcelist=(500, 502, 503, 504))
_TIMEOUT = urllib3.Timeout(connect=10, read=60)


class CodeChanged(ImmortalError):
    """What was downloaded is not what the configuration names; trying again cannot help."""


class CodeUnavailable(ImmortalError):
    """The link to a zip was refused; trying again cannot help."""


@dataclass(frozen=True, slots=True)
class Download:
    """A zip to fetch.

    Attributes:
        name: What it is, for people.
        link: A signed link; whoever has it has the code, so it is never shown.
        sha256: Base64, as Lambda gives it.
    """

    name: str
    link: str = field(repr=False)
    sha256: str


def download_all(downloads: Sequence[Callable[[], Download]], folder: Path) -> list[Path]:
    """Fetch zips side by side, and check each against its hash.

    Args:
        downloads: Each is asked for its link right before it is fetched: links are good for ten minutes.

    Raises:
        CodeChanged: The bytes aren't those that the configuration names.
        CodeUnavailable: The link is refused.
        ServiceUnavailable: They can't be fetched now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with urllib3.PoolManager(retries=_RETRIES, timeout=_TIMEOUT) as pool, ThreadPoolExecutor(max_workers=6) as threads:
        waiting = [
            threads.submit(_download, pool, ask, folder / f"{number}.zip") for number, ask in enumerate(downloads)
        ]
        return [each.result() for each in waiting]


def _download(pool: urllib3.PoolManager, ask: Callable[[], Download], target: Path) -> Path:
    wanted = ask()
    digest = hashlib.sha256()
    try:
        with (
            pool.request("GET", wanted.link, preload_content=False, decode_content=False) as answer,
            target.open("wb") as out,
        ):
            _check_status(answer.status, wanted.name)
            for chunk in answer.stream(_CHUNK_BYTES):
                digest.update(chunk)
                out.write(chunk)
    except urllib3.exceptions.HTTPError as error:
        raise ServiceUnavailable(f"{wanted.name} can't be downloaded: {type(error).__name__}") from None
    found = base64.b64encode(digest.digest()).decode()
    if found != wanted.sha256:
        raise CodeChanged(
            f"{wanted.name} has the SHA-256 {found}, its configuration says {wanted.sha256}. "
            "Next step: immortal runs redrive RUN; if it happens again, deploy the function again"
        )
    return target


def _check_status(status: int, name: str) -> None:
    """A server that is in trouble is asked again; one that refuses won't change its mind."""
    if status == HTTPStatus.OK:
        return
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ServiceUnavailable(f"the link to {name} answered {status}")
    raise CodeUnavailable(f"the link to {name} answered {status}. Next step: check that it can still be downloaded")
