"""Why a zip can't be laid out."""

from immortal_lambda.errors import ImmortalError


class ArchiveRefused(ImmortalError):
    """The archive is broken or would write outside its folder; trying again cannot help."""


class DiskFull(ImmortalError):
    """The task has too small a disk for the function's code; whoever owns the installation must enlarge it."""
