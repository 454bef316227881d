"""Tags of functions and event source mappings."""

from collections.abc import Callable
from typing import Any

from immortal_local.functions.references import read_reference
from immortal_local.functions.store import Store
from immortal_local.wire import ApiError, Call, Operation

__all__ = ["Tags"]

FindMappingTags = Callable[[str, str], "dict[str, str] | None"]
"""Takes region and UUID of a mapping."""


class Tags:
    """The operations on tags."""

    def __init__(self, store: Store, find_mapping_tags: FindMappingTags) -> None:
        self._store = store
        self._find_mapping_tags = find_mapping_tags

    def operations(self) -> dict[str, Operation]:
        """What is answered here, by operation name."""
        return {"TagResource": self.tag, "UntagResource": self.untag, "ListTags": self.list}

    def tag(self, call: Call) -> None:
        """TagResource."""
        self._find(call).update(call.request["Tags"])

    def untag(self, call: Call) -> None:
        """UntagResource."""
        tags = self._find(call)
        for key in call.request["TagKeys"]:
            tags.pop(key, None)

    def list(self, call: Call) -> dict[str, Any]:
        """ListTags."""
        return {"Tags": dict(self._find(call))}

    def _find(self, call: Call) -> dict[str, str]:
        arn = call.request["Resource"]
        kind, name = arn.split(":")[5:7]
        if kind == "function":
            reference = read_reference(arn, None, region=call.region, account=call.account)
            return self._store.function(call.region, reference).tags
        tags = self._find_mapping_tags(call.region, name) if kind == "event-source-mapping" else None
        if tags is None:
            raise ApiError("ResourceNotFoundException", f"Resource not found: {arn}")
        return tags
