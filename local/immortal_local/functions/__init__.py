"""Lambda on this machine: the control plane, and functions that really run, under limits that are really enforced."""

from immortal_local.functions.part import Functions

__all__ = ["Functions"]
