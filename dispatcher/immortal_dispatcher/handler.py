"""The two functions' handlers: wiring only."""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from immortal_dispatcher.aws import AwsAccount, open_account
from immortal_dispatcher.dispatch import dispatch
from immortal_dispatcher.reconcile import reconcile_stop, sweep
from immortal_dispatcher.settings import read_settings
from immortal_dispatcher.speak import say
from immortal_lambda.clock import now_ms


def handler(event: Mapping[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Take a batch of messages from the failure queue; the answer names those to be delivered again."""
    again = dispatch(event["Records"], _account(), clock=now_ms, say=say)
    return {"batchItemFailures": [{"itemIdentifier": letter_id} for letter_id in again]}


def reconcile(event: Mapping[str, Any], _context: object) -> None:
    """Look at one stopped task, or at all runs that are due when the clock strikes."""
    if event.get("source") == "aws.ecs":
        reconcile_stop(event["detail"], _account(), now_ms=now_ms(), say=say)
    else:
        sweep(_account(), clock=now_ms, say=say)


@cache
def _account() -> AwsAccount:
    return open_account(read_settings(os.environ))
