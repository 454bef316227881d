"""A function's code on disk, and an execution environment around it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from immortal_lambda.aws import DynamoTable, PayloadBucket
from immortal_lambda.ledger import Ledger
from immortal_local.server import LocalAws
from immortal_runner.code.layout import lay_out
from immortal_runner.execution.credentials import Credentials, StaticCredentials
from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.runtimes.machine import this_machine
from support.functions import FUNCTION, Environments, MemoryLog, make_zip, open_to_all
from support.needs import need
from support.stages import Stage


@pytest.fixture
def stage(local: LocalAws, table: DynamoTable, ledger: Ledger, tmp_path: Path) -> Iterator[Stage]:
    """A role and a bucket on the local AWS; functions, runs and runners come as a test asks for them."""
    iam, s3 = local.client("iam"), local.client("s3")
    if "runner-tests" not in [role["RoleName"] for role in iam.list_roles()["Roles"]]:
        iam.create_role(RoleName="runner-tests", AssumeRolePolicyDocument="{}")
    s3.create_bucket(Bucket=f"b-{table.name}", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    stage = Stage(local, table, ledger, PayloadBucket(s3, f"b-{table.name}"), str(tmp_path / "work"))
    yield stage
    stage.stop()


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture(params=["room", "bare"])
def environments(
    request: pytest.FixtureRequest, tmp_path: Path, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Environments]:
    """Everything about an environment holds in a room of its own and without one."""
    yield from make_environments(tmp_path, log, monkeypatch, room=request.param == "room")


@pytest.fixture
def rooms(tmp_path: Path, log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> Iterator[Environments]:
    """What holds only in a room."""
    yield from make_environments(tmp_path, log, monkeypatch, room=True)


def make_environments(
    tmp_path: Path, log: MemoryLog, monkeypatch: pytest.MonkeyPatch, *, room: bool
) -> Iterator[Environments]:
    machine = this_machine()
    if room:
        need("namespaces", here=machine.rooms)
    monkeypatch.setattr("immortal_runner.execution.environment.this_machine", lambda: replace(machine, rooms=room))
    made: list[ExecutionEnvironment] = []

    def make(
        files: str | Mapping[str, str],
        *,
        layers: tuple[Mapping[str, str], ...] = (),
        credentials: Credentials | None = None,
        variables: Mapping[str, str] | None = None,
        extensions: bool = True,
        **changes: object,
    ) -> ExecutionEnvironment:
        files = {"app.py": files} if isinstance(files, str) else files
        zips = [make_zip(tmp_path / f"{at}.zip", each) for at, each in enumerate((files, *layers))]
        environment = ExecutionEnvironment(
            replace(FUNCTION, **changes),  # type: ignore[arg-type]
            lay_out(zips[0], zips[1:], tmp_path / "root"),
            credentials=credentials or StaticCredentials("AKIAEXAMPLE", "secret", "token"),
            log=log,
            variables=variables,
            extensions=extensions,
        )
        made.append(environment)
        return environment

    open_to_all(tmp_path)
    yield make
    for environment in made:
        environment.stop()
