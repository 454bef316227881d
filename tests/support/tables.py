"""The ledger's table, made as the template makes it."""

from pathlib import Path
from typing import Any

import yaml

TEMPLATES = Path(__file__).parents[2] / "cloudformation"


def ledger_schema() -> dict[str, Any]:
    class Loader(yaml.SafeLoader):
        """Reads a template; its functions don't matter here."""

    Loader.add_multi_constructor("!", lambda _loader, _tag, _node: None)
    template = yaml.load((TEMPLATES / "store.yaml").read_text(), Loader)  # noqa: S506  # our own
    properties = template["Resources"]["Ledger"]["Properties"]
    members = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    return {member: properties[member] for member in members}
