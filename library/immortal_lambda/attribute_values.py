"""Python's values as DynamoDB's attribute values, and back.

boto3 has this, too, but only together with its resources and their documentation: a tenth of a second and 3 MB, which
each task would pay for these few lines.

Source: DynamoDB API reference, "AttributeValue".
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any


def marshal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Write an item.

    Args:
        values: Text, whole numbers, bytes, truth values, None, and lists and mappings of these.

    Raises:
        TypeError: A value of another type is among them.
    """
    return {name: _write(value) for name, value in values.items()}


def unmarshal(item: Mapping[str, Any]) -> dict[str, Any]:
    """Read an item; a number is cut to a whole one."""
    return {name: _read(value) for name, value in item.items()}


def _write(value: Any) -> dict[str, Any]:
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case bytes() | bytearray():
            return {"B": bytes(value)}
        case Mapping():
            return {"M": marshal(value)}
        case list() | tuple():
            return {"L": [_write(member) for member in value]}
        case _:
            raise TypeError(f"the ledger holds no {type(value).__name__}")


def _read(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    return _READERS[kind](content)


def _read_number(text: str) -> int:
    return int(Decimal(text))


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "NULL": lambda _: None,
    "BOOL": bool,
    "N": _read_number,
    "S": str,
    "B": bytes,
    "M": unmarshal,
    "L": lambda members: [_read(member) for member in members],
    "SS": set,
    "NS": lambda members: set(map(_read_number, members)),
    "BS": set,
}
