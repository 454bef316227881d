"""The runner's environment, read once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from immortal_lambda.errors import ImmortalError

LEASE_S = 60.0
"""How long a claim holds without a heartbeat, unless ``IMMORTAL_LEASE_S`` says otherwise."""

BEATS_PER_LEASE = 4
STOP_GRACE_S = 20.0
"""What a handler gets after SIGTERM, unless ``IMMORTAL_STOP_GRACE_S`` says otherwise.

ECS kills after the container's stop timeout, 30 s by default, and the outcome has to be recorded before that.
"""


class SettingsIncomplete(ImmortalError):
    """The task definition doesn't set all that the runner needs."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the task definition and the launch say.

    Attributes:
        work_dir: Where code is laid out; ``/`` in a container, which has the machine to itself.
        metadata_uri: Of the task metadata endpoint, version 4; empty outside ECS.
        lease_s: How long a claim holds without a heartbeat, in seconds.
        stop_grace_s: What a handler gets after SIGTERM, in seconds.
        endpoint_url: Of a local AWS; handed on to the function. Empty on AWS.
        lifeline: Descriptor whose end means that whoever started the task is gone; None on AWS.
    """

    run_id: str
    ledger_table: str
    payload_bucket: str
    work_dir: Path
    lease_s: float
    stop_grace_s: float
    metadata_uri: str
    endpoint_url: str
    lifeline: int | None


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the environment.

    Raises:
        SettingsIncomplete: All names that are missing.
    """
    needed = ("IMMORTAL_RUN_ID", "IMMORTAL_LEDGER_TABLE", "IMMORTAL_PAYLOAD_BUCKET")
    missing = [name for name in needed if not environ.get(name)]
    if missing:
        raise SettingsIncomplete(
            f"not set: {', '.join(missing)}. Next step: immortal deploy sets them in the task definition"
        )
    lifeline = environ.get("IMMORTAL_LIFELINE_FD", "")
    return Settings(
        run_id=environ["IMMORTAL_RUN_ID"],
        ledger_table=environ["IMMORTAL_LEDGER_TABLE"],
        payload_bucket=environ["IMMORTAL_PAYLOAD_BUCKET"],
        work_dir=Path(environ.get("IMMORTAL_WORK_DIR") or "/"),
        lease_s=float(environ.get("IMMORTAL_LEASE_S") or LEASE_S),
        stop_grace_s=float(environ.get("IMMORTAL_STOP_GRACE_S") or STOP_GRACE_S),
        metadata_uri=environ.get("ECS_CONTAINER_METADATA_URI_V4", ""),
        endpoint_url=environ.get("AWS_ENDPOINT_URL", ""),
        lifeline=int(lifeline) if lifeline else None,
    )
