"""The local AWS for the tests of its room: a real one, on a port of the system's choosing."""

import itertools
import json
import time
from collections.abc import Callable, Iterator

import pytest

from immortal_local.server import LocalAws
from support.bench import TRUST, Bench, Eventually, NewName

TIME_SCALE = 0.001


@pytest.fixture(scope="module")
def local() -> Iterator[LocalAws]:
    """A local AWS whose waits are a thousand times shorter."""
    with LocalAws(time_scale=TIME_SCALE) as running:
        yield running


@pytest.fixture(scope="session")
def new_name() -> NewName:
    """Names that no other test uses."""
    numbers = itertools.count(1)
    return lambda kind: f"{kind}-{next(numbers)}"


@pytest.fixture(scope="module")
def bench(local: LocalAws, new_name: NewName) -> Bench:
    role = local.client("iam").create_role(RoleName=new_name("role"), AssumeRolePolicyDocument=json.dumps(TRUST))
    return Bench(local, role["Role"]["Arn"], new_name)


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    """Wait for a state that nothing announces."""

    def wait(reached: Callable[[], bool], within_s: float = 30.0) -> None:
        deadline = time.monotonic() + within_s
        while not reached():
            assert time.monotonic() < deadline, f"not reached within {within_s} s"
            time.sleep(0.01)

    return wait
