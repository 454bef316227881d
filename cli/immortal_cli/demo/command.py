"""``immortal demo``: a function runs out of its time and is finished anyway, on this machine."""

import json
import time

import click

from immortal_cli.aws import Account, Records, open_records, with_next_step
from immortal_cli.demo import prices, stage
from immortal_cli.demo.primes import prime_at
from immortal_cli.demo.watch import Watch
from immortal_cli.engine import DEFAULT_IMAGE, need_image
from immortal_cli.errors import Failed
from immortal_cli.local import need_linux
from immortal_cli.output import write_table
from immortal_lambda.payloads import fetch
from immortal_lambda.runs import Run

POSITION = 600_000
GIVE_UP_S = 120.0


@click.command()
@click.option(
    "--engine",
    default="process",
    show_default=True,
    type=click.Choice(["process", "docker"]),
    help="What carries the task: a child process, or a container of the local Docker engine.",
)
@click.option("--image", help="The runner's image for --engine docker, as `immortal image build` tagged it.")
@click.option("--position", default=POSITION, show_default=True, type=click.IntRange(1000), help="Prime to search.")
def demo(engine: str, image: str | None, position: int) -> None:
    """Watch a function run out of time and be finished anyway, on this machine.

    Starts a local AWS, deploys to it, creates a function that searches a prime with a limit of 3 seconds, invokes it
    asynchronously and shows what happens. Exits 0 only if the result is right.
    """
    need_linux()
    if engine == "docker":
        need_image(image or DEFAULT_IMAGE)
    click.echo("Starting a local AWS and deploying to it ...")
    with stage.local_aws(engine):
        account = stage.open_stage()
        stage.run_command("deploy", *(["--image", image] if image else []))
        stage.create_function(account)
        stage.run_command("attach", stage.FUNCTION, "--yes")
        records = open_records(account, "immortal")
        invoked_ms = time.time_ns() // 1_000_000
        request_id = stage.invoke(account, {"position": position})
        click.echo(f"\n   0.0 s  invoked asynchronously: find prime number {position:,} (request {request_id})")
        watch = Watch(account, records.ledger, request_id, f"/aws/lambda/{stage.FUNCTION}", stage.TIMEOUT_S)
        for moment in watch.follow(GIVE_UP_S):
            click.echo(f"{(moment.at_ms - invoked_ms) / 1000:6.1f} s  {moment.text}")
        _conclude(account, records, watch, invoked_ms, position)


def _conclude(account: Account, records: Records, watch: Watch, invoked_ms: int, position: int) -> None:
    run = watch.run
    if run is None or not run.ended:
        raise Failed(explain_no_result(run))
    if run.result is None:
        raise Failed(f"the run ended {run.status}: {run.reason or (run.error.message if run.error else '')}")
    found, right = json.loads(fetch(run.result, records.bucket)), prime_at(position)
    click.echo(f"\nResult: {json.dumps(found)}\n")
    write_table(("LEG", "TOOK"), _legs(run, invoked_ms))
    click.echo()
    write_table(("COST", "US$"), _costs(account, watch, run))
    click.echo(
        f"\nLambda's waits between attempts (1 and 2 minutes) were scaled by {stage.TIME_SCALE}. "
        "A Fargate task takes 20 to 60 s to start on AWS; here it is a child process or a container."
    )
    if found != {"position": position, "prime": right}:
        raise Failed(f"the result is wrong: prime number {position:,} is {right:,}")


def explain_no_result(run: Run | None) -> str:
    """Say that time ran out, and why the run waits if it says so."""
    why = f": the run is {run.status}{f', {run.reason}' if run.reason else ''}" if run else ""
    return with_next_step(f"no result within {GIVE_UP_S:.0f} s{why}", "immortal local up, and the same by hand")


def _legs(run: Run, invoked_ms: int) -> list[tuple[str, str]]:
    failed_ms = run.origin.failed_ms if run.origin else invoked_ms
    steps = [
        ("Lambda's attempts, until it gave up", invoked_ms, failed_ms),
        ("dead letter to run on record", failed_ms, run.created_ms),
        ("run on record to task at work", run.created_ms, run.claimed_ms),
        ("task at work to handler's first instruction", run.claimed_ms, run.handler_ms),
        ("the handler, without a limit", run.handler_ms, run.ended_ms),
    ]
    return [(name, f"{(until - since) / 1000:7.2f} s") for name, since, until in steps]


def _costs(account: Account, watch: Watch, run: Run) -> list[tuple[str, str]]:
    task = account.client("ecs").describe_tasks(cluster=run.task_arn.split("/")[1], tasks=[run.task_arn])["tasks"][0]
    cpu_units, memory_mb = int(task["cpu"]), int(task["memory"])
    wasted = prices.lambda_cost(watch.billed_ms, stage.MEMORY_MB, watch.attempts)
    rerun = prices.fargate_cost((run.ended_ms - run.claimed_ms) / 1000, cpu_units, memory_mb)
    attempts = f"Lambda, for nothing: {watch.attempts} attempts, {watch.billed_ms / 1000:.1f} s at {stage.MEMORY_MB} MB"
    task_size = f"Fargate, for the result: {cpu_units / 1024:g} vCPU, {memory_mb / 1024:g} GB, a minute at least"
    return [(attempts, f"{wasted:.6f}"), (task_size, f"{rerun:.6f}")]
