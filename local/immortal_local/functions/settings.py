"""Settings beside a function's configuration: concurrency, recursion, asynchronous invocation, permissions, tags."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from immortal_local.functions.control import refer
from immortal_local.functions.pages import cut_page
from immortal_local.functions.references import LATEST, read_reference
from immortal_local.functions.store import Function, Store
from immortal_local.parts import Ground
from immortal_local.wire import ApiError, Call, Operation

__all__ = ["Settings"]

_ACCOUNT_CONCURRENCY = 1000
_UNRESERVED_CONCURRENCY = 100
_CONFIGURED = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")


class Settings:
    """The operations on what a function is set to beside its configuration."""

    def __init__(self, store: Store, ground: Ground) -> None:
        self._store = store
        self._ground = ground

    def operations(self) -> dict[str, Operation]:
        """What is answered here, by operation name."""
        return {
            "PutFunctionConcurrency": self.put_concurrency,
            "GetFunctionConcurrency": self.get_concurrency,
            "DeleteFunctionConcurrency": self.delete_concurrency,
            "PutFunctionRecursionConfig": self.put_recursion,
            "GetFunctionRecursionConfig": self.get_recursion,
            "PutFunctionEventInvokeConfig": self.put_event_invoke,
            "UpdateFunctionEventInvokeConfig": self.update_event_invoke,
            "GetFunctionEventInvokeConfig": self.get_event_invoke,
            "DeleteFunctionEventInvokeConfig": self.delete_event_invoke,
            "ListFunctionEventInvokeConfigs": self.list_event_invoke,
            "AddPermission": self.add_permission,
            "GetPolicy": self.get_policy,
            "RemovePermission": self.remove_permission,
        }

    def put_concurrency(self, call: Call) -> dict[str, Any]:
        """PutFunctionConcurrency."""
        asked = call.request["ReservedConcurrentExecutions"]
        with self._store.change():
            function = self._function(call)
            others = sum(
                other.reserved_concurrency or 0 for other in self._store.functions(call.region) if other is not function
            )
            if others + asked > _ACCOUNT_CONCURRENCY - _UNRESERVED_CONCURRENCY:
                raise ApiError(
                    "InvalidParameterValueException",
                    "Specified ReservedConcurrentExecutions for function decreases account's "
                    f"UnreservedConcurrentExecution below its minimum value of [{_UNRESERVED_CONCURRENCY}].",
                )
            function.reserved_concurrency = asked
        return {"ReservedConcurrentExecutions": asked}

    def get_concurrency(self, call: Call) -> dict[str, Any]:
        """GetFunctionConcurrency."""
        return {"ReservedConcurrentExecutions": self._function(call).reserved_concurrency}

    def delete_concurrency(self, call: Call) -> None:
        """DeleteFunctionConcurrency."""
        self._function(call).reserved_concurrency = None

    def put_recursion(self, call: Call) -> dict[str, Any]:
        """PutFunctionRecursionConfig."""
        self._function(call).recursive_loop = call.request["RecursiveLoop"]
        return {"RecursiveLoop": call.request["RecursiveLoop"]}

    def get_recursion(self, call: Call) -> dict[str, Any]:
        """GetFunctionRecursionConfig."""
        return {"RecursiveLoop": self._function(call).recursive_loop}

    def put_event_invoke(self, call: Call) -> dict[str, Any]:
        """PutFunctionEventInvokeConfig: what isn't given is back at its default."""
        return self._set_event_invoke(call, {})

    def update_event_invoke(self, call: Call) -> dict[str, Any]:
        """UpdateFunctionEventInvokeConfig: what isn't given stays."""
        function, qualifier = self._qualified(call)
        return self._set_event_invoke(call, _find_event_invoke(function, qualifier))

    def _set_event_invoke(self, call: Call, before: dict[str, Any]) -> dict[str, Any]:
        given = {name: call.request[name] for name in _CONFIGURED if name in call.request}
        if not given:
            message = "You must specify at least one of error handling or destination setting."
            raise ApiError("InvalidParameterValueException", message)
        function, qualifier = self._qualified(call)
        for condition, target in given.get("DestinationConfig", {}).items():
            self._check_destination(condition, target.get("Destination"), function, call.region)
        with self._store.change():
            kept = {name: value for name, value in before.items() if name in _CONFIGURED}
            after = {"DestinationConfig": {"OnSuccess": {}, "OnFailure": {}}, **kept, **given}
            after["DestinationConfig"] = {"OnSuccess": {}, "OnFailure": {}, **after["DestinationConfig"]}
            after |= {"FunctionArn": function.arn(qualifier), "LastModified": datetime.now(UTC)}
            function.event_invoke_configs[qualifier] = after
            return after

    def _check_destination(self, condition: str, arn: str | None, function: Function, region: str) -> None:
        if not arn:
            return
        service, name = arn.split(":")[2], arn.split(":")[-1]
        try:
            match service:
                case "sqs":
                    self._ground.client("sqs", region).get_queue_url(QueueName=name)
                case "sns":
                    self._ground.client("sns", region).get_topic_attributes(TopicArn=arn)
                case "lambda":
                    self._check_function_destination(arn, function)
                case "events":
                    self._ground.client("events", region).describe_event_bus(Name=name.partition("/")[2])
                case "s3" if condition == "OnFailure":
                    self._ground.client("s3", region).head_bucket(Bucket=name)
                case _:
                    raise ApiError(
                        "InvalidParameterValueException", f"The {condition} destination {arn} is not supported."
                    )
        except ClientError as error:
            raise ApiError(
                "InvalidParameterValueException", f"The {condition} destination {arn} does not exist."
            ) from error

    def _check_function_destination(self, arn: str, function: Function) -> None:
        reference = read_reference(arn, None, region=function.region, account=function.account)
        if reference.name == function.name:
            message = "You can't specify the function as a destination for itself."
            raise ApiError("InvalidParameterValueException", message)
        self._store.target(function.region, reference)

    def get_event_invoke(self, call: Call) -> dict[str, Any]:
        """GetFunctionEventInvokeConfig."""
        return _find_event_invoke(*self._qualified(call))

    def delete_event_invoke(self, call: Call) -> None:
        """DeleteFunctionEventInvokeConfig."""
        with self._store.change():
            function, qualifier = self._qualified(call)
            _find_event_invoke(function, qualifier)
            del function.event_invoke_configs[qualifier]

    def list_event_invoke(self, call: Call) -> dict[str, Any]:
        """ListFunctionEventInvokeConfigs."""
        with self._store.change():
            configs = list(self._function(call).event_invoke_configs.values())
        page, more = cut_page(configs, call)
        return {"FunctionEventInvokeConfigs": page, **more}

    def add_permission(self, call: Call) -> dict[str, Any]:
        """AddPermission. The statement is kept and shown; the local AWS lets everybody invoke."""
        with self._store.change():
            function, qualifier = self._qualified(call)
            statements = function.policies.setdefault(qualifier, [])
            sid = call.request["StatementId"]
            if any(statement["Sid"] == sid for statement in statements):
                raise ApiError(
                    "ResourceConflictException",
                    f"The statement id ({sid}) provided already exists. "
                    "Please provide a new statement id, or remove the existing statement.",
                )
            resource = function.arn(None if qualifier == LATEST else qualifier)
            statement = _write_statement(call.request, resource)
            statements.append(statement)
        return {"Statement": json.dumps(statement)}

    def get_policy(self, call: Call) -> dict[str, Any]:
        """GetPolicy."""
        with self._store.change():
            function, qualifier = self._qualified(call)
            statements = function.policies.get(qualifier)
            if not statements:
                raise ApiError("ResourceNotFoundException", "The resource you requested does not exist.")
            policy = {"Version": "2012-10-17", "Id": "default", "Statement": statements}
            text = json.dumps(policy)
        return {"Policy": text, "RevisionId": str(uuid.uuid5(uuid.NAMESPACE_OID, text))}

    def remove_permission(self, call: Call) -> None:
        """RemovePermission."""
        with self._store.change():
            function, qualifier = self._qualified(call)
            sid = call.request["StatementId"]
            before = function.policies.get(qualifier, [])
            after = [statement for statement in before if statement["Sid"] != sid]
            if len(after) == len(before):
                message = f"Statement {sid} is not found in resource policy."
                raise ApiError("ResourceNotFoundException", message)
            function.policies[qualifier] = after

    def _function(self, call: Call) -> Function:
        return self._store.function(call.region, refer(call))

    def _qualified(self, call: Call) -> tuple[Function, str]:
        reference = refer(call)
        function = self._store.function(call.region, reference)
        function.version(reference.qualifier)
        return function, reference.qualifier or LATEST


