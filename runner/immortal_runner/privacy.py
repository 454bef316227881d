"""What other processes of the runner's own user may see of it: nothing."""

import ctypes

_PR_SET_DUMPABLE = 4


def hide_memory() -> None:
    """Close this process's memory, environment and descriptors to all processes but those of root.

    In a container the function runs as another user, who could not look anyway. Where it can't have one of its own, as
    on a developer's machine without namespaces, this keeps the runner's credentials from it.

    Source: Linux manual, PR_SET_DUMPABLE(2const) and ptrace(2), "Ptrace access mode checking".
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
