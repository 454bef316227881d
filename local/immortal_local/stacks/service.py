"""The CloudFormation operations: who may do what to which stack now; the carrying out is in ``carrying``."""

from collections.abc import Sequence
from typing import Any

from immortal_local.parts import Ground
from immortal_local.stacks import answers
from immortal_local.stacks.carrying import Carrier, carry_out
from immortal_local.stacks.change_sets import ChangeSets
from immortal_local.stacks.records import Stack
from immortal_local.stacks.registry import Registry, invalid, need_rest
from immortal_local.stacks.resources import Maker
from immortal_local.stacks.wishes import Wishes
from immortal_local.wire import ApiError, Call, Operation, Service

__all__ = ["Stacks"]

NO_UPDATES = "No updates are to be performed."


class Stacks:
    """The stacks of the local CloudFormation.

    Args:
        ground: The local AWS around it.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._registry = Registry()
        self._wishes = Wishes(ground, self._registry)
        self._carrier = Carrier(self._make_maker, self._wishes.make_scope)
        self._change_sets = ChangeSets(self._registry, self._wishes, self._carrier)

    def services(self) -> Sequence[Service]:
        """All of CloudFormation that the local AWS has."""
        operations: dict[str, Operation] = {
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
            **self._change_sets.operations(),
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
        with self._registry.change():
            if found := self._registry.find(call, request["StackName"]):
                raise ApiError("AlreadyExistsException", f"Stack [{found.name}] already exists")
            wish = self._wishes.read(call, None)
            stack = self._registry.add(call, request["StackName"], "CREATE_IN_PROGRESS")
            stack.on_failure = "DO_NOTHING" if request.get("DisableRollback") else request.get("OnFailure", "ROLLBACK")
            stack.protected = request.get("EnableTerminationProtection", False)
        carry_out(stack, lambda: self._carrier.create(stack, wish))
        return {"StackId": stack.arn}

    def update_stack(self, call: Call) -> dict[str, Any]:
        """Change a stack."""
        with self._registry.change():
            stack = self._registry.need(call, call.request["StackName"])
            need_rest(stack)
            wish = self._wishes.read(call, stack)
            if not self._wishes.changes_anything(stack, wish):
                raise invalid(NO_UPDATES)
            stack.status = "UPDATE_IN_PROGRESS"
        carry_out(stack, lambda: self._carrier.update(stack, wish))
        return {"StackId": stack.arn}

    def delete_stack(self, call: Call) -> None:
        """Remove a stack; one that isn't there is removed already."""
        with self._registry.change():
            stack = self._registry.find(call, call.request["StackName"])
            if stack is None:
                return
            self._check_deletable(stack)
            stack.status = "DELETE_IN_PROGRESS"
        carry_out(stack, lambda: self._carrier.delete(stack))

    def _check_deletable(self, stack: Stack) -> None:
        if stack.protected:
            raise invalid(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        if stack.status.endswith("_IN_PROGRESS") and stack.status != "REVIEW_IN_PROGRESS":
            raise invalid(f"Stack [{stack.name}] cannot be deleted while in status {stack.status}")
        for output in stack.outputs:
            if users := self._registry.importers(stack.region, output.get("ExportName")):
                name = output["ExportName"]
                raise invalid(f"Export {name} cannot be deleted as it is in use by {', '.join(users)}")

    # Looking

    def describe_stacks(self, call: Call) -> dict[str, Any]:
        """Describe one stack, or all that are not deleted."""
        name = call.request.get("StackName")
        with self._registry.change():
            stacks = [self._registry.need(call, name, deleted=True)] if name else self._registry.all(call)
            return {"Stacks": [answers.describe_stack(stack) for stack in stacks]}

    def list_stacks(self, call: Call) -> dict[str, Any]:
        """List all stacks, the deleted ones too."""
        wanted = call.request.get("StackStatusFilter")
        with self._registry.change():
            stacks = [each for each in self._registry.every() if each.region == call.region]
            return {
                "StackSummaries": [
                    answers.summarize_stack(each) for each in stacks if not wanted or each.status in wanted
                ]
            }

    def describe_stack_events(self, call: Call) -> dict[str, Any]:
        """Tell a stack's history, the newest first."""
        with self._registry.change():
            return {
                "StackEvents": answers.describe_events(
                    self._registry.need(call, call.request["StackName"], deleted=True)
                )
            }

    def describe_stack_resources(self, call: Call) -> dict[str, Any]:
        """Describe a stack's resources, or one of them."""
        with self._registry.change():
            stack = self._registry.need(call, call.request["StackName"])
            wanted = call.request.get("LogicalResourceId")
            held = [each for each in stack.held.values() if wanted in {None, each.logical_id}]
            return {"StackResources": [answers.describe_resource(stack, each) for each in held]}

    def describe_stack_resource(self, call: Call) -> dict[str, Any]:
        """Describe one resource of a stack."""
        with self._registry.change():
            stack = self._registry.need(call, call.request["StackName"])
            held = stack.held.get(call.request["LogicalResourceId"])
            if held is None:
                raise invalid(f"Resource {call.request['LogicalResourceId']} does not exist for stack {stack.name}")
            described = answers.describe_resource(stack, held)
        described["LastUpdatedTimestamp"] = described.pop("Timestamp")
        return {"StackResourceDetail": described}

    def list_stack_resources(self, call: Call) -> dict[str, Any]:
        """List a stack's resources."""
        with self._registry.change():
            stack = self._registry.need(call, call.request["StackName"], deleted=True)
            return {"StackResourceSummaries": [answers.summarize_resource(stack, each) for each in stack.held.values()]}

    def get_template(self, call: Call) -> dict[str, Any]:
        """Give a stack's template as it was given."""
        with self._registry.change():
            stack = self._registry.need(call, call.request["StackName"], deleted=True)
            return {"TemplateBody": stack.wish.template.text if stack.wish else "", "StagesAvailable": ["Original"]}

    def get_template_summary(self, call: Call) -> dict[str, Any]:
        """Describe a template, or a stack's."""
        name = call.request.get("StackName")
        with self._registry.change():
            before = self._registry.need(call, name).wish if name else None
        if before is not None:
            return answers.summarize_template(before.template)
        return answers.summarize_template(self._wishes.read_template(call))

    def validate_template(self, call: Call) -> dict[str, Any]:
        """Check a template's form."""
        summary = answers.summarize_template(self._wishes.read_template(call))
        kept = ("ParameterKey", "DefaultValue", "NoEcho", "Description")
        parameters = [{name: each[name] for name in kept} for each in summary["Parameters"]]
        return {"Description": summary["Description"], "Parameters": parameters, "Capabilities": []}

    def update_termination_protection(self, call: Call) -> dict[str, Any]:
        """Let a stack be deleted, or not."""
        with self._registry.change():
            stack = self._registry.need(call, call.request["StackName"])
            stack.protected = call.request["EnableTerminationProtection"]
        return {"StackId": stack.arn}

    # Exports

    def list_exports(self, call: Call) -> dict[str, Any]:
        """List every stack's exports."""
        with self._registry.change():
            found = self._registry.exports(call.region)
        return {
            "Exports": [
                {"ExportingStackId": stack.arn, "Name": name, "Value": value} for name, (stack, value) in found.items()
            ]
        }

    def list_imports(self, call: Call) -> dict[str, Any]:
        """List the stacks that use an export."""
        name = call.request["ExportName"]
        with self._registry.change():
            users = self._registry.importers(call.region, name)
        if not users:
            raise invalid(f"Export '{name}' is not imported by any stack.")
        return {"Imports": users}

    # What the carrying out needs

    def _make_maker(self, stack: Stack, logical_id: str) -> Maker:
        return Maker(
            client=lambda service_name: self._ground.client(service_name, stack.region),
            account=self._ground.account,
            region=stack.region,
            stack_name=stack.name,
            logical_id=logical_id,
        )
