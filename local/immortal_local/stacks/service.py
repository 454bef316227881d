"""The CloudFormation operations: who may do what to which stack now; the carrying out is in ``carrying``."""

import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from botocore.exceptions import ClientError

from immortal_local.parts import Ground
from immortal_local.stacks import answers
from immortal_local.stacks.carrying import Carrier
from immortal_local.stacks.plan import changes, find_kind, needed_capability, read_attribute
from immortal_local.stacks.records import ChangeSet, Held, Stack, Wish
from immortal_local.stacks.resources import Maker, NotCarriedOut
from immortal_local.stacks.templates import (
    Scope,
    Template,
    TemplateInvalid,
    read_template,
    resolve,
    resolve_parameters,
)
from immortal_local.wire import ApiError, Call, Service

__all__ = ["Stacks"]

ANSWER_WITHIN_S = 20.0
"""A short operation is over when its call is answered: the SDKs' waiters look only every 30 seconds."""

NO_UPDATES = "No updates are to be performed."
NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."


class Stacks:
    """The stacks of the local CloudFormation.

    Args:
        ground: The local AWS around it.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._lock = threading.RLock()
        self._stacks: dict[str, Stack] = {}
        self._carrier = Carrier(self._make_maker, self._make_scope)

    def services(self) -> Sequence[Service]:
        """All of CloudFormation that the local AWS has."""
        operations = {
            "CreateStack": self.create_stack,
            "UpdateStack": self.update_stack,
            "DeleteStack": self.delete_stack,
            "DescribeStacks": self.describe_stacks,
            "ListStacks": self.list_stacks,
            "DescribeStackEvents": self.describe_stack_events,
            "DescribeStackResource": self.describe_stack_resource,
            "DescribeStackResources": self.describe_stack_resources,
            "ListStackResources": self.list_stack_resources,
            "GetTemplate": self.get_template,
            "GetTemplateSummary": self.get_template_summary,
            "ValidateTemplate": self.validate_template,
            "CreateChangeSet": self.create_change_set,
            "DescribeChangeSet": self.describe_change_set,
            "ExecuteChangeSet": self.execute_change_set,
            "DeleteChangeSet": self.delete_change_set,
            "ListChangeSets": self.list_change_sets,
            "ListExports": self.list_exports,
            "ListImports": self.list_imports,
            "UpdateTerminationProtection": self.update_termination_protection,
        }
        return [Service("cloudformation", operations, whole=True)]

    def start(self) -> None:
        """Nothing moves by itself."""

    def stop(self) -> None:
        """Nothing is left behind: what stacks hold belongs to the other parts."""

    # Creating, updating, deleting

    def create_stack(self, call: Call) -> dict[str, Any]:
        """Make a stack."""
        request = call.request
        with self._lock:
            if found := self._find(call, request["StackName"]):
                raise ApiError("AlreadyExistsException", f"Stack [{found.name}] already exists")
            wish = self._read_wish(call, None)
            stack = self._add_stack(call, request["StackName"], "CREATE_IN_PROGRESS")
            stack.on_failure = "DO_NOTHING" if request.get("DisableRollback") else request.get("OnFailure", "ROLLBACK")
            stack.protected = request.get("EnableTerminationProtection", False)
        self._carry_out(stack, lambda: self._carrier.create(stack, wish))
        return {"StackId": stack.arn}

    def update_stack(self, call: Call) -> dict[str, Any]:
        """Change a stack."""
        with self._lock:
            stack = self._need(call, call.request["StackName"])
            _need_rest(stack)
            wish = self._read_wish(call, stack)
            if not self._changes_anything(stack, wish):
                raise _invalid(NO_UPDATES)
            stack.status = "UPDATE_IN_PROGRESS"
        self._carry_out(stack, lambda: self._carrier.update(stack, wish))
        return {"StackId": stack.arn}

    def delete_stack(self, call: Call) -> None:
        """Remove a stack; one that isn't there is removed already."""
        with self._lock:
            stack = self._find(call, call.request["StackName"])
            if stack is None:
                return
            self._check_deletable(stack)
            stack.status = "DELETE_IN_PROGRESS"
        self._carry_out(stack, lambda: self._carrier.delete(stack))

    def _check_deletable(self, stack: Stack) -> None:
        if stack.protected:
            raise _invalid(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        if stack.status.endswith("_IN_PROGRESS") and stack.status != "REVIEW_IN_PROGRESS":
            raise _invalid(f"Stack [{stack.name}] cannot be deleted while in status {stack.status}")
        for output in stack.outputs:
            if users := self._importers(stack.region, output.get("ExportName")):
                name = output["ExportName"]
                raise _invalid(f"Export {name} cannot be deleted as it is in use by {', '.join(users)}")

    def _carry_out(self, stack: Stack, work: Callable[[], None]) -> None:
        """Carry work out on a thread of its own, and wait a while for its end."""
        stack.rested.clear()

        def carry_out() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001  # a fault of ours must show in the stack, never leave it hanging
                traceback.print_exc(file=sys.stderr)
                failed = stack.status.replace("_IN_PROGRESS", "_FAILED")
                stack.note(failed, reason=f"fault in the local AWS: {type(error).__name__}: {error}")
            finally:
                stack.rested.set()

        threading.Thread(target=carry_out, name=f"stack-{stack.name}", daemon=True).start()
        stack.rested.wait(ANSWER_WITHIN_S)

    # Wishes

    def _read_wish(self, call: Call, stack: Stack | None) -> Wish:
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
            raise _invalid(str(error)) from error
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

    def _changes_anything(self, stack: Stack, wish: Wish) -> bool:
        before = stack.wish
        if before is None or before.template.outputs != wish.template.outputs or before.tags != wish.tags:
            return True
        return any(True for _ in self._list_changes(stack, wish)) or self._output_values_differ(stack, wish)

    def _output_values_differ(self, stack: Stack, wish: Wish) -> bool:
        scope = self._make_scope(stack, wish, stack.held)
        now = {output["OutputKey"]: output["OutputValue"] for output in stack.outputs}
        wanted = {
            name: str(resolve(body["Value"], scope))
            for name, body in wish.template.outputs.items()
            if "Condition" not in body or scope.holds(body["Condition"])
        }
        return now != wanted

    def _list_changes(self, stack: Stack, wish: Wish) -> Sequence[Any]:
        try:
            return tuple(changes(stack.held, wish, lambda wanted, held: self._make_scope(stack, wanted, held)))
        except (TemplateInvalid, NotCarriedOut) as error:
            raise _invalid(str(error)) from error

    # Change sets

    def create_change_set(self, call: Call) -> dict[str, Any]:
        """Note a wish and what it would change; carried out later, or never."""
        request = call.request
        creates = request.get("ChangeSetType", "UPDATE") == "CREATE"
        with self._lock:
            stack = self._find(call, request["StackName"])
            if stack is not None and creates and stack.status != "REVIEW_IN_PROGRESS":
                raise _invalid(f"Stack [{stack.name}] already exists and cannot be created again with the changeSet.")
            if stack is None and not creates:
                raise _invalid(f"Stack [{request['StackName']}] does not exist")
            wish = self._read_wish(call, stack)
            if stack is None:
                stack = self._add_stack(call, request["StackName"], "REVIEW_IN_PROGRESS")
                stack.note("REVIEW_IN_PROGRESS", reason="User Initiated")
            change_set = self._draw_change_set(call, stack, wish, creates=creates)
            if change_set.name in stack.change_sets:
                raise ApiError(
                    "AlreadyExistsException", f"ChangeSet {change_set.name} cannot be created: it already exists"
                )
            stack.change_sets[change_set.name] = change_set
        return {"Id": change_set.arn, "StackId": stack.arn}

    def _draw_change_set(self, call: Call, stack: Stack, wish: Wish, *, creates: bool) -> ChangeSet:
        name = call.request["ChangeSetName"]
        useful = creates or self._changes_anything(stack, wish)
        return ChangeSet(
            name=name,
            arn=f"arn:aws:cloudformation:{call.region}:{call.account}:changeSet/{name}/{uuid.uuid4()}",
            wish=wish,
            changes=tuple(self._list_changes(stack, wish)),
            creates=creates,
            description=call.request.get("Description"),
            created_at=datetime.now(UTC),
            status="CREATE_COMPLETE" if useful else "FAILED",
            reason=None if useful else NO_CHANGES,
            execution_status="AVAILABLE" if useful else "UNAVAILABLE",
        )

    def describe_change_set(self, call: Call) -> dict[str, Any]:
        """Describe a change set."""
        with self._lock:
            return answers.describe_change_set(*self._need_change_set(call))

    def execute_change_set(self, call: Call) -> None:
        """Carry a change set out."""
        with self._lock:
            stack, change_set = self._need_change_set(call)
            if change_set.execution_status != "AVAILABLE":
                raise ApiError(
                    "InvalidChangeSetStatus",
                    f"ChangeSet [{change_set.arn}] cannot be executed in its current execution status of "
                    f"[{change_set.execution_status}]",
                )
            if not change_set.creates:
                _need_rest(stack)
            change_set.execution_status = "EXECUTE_COMPLETE"
            stack.status = "CREATE_IN_PROGRESS" if change_set.creates else "UPDATE_IN_PROGRESS"
            stack.on_failure = "DO_NOTHING" if call.request.get("DisableRollback") else "ROLLBACK"
        carry = self._carrier.create if change_set.creates else self._carrier.update
        self._carry_out(stack, lambda: carry(stack, change_set.wish))

    def delete_change_set(self, call: Call) -> None:
        """Forget a change set."""
        with self._lock:
            stack, change_set = self._need_change_set(call)
            del stack.change_sets[change_set.name]

    def list_change_sets(self, call: Call) -> dict[str, Any]:
        """List a stack's change sets."""
        with self._lock:
            stack = self._need(call, call.request["StackName"])
            described = [answers.describe_change_set(stack, each) for each in stack.change_sets.values()]
        left_out = {"Parameters", "Capabilities", "Tags", "Changes"}
        return {"Summaries": [{key: value for key, value in each.items() if key not in left_out} for each in described]}

    def _need_change_set(self, call: Call) -> tuple[Stack, ChangeSet]:
        wanted, stack_name = call.request["ChangeSetName"], call.request.get("StackName")
        stacks = [self._find(call, stack_name)] if stack_name else list(self._stacks.values())
        for stack in stacks:
            for change_set in stack.change_sets.values() if stack else ():
                if wanted in {change_set.name, change_set.arn}:
                    assert stack is not None  # noqa: S101  # one without a stack has no change sets
                    return stack, change_set
        raise ApiError("ChangeSetNotFound", f"ChangeSet [{wanted}] does not exist", 404)

    # Looking

    def describe_stacks(self, call: Call) -> dict[str, Any]:
        """Describe one stack, or all that are not deleted."""
        name = call.request.get("StackName")
        with self._lock:
            stacks = [self._need(call, name, deleted=True)] if name else self._all(call)
            return {"Stacks": [answers.describe_stack(stack) for stack in stacks]}

    def list_stacks(self, call: Call) -> dict[str, Any]:
        """List all stacks, the deleted ones too."""
        wanted = call.request.get("StackStatusFilter")
        with self._lock:
            stacks = [each for each in self._stacks.values() if each.region == call.region]
            return {
                "StackSummaries": [
                    answers.summarize_stack(each) for each in stacks if not wanted or each.status in wanted
                ]
            }

    def describe_stack_events(self, call: Call) -> dict[str, Any]:
        """Tell a stack's history, the newest first."""
        with self._lock:
            return {"StackEvents": answers.describe_events(self._need(call, call.request["StackName"], deleted=True))}

    def describe_stack_resources(self, call: Call) -> dict[str, Any]:
        """Describe a stack's resources, or one of them."""
        with self._lock:
            stack = self._need(call, call.request["StackName"])
            wanted = call.request.get("LogicalResourceId")
            held = [each for each in stack.held.values() if wanted in {None, each.logical_id}]
            return {"StackResources": [answers.describe_resource(stack, each) for each in held]}

    def describe_stack_resource(self, call: Call) -> dict[str, Any]:
        """Describe one resource of a stack."""
        with self._lock:
            stack = self._need(call, call.request["StackName"])
            held = stack.held.get(call.request["LogicalResourceId"])
            if held is None:
                raise _invalid(f"Resource {call.request['LogicalResourceId']} does not exist for stack {stack.name}")
            described = answers.describe_resource(stack, held)
        described["LastUpdatedTimestamp"] = described.pop("Timestamp")
        return {"StackResourceDetail": described}

    def list_stack_resources(self, call: Call) -> dict[str, Any]:
        """List a stack's resources."""
        with self._lock:
            stack = self._need(call, call.request["StackName"], deleted=True)
            return {"StackResourceSummaries": [answers.summarize_resource(stack, each) for each in stack.held.values()]}

    def get_template(self, call: Call) -> dict[str, Any]:
        """Give a stack's template as it was given."""
        with self._lock:
            stack = self._need(call, call.request["StackName"], deleted=True)
            return {"TemplateBody": stack.wish.template.text if stack.wish else "", "StagesAvailable": ["Original"]}

    def get_template_summary(self, call: Call) -> dict[str, Any]:
        """Describe a template, or a stack's."""
        name = call.request.get("StackName")
        with self._lock:
            before = self._need(call, name).wish if name else None
        if before is not None:
            return answers.summarize_template(before.template)
        return answers.summarize_template(self._read_given_template(call))

    def validate_template(self, call: Call) -> dict[str, Any]:
        """Check a template's form."""
        summary = answers.summarize_template(self._read_given_template(call))
        kept = ("ParameterKey", "DefaultValue", "NoEcho", "Description")
        parameters = [{name: each[name] for name in kept} for each in summary["Parameters"]]
        return {"Description": summary["Description"], "Parameters": parameters, "Capabilities": []}

    def _read_given_template(self, call: Call) -> Template:
        try:
            return self._read_template(call, None)
        except TemplateInvalid as error:
            raise _invalid(str(error)) from error

    def update_termination_protection(self, call: Call) -> dict[str, Any]:
        """Let a stack be deleted, or not."""
        with self._lock:
            stack = self._need(call, call.request["StackName"])
            stack.protected = call.request["EnableTerminationProtection"]
        return {"StackId": stack.arn}

    # Exports

    def list_exports(self, call: Call) -> dict[str, Any]:
        """List every stack's exports."""
        with self._lock:
            found = self._exports(call.region)
        return {
            "Exports": [
                {"ExportingStackId": stack.arn, "Name": name, "Value": value} for name, (stack, value) in found.items()
            ]
        }

    def list_imports(self, call: Call) -> dict[str, Any]:
        """List the stacks that use an export."""
        name = call.request["ExportName"]
        with self._lock:
            users = self._importers(call.region, name)
        if not users:
            raise _invalid(f"Export '{name}' is not imported by any stack.")
        return {"Imports": users}

    def _exports(self, region: str) -> dict[str, tuple[Stack, str]]:
        return {
            output["ExportName"]: (stack, output["OutputValue"])
            for stack in self._stacks.values()
            if stack.region == region and not stack.deleted_at
            for output in stack.outputs
            if "ExportName" in output
        }

    def _importers(self, region: str, name: str | None) -> list[str]:
        stacks = [stack for stack in self._stacks.values() if stack.region == region and not stack.deleted_at]
        return [stack.name for stack in stacks if name in stack.imports]

    # What the carrying out needs

    def _make_scope(self, stack: Stack, wish: Wish, held: Mapping[str, Held]) -> Scope:
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
            with self._lock:
                found = self._exports(stack.region)
                if name not in found:
                    raise TemplateInvalid(f"No export named {name} found.")
                stack.imports.add(name)
                return found[name][1]

        def attribute(name: str, which: str) -> Any:
            return read_attribute(held, name, which)

        return Scope(wish.template, {**pseudo, **wish.values}, attribute, exported)

    def _make_maker(self, stack: Stack, logical_id: str) -> Maker:
        return Maker(
            client=lambda service_name: self._ground.client(service_name, stack.region),
            account=self._ground.account,
            region=stack.region,
            stack_name=stack.name,
            logical_id=logical_id,
        )

    # Finding

    def _add_stack(self, call: Call, name: str, status: str) -> Stack:
        stack = Stack(
            name=name,
            arn=f"arn:aws:cloudformation:{call.region}:{call.account}:stack/{name}/{uuid.uuid4()}",
            region=call.region,
            created_at=datetime.now(UTC),
            status=status,
            notification_arns=tuple(call.request.get("NotificationARNs", ())),
            role_arn=call.request.get("RoleARN"),
        )
        self._stacks[stack.arn] = stack
        return stack

    def _all(self, call: Call) -> list[Stack]:
        return [stack for stack in self._stacks.values() if stack.region == call.region and not stack.deleted_at]

    def _find(self, call: Call, name: str, *, deleted: bool = False) -> Stack | None:
        """Find a stack by name or ARN; a deleted one by its ARN alone."""
        by_arn = self._stacks.get(name)
        if by_arn is not None and (deleted or not by_arn.deleted_at):
            return by_arn
        return next((stack for stack in self._all(call) if stack.name == name), None)

    def _need(self, call: Call, name: str, *, deleted: bool = False) -> Stack:
        stack = self._find(call, name, deleted=deleted)
        if stack is None:
            raise _invalid(f"Stack with id {name} does not exist")
        return stack


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


def _need_rest(stack: Stack) -> None:
    """Refuse to change a stack that is busy, or that never came to be."""
    usable = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}
    if stack.status not in usable:
        raise _invalid(f"Stack:{stack.arn} is in {stack.status} state and can not be updated.")


def _invalid(message: str) -> ApiError:
    return ApiError("ValidationError", message)
