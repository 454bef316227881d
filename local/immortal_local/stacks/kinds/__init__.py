"""Every resource type that the local AWS carries out, by its name in templates."""

from collections.abc import Mapping

from immortal_local.stacks.kinds import containers, data, functions, identity, messaging, network
from immortal_local.stacks.resources import Kind

__all__ = ["KINDS"]

KINDS: Mapping[str, Kind] = {
    **messaging.KINDS,
    **data.KINDS,
    **identity.KINDS,
    **functions.KINDS,
    **containers.KINDS,
    **network.KINDS,
}
