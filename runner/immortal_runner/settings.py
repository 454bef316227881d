"""The runner's environment, read once."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from immortal_lambda.errors import ImmortalError

LEASE_S = 60.0
"""How long a claim holds without a heartbeat, unless ``IMMORTAL_LEASE_S`` says otherwise."""

BEATS_PER_LEASE = 4
STOP_TIMEOUT_S = 30.0
"""How long ECS waits between SIGTERM and SIGKILL, unless ``IMMORTAL_STOP_TIMEOUT_S`` says otherwise."""

STOP_RESERVE_S = 10.0
"""What the runner keeps of the stop timeout: when a handler's grace is over, its run has to be given back."""

DRAIN_RUNS = 100
"""Runs that a task takes after its own, unless ``IMMORTAL_DRAIN_RUNS`` says otherwise."""

DRAIN_S = 900.0
"""How long after its start a task takes another run, unless ``IMMORTAL_DRAIN_S`` says otherwise."""

MAX_DEADLINE_S = 2_147_483
"""More milliseconds than this many seconds have don't fit the 32 bits in which Java counts them."""

Deadline = Literal["unlimited", "original"] | int
RequestIdMode = Literal["original", "fresh"]
CredentialsMode = Literal["endpoint", "static", "task-role"]
ExtensionsMode = Literal["on", "off"]
ChangedCode = Literal["run", "park"]

_Value = TypeVar("_Value")


class SettingsWrong(ImmortalError):
    """The task definition doesn't set all that the runner needs, or sets what means nothing."""


@dataclass(frozen=True, slots=True)
class NeighbourSettings:
    """The function's own container, as the dispatcher wrote it into the task definition.

    Attributes:
        name: Of the container.
        image: Its image, by digest.
        shared_dir: The folder that both containers have.
        tmp_dir: Where the runner's container has what the function sees as ``/tmp``.
    """

    name: str
    image: str
    shared_dir: Path
    tmp_dir: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """What the task definition and the launch say.

    Attributes:
        work_dir: Where code is laid out; ``/`` in a container, which has the machine to itself.
        metadata_uri: Of the task metadata endpoint, version 4; empty outside ECS.
        lease_s: How long a claim holds without a heartbeat, in seconds.
        stop_grace_s: What a handler gets after SIGTERM, in seconds.
        drain_runs: How many runs of the same function the task takes after its own; 0 takes none.
        drain_s: How long after its start it takes another, in seconds.
        deadline: What the handler is told that it has: 23 days, the function's own limit, or a number of seconds.
            Nobody enforces it.
        request_id: Whether the handler sees the id of the invocation that failed or a new one.
        credentials: Whether the function's SDK fetches its role's credentials and renews them, finds them in its
            environment, or fetches those of the task's role.
        extensions: Whether the extensions that the function's layers bring are started.
        changed_code: What becomes of a run whose function was changed after it had failed.
        credentials_uri: Where ECS serves the credentials of the task's role; empty where it has none. A secret.
        endpoint_url: Of a local AWS; handed on to the function. Empty on AWS.
        lifeline: Descriptor whose end means that whoever started the task is gone; None on AWS.
        neighbour: The container that a function's own image has in this task; None in a task for zips.
    """

    run_id: str
    ledger_table: str
    payload_bucket: str
    work_dir: Path
    lease_s: float
    stop_grace_s: float
    drain_runs: int
    drain_s: float
    deadline: Deadline
    request_id: RequestIdMode
    credentials: CredentialsMode
    extensions: ExtensionsMode
    changed_code: ChangedCode
    metadata_uri: str
    credentials_uri: str = field(repr=False)
    endpoint_url: str
    lifeline: int | None
    neighbour: NeighbourSettings | None = None


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the environment.

    Raises:
        SettingsWrong: All names that are missing, and all values that mean nothing.
    """
    reader = _Reader(environ)
    lifeline = reader.whole("IMMORTAL_LIFELINE_FD", -1)
    stop_timeout_s = reader.number("IMMORTAL_STOP_TIMEOUT_S", STOP_TIMEOUT_S, at_least=0)
    settings = Settings(
        run_id=reader.needed("IMMORTAL_RUN_ID"),
        ledger_table=reader.needed("IMMORTAL_LEDGER_TABLE"),
        payload_bucket=reader.needed("IMMORTAL_PAYLOAD_BUCKET"),
        work_dir=Path(environ.get("IMMORTAL_WORK_DIR") or "/"),
        lease_s=reader.number("IMMORTAL_LEASE_S", LEASE_S, at_least=1),
        stop_grace_s=reader.number("IMMORTAL_STOP_GRACE_S", max(0.0, stop_timeout_s - STOP_RESERVE_S), at_least=0),
        drain_runs=reader.whole("IMMORTAL_DRAIN_RUNS", DRAIN_RUNS),
        drain_s=reader.number("IMMORTAL_DRAIN_S", DRAIN_S, at_least=0),
        deadline=reader.deadline("IMMORTAL_DEADLINE"),
        request_id=reader.one_of("IMMORTAL_REQUEST_ID", get_args(RequestIdMode)),
        credentials=reader.one_of("IMMORTAL_CREDENTIALS", get_args(CredentialsMode)),
        extensions=reader.one_of("IMMORTAL_EXTENSIONS", get_args(ExtensionsMode)),
        changed_code=reader.one_of("IMMORTAL_CHANGED_CODE", get_args(ChangedCode)),
        metadata_uri=environ.get("ECS_CONTAINER_METADATA_URI_V4", ""),
        credentials_uri=_credentials_uri(environ),
        endpoint_url=environ.get("AWS_ENDPOINT_URL", ""),
        lifeline=lifeline if lifeline >= 0 else None,
        neighbour=_read_neighbour(reader) if environ.get("IMMORTAL_NEIGHBOUR") else None,
    )
    reader.check()
    return settings


def _read_neighbour(reader: "_Reader") -> NeighbourSettings:
    return NeighbourSettings(
        name=reader.needed("IMMORTAL_NEIGHBOUR"),
        image=reader.needed("IMMORTAL_NEIGHBOUR_IMAGE"),
        shared_dir=Path(reader.needed("IMMORTAL_NEIGHBOUR_DIR")),
        tmp_dir=Path(reader.needed("IMMORTAL_NEIGHBOUR_TMP")),
    )


def _credentials_uri(environ: Mapping[str, str]) -> str:
    """Where ECS serves the task role's credentials: it gives a path, a local AWS gives the whole of it."""
    path = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
    return f"http://169.254.170.2{path}" if path else environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")


