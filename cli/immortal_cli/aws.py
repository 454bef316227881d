"""The account that the commands talk to; the one file of this room that makes boto3's clients.

boto3 is imported with the first client, so that ``immortal --help`` costs click alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from immortal_lambda.aws import DynamoTable, PayloadBucket
from immortal_lambda.errors import ImmortalError
from immortal_lambda.ledger import Ledger

if TYPE_CHECKING:
    import boto3

_OR_LOCAL = 'or for a local AWS: eval "$(immortal local env)"'
_NO_CREDENTIALS = f"no credentials were found. Next step: export AWS_PROFILE, {_OR_LOCAL}"
_NO_REGION = f"no region is set. Next step: export AWS_REGION, {_OR_LOCAL}"


class StackMissing(ImmortalError):
    """The stack isn't there, so nothing that it holds is."""


class SettingsRefused(ImmortalError):
    """The environment names an endpoint or a region that can't be one."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account in one region, as boto3 finds it in the environment."""

    session: boto3.Session
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """A boto3 client for a service, made once.

        Raises:
            SettingsRefused: The environment names an endpoint or a region that can't be one.
        """
        if service not in self._clients:
            make = cast("Any", self.session.client)  # the stubs know each service by its own literal
            try:
                client = make(service)
                _ = urlsplit(client.meta.endpoint_url).port  # botocore looks at it only with the first request
            except ValueError as error:  # what botocore says of a URL or a region that it can't read
                step = "check AWS_ENDPOINT_URL and AWS_REGION"
                raise SettingsRefused(with_next_step(error, step)) from error
            self._clients[service] = client
        return self._clients[service]

    @property
    def is_aws(self) -> bool:
        """Whether this is AWS itself and no emulator."""
        host: str = self.client("cloudformation").meta.endpoint_url.rpartition("://")[2].partition("/")[0]
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


def open_account() -> Account:
    """The account that the environment names."""
    import boto3  # noqa: PLC0415  # asking for help must not cost boto3

    # boto3 reads AWS_DEFAULT_REGION alone; every other tool reads AWS_REGION first.
    return Account(boto3.Session(region_name=os.environ.get("AWS_REGION")))


def read_outputs(account: Account, stack: str) -> dict[str, str]:
    """Give a stack's outputs.

    Raises:
        StackMissing: There is no such stack.
    """
    outputs = find_outputs(account, stack)
    if outputs is None:
        raise StackMissing(f"no stack {stack!r} in this account and region. Next step: immortal deploy")
    return outputs


def find_outputs(account: Account, stack: str) -> dict[str, str] | None:
    """Give a stack's outputs; None when there is no such stack."""
    found = find_stack(account, stack)
    if found is None:
        return None
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


def find_stack(account: Account, stack: str) -> Mapping[str, Any] | None:
    """Describe a stack; None when there is none."""
    from botocore.exceptions import ClientError  # noqa: PLC0415

    try:
        found: Mapping[str, Any] = account.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return None if found["StackStatus"] == "DELETE_COMPLETE" else found


@dataclass(frozen=True, slots=True)
class Records:
    """Where an installation keeps its runs."""

    ledger: Ledger
    bucket: PayloadBucket


def open_records(account: Account, name: str) -> Records:
    """The records of an installation.

    Raises:
        StackMissing: It isn't deployed here.
    """
    outputs = read_outputs(account, f"{name}-store")
    return Records(
        Ledger(DynamoTable(account.client("dynamodb"), outputs["LedgerTable"])),
        PayloadBucket(account.client("s3"), outputs["PayloadBucket"]),
    )


def describe_failure(error: Exception) -> str | None:
    """Say what AWS or the way to it did wrong, with the next step; None for an error that isn't about AWS."""
    if "botocore" not in sys.modules:
        return None
    from botocore import exceptions  # noqa: PLC0415

    match error:
        case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
            return _NO_CREDENTIALS
        case exceptions.NoRegionError():
            return _NO_REGION
        case exceptions.EndpointConnectionError() | exceptions.ConnectTimeoutError():
            step = "check AWS_ENDPOINT_URL and the network; for a local AWS: immortal local up"
        case exceptions.ClientError():
            step = "if a permission is missing, grant what the message names"
        case exceptions.BotoCoreError():
            step = "check the AWS settings of this shell"
        case _:
            return None
    return with_next_step(error, step)


def with_next_step(error: Exception | str, step: str) -> str:
    """Say what somebody else's error says, and what to do; whether it ends in a full stop is up to them."""
    said = str(error)
    return said if "Next step:" in said else f"{said.rstrip('. ')}. Next step: {step}"
