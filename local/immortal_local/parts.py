"""What a part of the local AWS stands on, and what it gives.

``server.py`` wires the parts together: a part gets its ground, and the other parts that it needs, in its constructor.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from immortal_local.front import Front
from immortal_local.wire import Service
from immortal_local.workers import Workers

__all__ = ["Ground", "Part"]


class Ground(Protocol):
    """All that a part asks of the local AWS around it."""

    @property
    def endpoint(self) -> str:
        """Where this machine's processes reach the local AWS; known from the start."""
        ...

    @property
    def task_endpoint(self) -> str:
        """Where ECS tasks reach the local AWS."""
        ...

    @property
    def region(self) -> str:
        """The region that calls without one are meant for."""
        ...

    @property
    def account(self) -> str:
        """The twelve digits of the account."""
        ...

    @property
    def time_scale(self) -> float:
        """Factor on every wait that AWS would make its callers wait."""
        ...

    @property
    def scratch(self) -> Path:
        """Where a part keeps its files; other users may pass through it. Gone when the local AWS has stopped."""
        ...

    @property
    def front(self) -> Front:
        """Where a part may register plain routes of its own."""
        ...

    @property
    def workers(self) -> Workers:
        """Where a part starts its threads."""
        ...

    def client(self, service_name: str, region: str | None = None) -> Any:
        """Give a boto3 client on the local AWS itself, whatever the user's environment says."""
        ...


class Part(Protocol):
    """One part of the local AWS."""

    def services(self) -> Sequence[Service]:
        """What the part answers instead of the emulator."""
        ...

    def start(self) -> None:
        """Begin to move; the endpoint already listens."""
        ...

    def stop(self) -> None:
        """Leave no process, container or directory behind; the endpoint still listens."""
        ...
