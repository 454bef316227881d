"""``immortal runs``: what became of the letters, read from the ledger."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

import click

from immortal_cli import views
from immortal_cli.aws import open_account, open_records
from immortal_cli.errors import Failed
from immortal_cli.options import RunId, json_option, name_option
from immortal_cli.output import tell, write_json, write_members, write_table
from immortal_cli.tail import Tail
from immortal_lambda.clock import now_ms
from immortal_lambda.ledger import Ledger, RunUnknown
from immortal_lambda.payloads import Bucket, fetch
from immortal_lambda.runs import STATUSES, Run, Status

_LOOK_S = 0.5
"""How often a waiting command looks at the ledger."""


@click.group()
def runs() -> None:
    """List, show, wait for, read the logs of and redrive runs."""


@runs.command("ls")
@click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="Only runs in this status.")
@click.option("--function", "function", metavar="NAME", help="Only runs of this function.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="At most this many, newest first.")
@name_option
@json_option
def list_runs(statuses: tuple[str, ...], function: str | None, limit: int, name: str, *, as_json: bool) -> None:
    """List runs, newest change first.

    With --json, a result that lies in the bucket is named as {"stored": "s3://...", "bytes": N}; show fetches it.
    """
    records = open_records(open_account(), name)
    wanted = cast("tuple[Status, ...]", statuses) or STATUSES
    found = (run for run in records.ledger.list(wanted) if function in (None, run.function))
    _write(islice(found, limit), None, as_json=as_json)


@runs.command("show")
@click.argument("run_id", metavar="RUN", type=RunId())
@click.option("--event", "only_event", is_flag=True, help="Print the event that the handler is given, byte for byte.")
@name_option
@json_option
def show_run(run_id: str, name: str, *, only_event: bool, as_json: bool) -> None:
    """Show all that is on record of one run."""
    if only_event and as_json:
        raise click.UsageError("--event prints the event as it is: leave out --json")
    records = open_records(open_account(), name)
    run = records.ledger.read(run_id)
    if only_event:
        click.echo(fetch(run.event, records.bucket), nl=False)
    elif as_json:
        write_json(views.show_json(run, bucket=records.bucket, now_ms=now_ms()))
    else:
        write_members(views.show_members(run, bucket=records.bucket, now_ms=now_ms()))


@runs.command("wait")
@click.argument("run_ids", metavar="RUN...", nargs=-1, type=RunId())
@click.option("--all", "wait_for_all", is_flag=True, help="Wait until no run on record is pending or processing.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), metavar="SECONDS", help="Give up after this long.")
@name_option
@json_option
def wait_for_runs(
    run_ids: tuple[str, ...], timeout_s: float | None, name: str, *, wait_for_all: bool, as_json: bool
) -> None:
    """Wait until runs have ended; exit 0 if all are complete, 1 otherwise.

    A RUN that isn't on record yet is waited for: a run's id is Lambda's request id, known before its letter is written.
    """
    if wait_for_all == bool(run_ids):
        raise click.UsageError("name the runs to wait for, or ask for --all")
    records = open_records(open_account(), name)
    deadline = time.monotonic() + timeout_s if timeout_s is not None else None
    waited = _wait_for_all(records.ledger, deadline) if wait_for_all else _wait_for(run_ids, records.ledger, deadline)
    _write(waited.runs, records.bucket, as_json=as_json)
    _tell_open(waited)
    if waited.missing or not all(run.status == "complete" for run in waited.runs):
        raise click.exceptions.Exit(1)


@runs.command("logs")
@click.argument("run_id", metavar="RUN", type=RunId())
@click.option(
    "--follow", is_flag=True, help="Wait for the run if it isn't on record yet, and go on until it has ended."
)
@name_option
@json_option
def print_logs(run_id: str, name: str, *, follow: bool, as_json: bool) -> None:
    """Print what the handler's last attempt logged."""
    account = open_account()
    ledger = open_records(account, name).ledger
    tail = Tail(account.client("logs"))
    if follow:
        _wait_for_record(ledger, run_id)
    while True:
        run = ledger.read(run_id)  # before the log: what an ended run has logged is complete
        _print_new_lines(tail, run, as_json=as_json)
        if run.ended or not follow:
            break
        time.sleep(_LOOK_S)
    if not run.log_stream:
        raise Failed(f"run {run_id} is {run.status} and has logged nothing. Next step: immortal runs show {run_id}")


@dataclass(frozen=True, slots=True)
class _Waited:
    """Runs as they stood when waiting ended, and ids that never came on record."""

    runs: Sequence[Run]
    missing: Sequence[str] = ()


def _wait_for(run_ids: Sequence[str], ledger: Ledger, deadline: float | None) -> _Waited:
    told = False
    while True:
        read = {run_id: _read(ledger, run_id) for run_id in dict.fromkeys(run_ids)}
        found = [run for run in read.values() if run]
        missing = [run_id for run_id, run in read.items() if run is None]
        if (not missing and all(run.ended for run in found)) or _passed(deadline):
            return _Waited(found, missing)
        if missing and not told:
            _tell_missing(missing)
            told = True
        time.sleep(_LOOK_S)


def _wait_for_all(ledger: Ledger, deadline: float | None) -> _Waited:
    while any(True for _ in ledger.list(("pending", "processing"), page=1)) and not _passed(deadline):
        time.sleep(_LOOK_S)
    found = list(ledger.list())
    if not found:
        raise Failed("no run is on record. Next step: name the runs to wait for, by Lambda's request id")
    return _Waited(found)


def _wait_for_record(ledger: Ledger, run_id: str) -> None:
    if _read(ledger, run_id) is None:
        _tell_missing([run_id])
    while _read(ledger, run_id) is None:
        time.sleep(_LOOK_S)


def _tell_missing(run_ids: Sequence[str]) -> None:
    tell(f"not on record yet, waiting: {', '.join(run_ids)}")


def _tell_open(waited: _Waited) -> None:
    """Tell what has not ended: only the time limit ends waiting before that."""
    still = [f"{run.run_id} ({run.status})" for run in waited.runs if not run.ended]
    still += [f"{run_id} (not on record)" for run_id in waited.missing]
    if still:
        tell(f"time ran out with these still open: {', '.join(still)}. Next step: wait again, or immortal runs ls")


def _read(ledger: Ledger, run_id: str) -> Run | None:
    try:
        return ledger.read(run_id)
    except RunUnknown:
        return None


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _write(found: Iterable[Run], bucket: Bucket | None, *, as_json: bool) -> None:
    now = now_ms()
    if as_json:
        for run in found:
            write_json(views.show_json(run, bucket=bucket, now_ms=now))
        return
    rows = [views.show_row(run, now_ms=now) for run in found]
    if rows:
        write_table(views.COLUMNS, rows)
    else:
        tell("no runs")


def _print_new_lines(tail: Tail, run: Run, *, as_json: bool) -> None:
    if not run.log_stream:
        return
    part = {"from_ms": run.claimed_ms, "until_ms": run.ended_ms}
    for line in tail.new_lines(run.log_group, run.log_stream, **part):
        if as_json:
            write_json({"timestamp": views.show_time(line.at_ms), "message": line.text})
        else:
            click.echo(line.text)
