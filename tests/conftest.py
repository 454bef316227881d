"""A local AWS for each module that asks for one, and a ledger of its own for each test."""

import itertools
from collections.abc import Iterator

import pytest

from immortal_lambda.aws import DynamoTable
from immortal_lambda.ledger import Ledger
from immortal_local.server import LocalAws
from support.tables import ledger_schema

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def local() -> Iterator[LocalAws]:
    with LocalAws(region="eu-west-1") as local:
        yield local


@pytest.fixture
def table(local: LocalAws) -> DynamoTable:
    name = f"runs-{next(_numbers)}"
    local.client("dynamodb").create_table(TableName=name, **ledger_schema())
    return DynamoTable(local.client("dynamodb"), name)


@pytest.fixture
def ledger(table: DynamoTable) -> Ledger:
    return Ledger(table)
