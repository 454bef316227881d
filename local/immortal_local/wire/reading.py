"""Reading: the parameters of a call out of its request."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape
from botocore.utils import parse_timestamp

from immortal_local.wire import query
from immortal_local.wire.routes import match_route
from immortal_local.wire.text import read_text
from immortal_local.wire.values import ApiError, HttpRequest

__all__ = ["read_parameters"]


def read_parameters(operation: OperationModel, request: HttpRequest) -> dict[str, Any]:
    """Read a call's parameters by their API names: blobs as bytes, timestamps as datetimes.

    What the model doesn't know is left out, as AWS does; what has the wrong type stays, for the check to name.

    Raises:
        ApiError: The body can't be read at all.
    """
    shape = operation.input_shape
    if shape is None:
        return {}
    if operation.service_model.protocol == "rest-json":
        return _read_rest(operation, shape, request)
    if operation.service_model.protocol == "query":
        return query.read_parameters(shape, request.body)
    parameters = _read_value(shape, _load_json(request.body))
    return parameters if isinstance(parameters, dict) else {}


def _read_rest(operation: OperationModel, shape: StructureShape, request: HttpRequest) -> dict[str, Any]:
    match = match_route(operation.service_model.service_name, request)
    labels = match.labels if match else {}
    payload = shape.serialization.get("payload")
    parameters: dict[str, Any] = {}
    if payload is None:
        parameters |= _read_members(shape, request)
    elif (value := _read_payload(shape.members[payload], request.body)) is not None:
        parameters[payload] = value
    for name, member in shape.members.items():
        if (value := _read_located(name, member, labels, request)) is not None:
            parameters[name] = value
    return parameters


def _read_members(shape: StructureShape, request: HttpRequest) -> dict[str, Any]:
    if not any("location" not in member.serialization for member in shape.members.values()):
        return {}
    body = _read_value(shape, _load_json(request.body))
    if not isinstance(body, dict):
        raise ApiError("SerializationException", "The request body must be a JSON object.", 400)
    return {name: value for name, value in body.items() if "location" not in shape.members[name].serialization}


def _read_payload(shape: Shape, body: bytes) -> Any:
    if shape.type_name == "blob":
        return body or None
    if shape.type_name == "string":
        return body.decode() or None
    return _read_value(shape, _load_json(body)) if body else None


def _read_located(name: str, shape: Shape, labels: Mapping[str, str], request: HttpRequest) -> Any:
    wire_name = shape.serialization.get("name", name)
    match shape.serialization.get("location"):
        case "uri":
            text = labels.get(wire_name)
        case "header":
            text = request.headers.get(wire_name.lower())
        case "querystring" if isinstance(shape, ListShape):
            return list(request.query.get(wire_name, ())) or None
        case "querystring":
            text = next(iter(request.query.get(wire_name, ())), None)
        case _:
            return None
    return None if text is None else read_text(shape, text)


def _load_json(body: bytes) -> Any:
    try:
        return json.loads(body or b"{}")
    except ValueError as error:
        raise ApiError("SerializationException", f"The request body is no JSON: {error}", 400) from error


def _read_value(shape: Shape, value: Any) -> Any:
    """Turn JSON into API values; what has the wrong type stays as it is, for the validation to name."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        known = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
        return {
            known[key][0]: _read_value(known[key][1], item)
            for key, item in value.items()
            if key in known and item is not None
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_read_value(shape.member, item) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {key: _read_value(shape.value, item) for key, item in value.items() if item is not None}
    if shape.type_name == "blob" and isinstance(value, str):
        return _read_blob(shape.name, value)
    if shape.type_name == "timestamp":
        return parse_timestamp(value)
    return value


def _read_blob(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ApiError("SerializationException", f"{name} must be base64: {error}", 400) from error
