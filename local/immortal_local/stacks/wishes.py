"""Wishes: read from requests, and held against what a stack is now."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from botocore.exceptions import ClientError

from immortal_local.parts import Ground
from immortal_local.stacks.plan import changes, find_kind, needed_capability, read_attribute
from immortal_local.stacks.records import Change, Held, Stack, Wish
from immortal_local.stacks.registry import Registry, invalid
from immortal_local.stacks.resources import NotCarriedOut
from immortal_local.stacks.templates import (
    Scope,
    Template,
    TemplateInvalid,
    read_template,
    resolve,
    resolve_parameters,
)
from immortal_local.wire import ApiError, Call

__all__ = ["Wishes"]


class Wishes:
    """Reads wishes and compares them.

    Args:
        ground: The local AWS around it, which has the templates and parameters that requests name.
        registry: Has the exports that templates import.
    """

    def __init__(self, ground: Ground, registry: Registry) -> None:
        self._ground = ground
        self._registry = registry

    def read(self, call: Call, stack: Stack | None) -> Wish:
        """Read what a request wants a stack to be, and refuse what can't be carried out.

        Raises:
            ApiError: ValidationError, or InsufficientCapabilitiesException.
        """
        before = stack.wish if stack else None
        try:
            template = self._read_template(call, before)
            given = _read_given(call.request.get("Parameters", []), template, before)
            values = resolve_parameters(template.parameters, given, lambda name: self._read_ssm(call.region, name))
            for resource in template.resources.values():
                find_kind(resource.type)
        except (TemplateInvalid, NotCarriedOut) as error:
            raise invalid(str(error)) from error
        tags = call.request.get("Tags")
        wish = Wish(
            template=template,
            given=given,
            values=values,
            tags=before.tags if before and tags is None else {tag["Key"]: tag["Value"] for tag in tags or ()},
            capabilities=tuple(call.request.get("Capabilities", ())),
        )
        if capability := needed_capability(wish):
            raise ApiError("InsufficientCapabilitiesException", f"Requires capabilities : [{capability}]")
        return wish

    def _read_template(self, call: Call, before: Wish | None) -> Template:
        request = call.request
        if request.get("UsePreviousTemplate"):
            if before is None:
                raise TemplateInvalid("There is no previous template to use.")
            return before.template
        if url := request.get("TemplateURL"):
            return read_template(self._fetch(call.region, url))
        if not request.get("TemplateBody"):
            raise TemplateInvalid("Either Template URL or Template Body must be specified.")
        return read_template(request["TemplateBody"])

    def _fetch(self, region: str, url: str) -> str:
        """Fetch a template from S3, by either form of address."""
        parts = urlsplit(url)
        path = unquote(parts.path).lstrip("/")
        host_bucket = parts.netloc.partition(".s3")[0] if ".s3" in parts.netloc else None
        bucket, _, key = (host_bucket, "", path) if host_bucket else path.partition("/")
        try:
            text: bytes = self._ground.client("s3", region).get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            raise TemplateInvalid(f"S3 error: {error}: {url}") from error
        return text.decode()

    def _read_ssm(self, region: str, name: str) -> str:
        try:
            return str(self._ground.client("ssm", region).get_parameter(Name=name)["Parameter"]["Value"])
        except ClientError as error:
            raise TemplateInvalid(
                f"Unable to fetch parameters [{name}] from parameter store for this account."
            ) from error

    def changes_anything(self, stack: Stack, wish: Wish) -> bool:
        """Whether a wish would change a stack: a resource, an output or a tag."""
        before = stack.wish
        if before is None or before.template.outputs != wish.template.outputs or before.tags != wish.tags:
            return True
        return any(True for _ in self.list_changes(stack, wish)) or self._output_values_differ(stack, wish)

    def _output_values_differ(self, stack: Stack, wish: Wish) -> bool:
        scope = self.make_scope(stack, wish, stack.held)
        now = {output["OutputKey"]: output["OutputValue"] for output in stack.outputs}
        wanted = {
            name: str(resolve(body["Value"], scope))
            for name, body in wish.template.outputs.items()
            if "Condition" not in body or scope.holds(body["Condition"])
        }
        return now != wanted

    def list_changes(self, stack: Stack, wish: Wish) -> Sequence[Change]:
        """Tell what would become of every resource that a wish changes.

        Raises:
            ApiError: ValidationError.
        """
        try:
            return tuple(changes(stack.held, wish, lambda wanted, held: self.make_scope(stack, wanted, held)))
        except (TemplateInvalid, NotCarriedOut) as error:
            raise invalid(str(error)) from error

    def read_template(self, call: Call) -> Template:
        """Read the template that a request brings.

        Raises:
            ApiError: ValidationError.
        """
        try:
            return self._read_template(call, None)
        except TemplateInvalid as error:
            raise invalid(str(error)) from error

    def make_scope(self, stack: Stack, wish: Wish, held: Mapping[str, Held]) -> Scope:
        """Make what a template's functions look things up in: parameters, resources and other stacks' exports."""
        pseudo = {
            "AWS::AccountId": self._ground.account,
            "AWS::NotificationARNs": list(stack.notification_arns),
            "AWS::Partition": "aws",
            "AWS::Region": stack.region,
            "AWS::StackId": stack.arn,
            "AWS::StackName": stack.name,
            "AWS::URLSuffix": "amazonaws.com",
        }

        def exported(name: str) -> str:
            with self._registry.change():
                found = self._registry.exports(stack.region)
                if name not in found:
                    raise TemplateInvalid(f"No export named {name} found.")
                stack.imports.add(name)
                return found[name][1]

        def attribute(name: str, which: str) -> Any:
            return read_attribute(held, name, which)

        return Scope(wish.template, {**pseudo, **wish.values}, attribute, exported)


def _read_given(parameters: Sequence[Mapping[str, Any]], template: Template, before: Wish | None) -> dict[str, str]:
    """Read the parameters of a request; those that shall stay keep their value."""
    given = {}
    for parameter in parameters:
        name = parameter["ParameterKey"]
        if not parameter.get("UsePreviousValue"):
            given[name] = parameter.get("ParameterValue", "")
        elif before and name in before.given:
            given[name] = before.given[name]
        elif before is None or name not in template.parameters:
            raise TemplateInvalid(
                f"Invalid input for parameter key {name}. Cannot specify usePreviousValue: there is none."
            )
    return given
