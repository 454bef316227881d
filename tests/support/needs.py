"""What a test needs of the machine: without it, it skips on a laptop and fails in CI."""

import os

import pytest


def need(what: str, *, here: bool) -> None:
    """Skip the test, or fail it in CI, unless what it needs is here."""
    if here:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {what}")
    pytest.skip(f"needs {what}")