def _find_event_invoke(function: Function, qualifier: str) -> dict[str, Any]:
    if qualifier not in function.event_invoke_configs:
        message = f"The function {function.arn(qualifier)} doesn't have an EventInvokeConfig"
        raise ApiError("ResourceNotFoundException", message)
    return function.event_invoke_configs[qualifier]


def _write_statement(request: dict[str, Any], resource: str) -> dict[str, Any]:
    principal = request["Principal"]
    conditions: dict[str, dict[str, str]] = {}
    if "SourceArn" in request:
        conditions.setdefault("ArnLike", {})["AWS:SourceArn"] = request["SourceArn"]
    equal = {
        "AWS:SourceAccount": request.get("SourceAccount"),
        "aws:PrincipalOrgID": request.get("PrincipalOrgID"),
        "lambda:FunctionUrlAuthType": request.get("FunctionUrlAuthType"),
        "lambda:EventSourceToken": request.get("EventSourceToken"),
    }
    if given := {name: value for name, value in equal.items() if value is not None}:
        conditions["StringEquals"] = given
    if request.get("InvokedViaFunctionUrl"):
        conditions["Bool"] = {"lambda:InvokedViaFunctionUrl": "true"}
    return {
        "Sid": request["StatementId"],
        "Effect": "Allow",
        "Principal": _read_principal(principal),
        "Action": request["Action"],
        "Resource": resource,
        **({"Condition": conditions} if conditions else {}),
    }


def _read_principal(principal: str) -> str | dict[str, str]:
    if principal == "*":
        return "*"
    if principal.endswith(".amazonaws.com"):
        return {"Service": principal}
    return {"AWS": f"arn:aws:iam::{principal}:root" if principal.isdigit() else principal}
