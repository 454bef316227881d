"""Text: values that travel as plain text, in a path, a query, a header or a form."""

from typing import Any

from botocore.model import Shape
from botocore.utils import parse_timestamp

__all__ = ["read_text"]


def read_text(shape: Shape, text: str) -> Any:
    """Read a value; what has the wrong type stays text, for the validation to name."""
    try:
        match shape.type_name:
            case "integer" | "long":
                return int(text)
            case "float" | "double":
                return float(text)
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
            case "timestamp":
                return parse_timestamp(text)
    except (ValueError, KeyError):
        return text
    return text
