"""Pages: a long list cut into the pages that AWS's lists give."""

from collections.abc import Sequence
from typing import Any, TypeVar

from immortal_local.wire import ApiError, Call

__all__ = ["cut_page"]

Item = TypeVar("Item")

_PAGE = 50


def cut_page(items: Sequence[Item], call: Call) -> tuple[Sequence[Item], dict[str, Any]]:
    """Cut the page that ``Marker`` and ``MaxItems`` ask for.

    Returns:
        The page, and the ``NextMarker`` member if there is more.
    """
    try:
        start = int(call.request.get("Marker") or 0)
    except ValueError as error:
        raise ApiError("InvalidParameterValueException", "Invalid marker: take it from a list's NextMarker.") from error
    end = start + min(call.request.get("MaxItems") or _PAGE, _PAGE)
    return items[start:end], {"NextMarker": str(end)} if end < len(items) else {}
