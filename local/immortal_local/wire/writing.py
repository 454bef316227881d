"""Writing: answers and errors, as the service's protocol has them."""

import base64
import json
from datetime import datetime
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

from immortal_local.wire import query
from immortal_local.wire.values import ApiError, HttpAnswer

__all__ = ["write_answer", "write_error"]


def write_answer(operation: OperationModel, members: dict[str, Any], request_id: str) -> HttpAnswer:
    """Write an operation's answer. A member that the model doesn't have is a fault of ours: KeyError."""
    shape = operation.output_shape
    if operation.service_model.protocol == "rest-json":
        return _write_rest(operation, shape, members)
    if operation.service_model.protocol == "query":
        return HttpAnswer(200, {"Content-Type": "text/xml"}, query.write_answer(operation, members, request_id))
    body = json.dumps(_write_value(shape, members) if shape else {}).encode()
    version = operation.service_model.metadata["jsonVersion"]
    return HttpAnswer(200, {"Content-Type": f"application/x-amz-json-{version}"}, body)


def _write_rest(operation: OperationModel, shape: StructureShape | None, members: dict[str, Any]) -> HttpAnswer:
    status = operation.http.get("responseCode", 200)
    if shape is None:
        return HttpAnswer(status, {}, b"")
    headers: dict[str, str] = {}
    inside: dict[str, Any] = {}
    for name, value in members.items():
        member = shape.members[name]
        match member.serialization.get("location"):
            case _ if value is None:
                continue
            case "header":
                headers[member.serialization["name"]] = _write_text(value)
            case "statusCode":
                status = value
            case _:
                inside[name] = value
    payload = shape.serialization.get("payload")
    if payload is not None and shape.members[payload].type_name == "blob":
        return HttpAnswer(status, {"Content-Type": "application/json", **headers}, inside.get(payload, b""))
    body = inside.get(payload, {}) if payload else inside
    written = json.dumps(_write_value(shape.members[payload] if payload else shape, body)).encode()
    no_content = status == 204  # noqa: PLR2004  # HTTP: No Content
    return HttpAnswer(status, {"Content-Type": "application/json", **headers}, b"" if no_content else written)


def _write_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _write_value(shape: Shape, value: Any) -> Any:
    """Turn API values into JSON."""
    if isinstance(shape, StructureShape):
        return {
            shape.members[name].serialization.get("name", name): _write_value(shape.members[name], item)
            for name, item in value.items()
            if item is not None
        }
    if isinstance(shape, ListShape):
        return [_write_value(shape.member, item) for item in value]
    if isinstance(shape, MapShape):
        return {key: _write_value(shape.value, item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return round(value.timestamp(), 3)
    return value


def write_error(model: ServiceModel, operation: OperationModel | None, error: ApiError, request_id: str) -> HttpAnswer:
    """Write an error in the form of the service's protocol, with the status that the model gives it."""
    shape = _error_shape(operation, error.code)
    modelled = shape.metadata.get("error", {}) if shape else {}
    status = error.status or modelled.get("httpStatusCode", 400)
    if model.protocol == "query":
        xml = query.write_error(model, code=error.code, message=error.message, status=status, request_id=request_id)
        return HttpAnswer(status, {"Content-Type": "text/xml"}, xml)
    members = set(shape.members) if shape else {"message"}
    body: dict[str, Any] = {("Message" if "Message" in members else "message"): error.message, **error.members}
    if "Type" in members:
        body.setdefault("Type", "User" if status < 500 else "Service")  # noqa: PLR2004  # HTTP: server's fault
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": error.code}
    if model.protocol == "json":
        headers["Content-Type"] = f"application/x-amz-json-{model.metadata['jsonVersion']}"
        body["__type"] = f"com.amazonaws.{model.service_name}#{error.code}"
    return HttpAnswer(status, headers, json.dumps(body).encode())


def _error_shape(operation: OperationModel | None, code: str) -> StructureShape | None:
    shapes = operation.error_shapes if operation else ()
    return next((shape for shape in shapes if isinstance(shape, StructureShape) and shape.name == code), None)
