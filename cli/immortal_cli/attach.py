"""``immortal attach`` and ``immortal detach``: the plan shown, then carried out."""

import click

from immortal_cli.aws import Account, open_account
from immortal_cli.functions import carry_out, find_installation, read_functions, recall_installation
from immortal_cli.options import json_option, name_option
from immortal_cli.output import tell, write_json, write_table
from immortal_cli.plan import Plan, describe_step, plan_attach, plan_detach

_names = click.argument("names", metavar="NAME...", nargs=-1, required=True)
_yes = click.option("--yes", is_flag=True, help="Don't ask.")


@click.command()
@_names
@_yes
@name_option
@json_option
def attach(names: tuple[str, ...], name: str, *, yes: bool, as_json: bool) -> None:
    """Let what functions give up come to the failure queue.

    Shows what it changes and asks: each function's DeadLetterConfig, and on its role the right to send letters and the
    trust in the runner. What DeadLetterConfig named before is remembered in tags of the function. A NAME may be an ARN.
    """
    account = open_account()
    installation = find_installation(account, name)
    plan = plan_attach(read_functions(account, names, installation), installation)
    _show(plan, as_json=as_json)
    _carry_out(account, plan, yes=yes, done=f"attached to {installation.queue_arn}: {', '.join(names)}")


@click.command()
@_names
@_yes
@name_option
@json_option
def detach(names: tuple[str, ...], name: str, *, yes: bool, as_json: bool) -> None:
    """Put functions back as they were before they were attached.

    What that was is read from the functions themselves, so it works even when the stacks are gone.
    """
    account = open_account()
    installation = recall_installation(account, name)
    if not installation.queue_arn:
        tell(f"Note: there is no stack {name}-store; only what the functions and their roles remember is put back.")
    plan = plan_detach(read_functions(account, names, installation), installation)
    _show(plan, as_json=as_json)
    _carry_out(account, plan, yes=yes, done=f"detached: {', '.join(names)}")


def _show(plan: Plan, *, as_json: bool) -> None:
    described = [describe_step(step) for step in plan.steps]
    if as_json:
        for what, part, change in described:
            write_json({"what": what, "part": part, "change": change})
    elif described:
        write_table(("WHAT", "PART", "CHANGE"), described)
    for note in plan.notes:
        tell(f"Note: {note}.")


def _carry_out(account: Account, plan: Plan, *, yes: bool, done: str) -> None:
    if not plan.steps:
        tell("nothing to change")
        return
    if not yes:
        click.confirm("Carry this out?", abort=True, err=True)
    for step in plan.steps:
        carry_out(account, step)
    tell(done)
