"""The query protocol: requests as forms, answers as XML. CloudFormation speaks it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

from immortal_local.characters import NOT_XML
from immortal_local.wire.text import read_text

__all__ = ["read_operation_name", "read_parameters", "write_answer", "write_error"]


def read_operation_name(body: bytes) -> str | None:
    """Read which operation a form asks for."""
    return dict(_read_form(body)).get("Action")


def read_parameters(shape: StructureShape | None, body: bytes) -> dict[str, Any]:
    """Read an operation's parameters; what has the wrong type stays text, for the validation to name."""
    if shape is None:
        return {}
    value: dict[str, Any] = _read_value(shape, dict(_read_form(body)), "")
    return value


def _read_form(body: bytes) -> list[tuple[str, str]]:
    return parse_qsl(body.decode(), keep_blank_values=True)


def _read_value(shape: Shape, pairs: Mapping[str, str], at: str) -> Any:
    if isinstance(shape, StructureShape):
        members = {
            name: (member, _below(at, member.serialization.get("name", name))) for name, member in shape.members.items()
        }
        return {name: _read_value(member, pairs, key) for name, (member, key) in members.items() if _has(pairs, key)}
    if isinstance(shape, ListShape):
        return _read_list(shape, pairs, at)
    return read_text(shape, pairs[at])


def _read_list(shape: ListShape, pairs: Mapping[str, str], at: str) -> list[Any]:
    stem = at if shape.serialization.get("flattened") else _below(at, shape.member.serialization.get("name", "member"))
    values: list[Any] = []
    while _has(pairs, key := f"{stem}.{len(values) + 1}"):
        values.append(_read_value(shape.member, pairs, key))
    return values


def _below(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _has(pairs: Mapping[str, str], at: str) -> bool:
    return at in pairs or any(key.startswith(f"{at}.") for key in pairs)


def write_answer(operation: OperationModel, members: Mapping[str, Any], request_id: str) -> bytes:
    """Write an operation's answer."""
    shape = operation.output_shape
    inner = _write_members(shape, members) if shape else ""
    wrapper = shape.serialization.get("resultWrapper", f"{operation.name}Result") if shape else None
    result = f"<{wrapper}>{inner}</{wrapper}>" if wrapper else ""
    namespace = operation.service_model.metadata.get("xmlNamespace", "")
    return (
        f'<{operation.name}Response xmlns="{namespace}">{result}'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation.name}Response>"
    ).encode()


def _write_members(shape: StructureShape, members: Mapping[str, Any]) -> str:
    return "".join(
        _write_value(shape.members[name], shape.members[name].serialization.get("name", name), value)
        for name, value in members.items()
        if value is not None
    )


def _write_value(shape: Shape, name: str, value: Any) -> str:
    """Write one element. A member that the shape doesn't have is a fault of ours: KeyError."""
    if isinstance(shape, StructureShape):
        return f"<{name}>{_write_members(shape, value)}</{name}>"
    if isinstance(shape, ListShape):
        inner = shape.member.serialization.get("name", "member")
        return f"<{name}>{''.join(_write_value(shape.member, inner, each) for each in value)}</{name}>"
    if isinstance(shape, MapShape):
        entries = "".join(
            f"<entry>{_write_value(shape.key, 'key', key)}{_write_value(shape.value, 'value', each)}</entry>"
            for key, each in value.items()
        )
        return f"<{name}>{entries}</{name}>"
    return f"<{name}>{escape(NOT_XML.sub('?', _write_text(value)))}</{name}>"


def _write_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)


def write_error(model: ServiceModel, *, code: str, message: str, status: int, request_id: str) -> bytes:
    """Write an error; whose fault it is follows from the status."""
    fault = "Sender" if status < 500 else "Receiver"  # noqa: PLR2004  # HTTP: server's fault
    namespace = model.metadata.get("xmlNamespace", "")
    return (
        f'<ErrorResponse xmlns="{namespace}"><Error><Type>{fault}</Type><Code>{escape(code)}</Code>'
        f"<Message>{escape(NOT_XML.sub('?', message))}</Message></Error><RequestId>{request_id}</RequestId>"
        f"</ErrorResponse>"
    ).encode()
