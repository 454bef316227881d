"""``immortal deploy`` and ``immortal destroy``: the three stacks of an installation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from immortal_cli.aws import Account, find_outputs, find_stack, open_account
from immortal_cli.bundle import pack
from immortal_cli.errors import Failed
from immortal_cli.functions import list_attached
from immortal_cli.options import json_option, name_option
from immortal_cli.output import tell, write_json, write_table
from immortal_cli.stacks import NEVER_MADE, Resource, delete_stack, deploy_stack, list_resources
from immortal_cli.templates import (
    TEMPLATE_NAMES,
    Template,
    choose_parameters,
    read_template,
    refuse_filled_in,
    refuse_unknown,
)

_KEPT = frozenset({"AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::S3::Bucket"})


@click.command()
@click.option("--image", help="The runner's image, as a registry that Fargate reaches names it.")
@click.option("--subnets", metavar="ID,...", help="Subnets of the tasks. By default those of the default network.")
@click.option("--security-groups", metavar="ID,...", help="Security groups of the tasks.")
@click.option("--parameter", "pairs", multiple=True, metavar="NAME=VALUE", help="A parameter of the templates.")
@name_option
@json_option
def deploy(
    image: str | None,
    subnets: str | None,
    security_groups: str | None,
    pairs: tuple[str, ...],
    name: str,
    *,
    as_json: bool,
) -> None:
    """Create or update the stacks NAME-store, NAME-runner and NAME-fallback.

    What isn't given stays as it was deployed before.
    """
    account = open_account()
    options = {"Image": image, "Subnets": subnets, "SecurityGroups": security_groups}
    given = _read_pairs(pairs) | {option: value for option, value in options.items() if value is not None}
    outputs = _deploy(account, name, given)
    if as_json:
        write_json(outputs)
    else:
        write_table(("OUTPUT", "VALUE"), sorted(outputs.items()))


@click.command()
@click.option(
    "--purge",
    is_flag=True,
    help="Also delete NAME-store, and the queues, the ledger and the bucket with all that is in them.",
)
@click.option("--yes", is_flag=True, help="Don't ask before purging.")
@name_option
def destroy(name: str, *, purge: bool, yes: bool) -> None:
    """Delete the stacks but NAME-store; --purge deletes that too, with every run and letter.

    NAME-store keeps the queues, the ledger and the bucket, so that a later deploy takes up what is in them.
    """
    account = open_account()
    store, *others = (f"{name}-{template}" for template in TEMPLATE_NAMES)
    kept = list_resources(account, store, _KEPT) if find_stack(account, store) else []
    _tell_attached(account, name)
    if purge and kept and not yes:
        listed = "\n".join(f"  {resource.type} {resource.name}" for resource in kept)
        question = f"This removes for good, with every run and letter in them:\n{listed}\nGo on?"
        click.confirm(question, abort=True, err=True)
    for stack in reversed(others):
        delete_stack(account, stack, tell=tell)
    if purge:
        delete_stack(account, store, tell=tell)
        for resource in kept:
            _purge(account, resource)
            tell(f"removed: {resource.type} {resource.name}")
    elif kept:
        tell(f"{store}: kept, and taken up by the next immortal deploy; --purge deletes it. It holds:")
        tell("\n".join(f"  {resource.type} {resource.name}" for resource in kept))
    else:
        tell(f"{store}: not there")


@dataclass(frozen=True, slots=True)
class _Part:
    """One stack of an installation.

    Attributes:
        previous: Parameters that the stack has already.
    """

    stack: str
    template: Template
    previous: frozenset[str]

    def deploy(self, account: Account, given: Mapping[str, str]) -> dict[str, str]:
        """Make or change the stack; give its outputs."""
        parameters = choose_parameters(given, self.template, previous=self.previous)
        return deploy_stack(account, self.stack, text=self.template.text, parameters=parameters, tell=tell)


def _deploy(account: Account, name: str, given: Mapping[str, str]) -> dict[str, str]:
    store, runner, fallback = (_find_part(account, name, template) for template in TEMPLATE_NAMES)
    refuse_filled_in(given)
    refuse_unknown(given, [store.template, runner.template, fallback.template])
    given = {**given, "Name": name, "StoreStack": store.stack, "RunnerStack": runner.stack}
    refuse_unreachable_image(account, given.get("Image"), deployed="Image" in runner.previous)
    if "Subnets" not in given and "Subnets" not in fallback.previous:
        given["Subnets"] = ",".join(find_default_subnets(account))

    outputs = store.deploy(account, given)
    outputs |= runner.deploy(account, given)
    given |= _upload_code(account, outputs["PayloadBucket"])
    outputs |= fallback.deploy(account, given)
    if not runner.previous:
        _tell_attached_before(account, name, outputs["FailureQueueArn"])
    return outputs


def _find_part(account: Account, name: str, template: str) -> _Part:
    stack = f"{name}-{template}"
    return _Part(stack, read_template(template), _previous(account, stack))


def find_default_subnets(account: Account) -> list[str]:
    """Give the subnets of the region's default network.

    Raises:
        Failed: There are none.
    """
    only_default = [{"Name": "default-for-az", "Values": ["true"]}]
    pages = account.client("ec2").get_paginator("describe_subnets").paginate(Filters=only_default)
    subnets = sorted(subnet["SubnetId"] for page in pages for subnet in page["Subnets"])
    if not subnets:
        raise Failed(
            "this region has no default network whose subnets tasks could run in. Next step: name some with --subnets"
        )
    return subnets


def refuse_unreachable_image(account: Account, image: str | None, *, deployed: bool) -> None:
    """Refuse an image that Fargate could not pull.

    Raises:
        Failed: It names no registry.
    """
    if not account.is_aws or (image is None and deployed):
        return
    if image is None or "." not in image.partition("/")[0]:
        raise Failed(
            f"Fargate can't pull {image or 'the default image'!r}, which names no registry. Next step: immortal "
            "image build, then immortal image push, and give the reference that it prints with --image"
        )


def _upload_code(account: Account, bucket: str) -> dict[str, str]:
    bundle = pack()
    account.client("s3").put_object(Bucket=bucket, Key=bundle.key, Body=bundle.data)
    return {"CodeBucket": bucket, "CodeKey": bundle.key}


def _previous(account: Account, stack: str) -> frozenset[str]:
    """The parameters that a stack already has."""
    found = find_stack(account, stack)
    if found is None or found["StackStatus"] in NEVER_MADE:
        return frozenset()
    return frozenset(parameter["ParameterKey"] for parameter in found.get("Parameters", []))


def _tell_attached(account: Account, name: str) -> None:
    """Tell which functions still count on an installation that is about to go."""
    queue_arn = (find_outputs(account, f"{name}-store") or {}).get("FailureQueueArn")
    if queue_arn and (attached := list_attached(account, queue_arn)):
        tell(
            f"Still attached: {', '.join(attached)}. Their letters wait in the queue, at most 14 days, and are lost "
            f"once it is purged. Better first: {_command('detach', attached, name)}"
        )


def _tell_attached_before(account: Account, name: str, queue_arn: str) -> None:
    """Tell which functions were attached when the runner had another role, which theirs still trust instead."""
    if attached := list_attached(account, queue_arn):
        tell(
            f"Attached before this runner was made: {', '.join(attached)}. Their roles don't trust it yet. Next step: "
            f"{_command('attach', attached, name)}"
        )


def _command(verb: str, functions: Sequence[str], name: str) -> str:
    named = "" if name == "immortal" else f" --name {name}"
    return f"immortal {verb} {' '.join(functions)}{named}"


def _read_pairs(pairs: tuple[str, ...]) -> dict[str, str]:
    read = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise click.UsageError(f"--parameter {pair!r} is not NAME=VALUE")
        read[name] = value
    return read


def _purge(account: Account, resource: Resource) -> None:
    match resource.type:
        case "AWS::SQS::Queue":
            account.client("sqs").delete_queue(QueueUrl=resource.name)
        case "AWS::DynamoDB::Table":
            account.client("dynamodb").delete_table(TableName=resource.name)
        case _:
            _empty(account, resource.name)
            account.client("s3").delete_bucket(Bucket=resource.name)


def _empty(account: Account, bucket: str) -> None:
    s3 = account.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys = [{"Key": found["Key"]} for found in page.get("Contents", [])]
        if keys:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
