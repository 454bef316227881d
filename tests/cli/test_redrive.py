"""Runs taken up again: the plan as values, and the command on a real ledger."""

import json
from dataclasses import replace
from typing import Any

import pytest

from immortal_cli.aws import Records, open_account, open_records
from immortal_cli.functions import Named
from immortal_cli.redrive import Redrive, Refuse, plan_redrive
from immortal_lambda.failures import Failure
from immortal_lambda.ledger import Place
from immortal_lambda.payloads import Inline
from immortal_lambda.runs import STATUSES, Run, RunError, Status
from immortal_local.server import LocalAws
from support.bench import TRUST, zip_files
from support.commands import immortal

NOW = 1_795_000_000_123
ARN = "arn:aws:lambda:us-east-1:123456789012:function:job"
NAMED = Named("job", ARN, "$LATEST")
RUN = Run(
    "r-1",
    "rerun",
    "parked",
    Inline(b"{}"),
    NOW,
    NOW,
    function="job",
    function_arn=ARN,
    version="$LATEST",
    failure=Failure("timeout", "Task timed out"),
    reason="its task was lost",
)
UNKNOWN = replace(RUN, function="", function_arn="", version="")


@pytest.mark.parametrize("status", STATUSES)
def test_parked_and_failed_runs_are_taken_up_and_no_others(status: Status) -> None:
    step = plan_redrive(replace(RUN, status=status), None)
    assert isinstance(step, Redrive if status in {"parked", "error"} else Refuse)


def test_a_run_whose_function_was_never_found_asks_for_its_name() -> None:
    step = plan_redrive(UNKNOWN, None)
    assert isinstance(step, Refuse)
    assert "Next step: name it with --function" in step.reason


def test_a_run_whose_function_was_never_found_becomes_one_of_the_named_function() -> None:
    assert plan_redrive(UNKNOWN, NAMED) == Redrive(RUN)


def test_a_message_that_was_no_letter_is_said_to_be_given_whole() -> None:
    step = plan_redrive(replace(UNKNOWN, failure=None), NAMED)
    assert isinstance(step, Redrive)
    assert "no letter" in step.note


def test_the_function_on_record_may_be_named_and_no_other() -> None:
    assert plan_redrive(RUN, NAMED) == Redrive(RUN)
    step = plan_redrive(RUN, Named("other", ARN.replace("job", "other"), "$LATEST"))
    assert isinstance(step, Refuse)
    assert ARN in step.reason


@pytest.fixture(scope="module")
def records(deployed: dict[str, Any], local: LocalAws) -> Records:
    """The records of an installation whose reconciler sleeps: what is redriven stays to be looked at."""
    del deployed
    events = local.client("events")
    for rule in events.list_rules()["Rules"]:
        events.disable_rule(Name=rule["Name"])
    return open_records(open_account(), "immortal")


def test_runs_are_taken_up_once_the_operator_agrees(records: Records) -> None:
    records.ledger.create(replace(RUN, run_id="asked"))
    refused = immortal("runs", "redrive", "asked", typed="n\n")
    assert refused.code == 1
    assert "its task was lost" in refused.out
    assert records.ledger.read("asked").status == "parked"
    assert immortal("runs", "redrive", "asked", typed="y\n").code == 0
    run = records.ledger.read("asked")
    assert (run.status, run.reason, run.launches) == ("pending", "", 0)
    assert "asked" in records.ledger.due(run.updated_ms)


def test_the_rest_is_taken_up_when_one_is_refused(records: Records) -> None:
    records.ledger.create(replace(RUN, run_id="mixed-parked"))
    records.ledger.create(replace(RUN, run_id="mixed-held", status="pending"))
    held = records.ledger.claim("mixed-held", owner="me", place=Place(), now_ms=NOW, lease_ms=1000)
    answer = immortal("runs", "redrive", "mixed-parked", "mixed-held", "--yes", "--json")
    assert answer.code == 1
    first, second = answer.lines
    assert first == {"run_id": "mixed-parked", "function_arn": ARN, "redriven": True, "refused": None}
    assert (second["redriven"], "is being worked on" in second["refused"]) == (False, True)
    assert records.ledger.read("mixed-parked").status == "pending"
    records.ledger.fail(held, error=RunError("E", "m"), now_ms=NOW)
    assert immortal("runs", "redrive", "mixed-held", "--yes").code == 0


def test_nothing_is_asked_when_nothing_can_be_done(records: Records) -> None:
    records.ledger.create(replace(RUN, run_id="waits", status="pending"))
    answer = immortal("runs", "redrive", "waits")
    assert answer.code == 1
    assert "waits to be launched already" in answer.err
    assert "Redrive" not in answer.err


def test_a_function_can_be_named_for_a_run_that_has_none(records: Records, local: LocalAws) -> None:
    role = local.client("iam").create_role(RoleName="named", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    code = {"ZipFile": zip_files({"app.py": "def handler(event, context): pass"})}
    created = local.client("lambda").create_function(
        FunctionName="named", Runtime="python3.13", Role=role, Handler="app.handler", Code=code
    )
    records.ledger.create(replace(UNKNOWN, run_id="nameless"))
    misspelt = immortal("runs", "redrive", "nameless", "--yes", "--function", "nemed")
    assert misspelt.code == 1
    assert "Nearest: named" in misspelt.err
    assert immortal("runs", "redrive", "nameless", "--yes", "--function", "named").code == 0
    run = records.ledger.read("nameless")
    assert (run.status, run.function, run.function_arn) == ("pending", "named", created["FunctionArn"])


def test_an_unknown_run_stops_everything(records: Records) -> None:
    records.ledger.create(replace(RUN, run_id="known"))
    answer = immortal("runs", "redrive", "known", "nobody", "--yes")
    assert answer.code == 1
    assert "no run 'nobody' on record" in answer.err
    assert records.ledger.read("known").status == "parked"