class _Reader:
    """Reads values one by one and keeps what is wrong with them, to tell it all at once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._missing: list[str] = []
        self._wrong: list[str] = []

    def needed(self, name: str) -> str:
        if not self._environ.get(name):
            self._missing.append(name)
        return self._environ.get(name, "")

    def number(self, name: str, default: float, *, at_least: float) -> float:
        return self._read(name, default, float, lambda value: at_least <= value < float("inf"), f"{at_least:g} or more")

    def whole(self, name: str, default: int) -> int:
        return self._read(name, default, int, lambda value: value >= 0, "a whole number, 0 or more")

    def one_of(self, name: str, values: tuple[_Value, ...]) -> _Value:
        """The first value is the default."""
        by_name = {str(value): value for value in values}
        return self._read(name, values[0], by_name.__getitem__, lambda _: True, " or ".join(by_name))

    def deadline(self, name: str) -> Deadline:
        modes: dict[str, Deadline] = {"unlimited": "unlimited", "original": "original"}
        return self._read(
            name,
            "unlimited",
            lambda text: modes[text] if text in modes else int(text),
            lambda value: isinstance(value, str) or 1 <= value <= MAX_DEADLINE_S,
            f"unlimited, original, or seconds from 1 to {MAX_DEADLINE_S}",
        )

    def check(self) -> None:
        said = [f"not set: {', '.join(self._missing)}"] if self._missing else []
        if said or self._wrong:
            raise SettingsWrong(
                f"{'; '.join(said + self._wrong)}. Next step: immortal deploy sets them in the task definition"
            )

    def _read(
        self,
        name: str,
        default: _Value,
        read: Callable[[str], _Value],
        allowed: Callable[[_Value], bool],
        wanted: str,
    ) -> _Value:
        text = self._environ.get(name, "")
        if not text:
            return default
        try:
            if allowed(value := read(text)):
                return value
        except (ValueError, KeyError):
            pass
        self._wrong.append(f"{name} is {text!r}, and must be {wanted}")
        return default
