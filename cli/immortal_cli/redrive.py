"""``immortal runs redrive``: runs that ended without a result, taken up again because a person says so."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import click

from immortal_cli.aws import open_account, open_records
from immortal_cli.functions import Named, find_function
from immortal_cli.options import RunId, json_option, name_option
from immortal_cli.output import tell, write_json, write_table
from immortal_lambda.runs import Run, Status


@dataclass(frozen=True, slots=True)
class Redrive:
    """Make a run pending again.

    Attributes:
        run: As it was read, with the function that it is to be run as.
        note: What the operator should know first; empty when nothing.
    """

    run: Run
    note: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Leave a run as it is."""

    run: Run
    reason: str


_REFUSALS: dict[Status, str] = {
    "pending": "waits to be launched already",
    "processing": "is being worked on. Next step: immortal runs wait {run_id}",
    "complete": "is complete. Next step: invoke the function again if its work is to be done twice",
    "cancelled": "was cancelled. Next step: invoke the function again",
}


def plan_redrive(run: Run, named: Named | None) -> Redrive | Refuse:
    """Decide whether a run is taken up again.

    Args:
        named: The function that the operator named for it; None for the one on record.
    """
    if run.status in _REFUSALS:
        return Refuse(run, _REFUSALS[run.status].format(run_id=run.run_id))
    if named is None and not run.function_arn:
        return Refuse(run, "its function was never found. Next step: name it with --function")
    if named is None or named.arn == run.function_arn:
        return Redrive(run)
    if run.function_arn:
        return Refuse(run, f"belongs to {run.function_arn}. Next step: leave out --function")
    whole = "" if run.failure else "the message was no letter: the handler is given all of it"
    return Redrive(replace(run, function=named.name, function_arn=named.arn, version=named.version), whole)


@click.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True, type=RunId())
@click.option("--function", "function", metavar="NAME", help="The function of runs whose function was never found.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@name_option
@json_option
def redrive(run_ids: tuple[str, ...], function: str | None, name: str, *, yes: bool, as_json: bool) -> None:
    """Take parked and failed runs up again; exit 1 if one is refused.

    Shows what it changes and asks. A run that is taken up is launched within a minute, with its event, attempts and
    log kept and its limits counted anew. Its handler may have done a part of the work before.
    """
    account = open_account()
    ledger = open_records(account, name).ledger
    named = find_function(account, function) if function else None
    plan = [plan_redrive(ledger.read(run_id), named) for run_id in dict.fromkeys(run_ids)]
    wanted = [step for step in plan if isinstance(step, Redrive)]
    if not as_json:
        write_table(("RUN", "FUNCTION", "CHANGE", "WHY"), [_describe(step) for step in plan])
    if wanted and not yes:
        click.confirm(f"Redrive {len(wanted)} of {len(plan)}?", abort=True, err=True)
    done = {step.run.run_id for step in wanted if ledger.redrive(step.run, now_ms=time.time_ns() // 1_000_000)}
    answers = [_answer(step, done) for step in plan]
    if as_json:
        for answer in answers:
            write_json(answer)
    _tell(answers)
    if len(done) < len(plan):
        raise click.exceptions.Exit(1)


def _describe(step: Redrive | Refuse) -> tuple[str, str, str, str]:
    run = step.run
    match step:
        case Redrive(note=note):
            why = "; ".join(filter(None, (note, run.error.message if run.error else run.reason)))
            return run.run_id, run.function, f"{run.status} → pending", why
        case Refuse(reason=reason):
            return run.run_id, run.function or "-", "none", reason
        case _:
            assert_never(step)


def _answer(step: Redrive | Refuse, done: set[str]) -> dict[str, str | bool | None]:
    run = step.run
    moved_on = f"has moved on meanwhile. Next step: immortal runs show {run.run_id}"
    refused = step.reason if isinstance(step, Refuse) else None if run.run_id in done else moved_on
    return {
        "run_id": run.run_id,
        "function_arn": run.function_arn or None,
        "redriven": run.run_id in done,
        "refused": refused,
    }


def _tell(answers: Sequence[dict[str, str | bool | None]]) -> None:
    for answer in answers:
        tell(f"redriven: {answer['run_id']}" if answer["redriven"] else f"{answer['run_id']}: {answer['refused']}")
