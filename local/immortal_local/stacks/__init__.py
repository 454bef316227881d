"""CloudFormation: stacks whose resources are made by real calls, or whose failure names what isn't carried out."""

from immortal_local.stacks.service import Stacks

__all__ = ["Stacks"]
