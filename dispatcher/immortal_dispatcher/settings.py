"""The environment of the two functions, read once into a frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from immortal_lambda.errors import ImmortalError

PublicIp = Literal["ENABLED", "DISABLED"]

_REQUIRED = (
    "IMMORTAL_LEDGER_TABLE",
    "IMMORTAL_PAYLOAD_BUCKET",
    "IMMORTAL_CLUSTER",
    "IMMORTAL_TASK_DEFINITION",
    "IMMORTAL_SUBNETS",
)


class SettingsIncomplete(ImmortalError):
    """The function's environment is incomplete or wrong; whoever deployed it must mend the stack."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where runs are recorded, and where and how tasks start.

    Attributes:
        task_definition: Family, or family and revision; a bare family means its newest revision.
        subnets: Subnets for the tasks, at least one.
        security_groups: Security groups for the tasks; none means the default group of the subnets' network.
        assign_public_ip: ENABLED where the subnets reach AWS through an internet gateway.
    """

    ledger_table: str
    payload_bucket: str
    cluster: str
    task_definition: str
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...] = ()
    assign_public_ip: PublicIp = "DISABLED"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings from environment variables.

    Raises:
        SettingsIncomplete: Something is missing, all of it named, or has a value that means nothing.
    """
    missing = [name for name in _REQUIRED if not environment.get(name, "").strip(" ,")]
    if missing:
        raise SettingsIncomplete(f"not set: {', '.join(missing)}. Next step: immortal deploy")
    public_ip = environment.get("IMMORTAL_ASSIGN_PUBLIC_IP") or "DISABLED"
    if public_ip not in get_args(PublicIp):
        raise SettingsIncomplete(f"IMMORTAL_ASSIGN_PUBLIC_IP is {public_ip!r}. Next step: set ENABLED or DISABLED")
    return Settings(
        ledger_table=environment["IMMORTAL_LEDGER_TABLE"],
        payload_bucket=environment["IMMORTAL_PAYLOAD_BUCKET"],
        cluster=environment["IMMORTAL_CLUSTER"],
        task_definition=environment["IMMORTAL_TASK_DEFINITION"],
        subnets=_names(environment["IMMORTAL_SUBNETS"]),
        security_groups=_names(environment.get("IMMORTAL_SECURITY_GROUPS", "")),
        assign_public_ip=cast("PublicIp", public_ip),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))
