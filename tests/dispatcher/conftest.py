"""What the dispatcher's tests stand on: an account with a real ledger that notes its tasks."""

import pytest

from immortal_lambda.ledger import Ledger
from support.accounts import FakeAccount, Said
from support.letters import QUEUE, candidate


@pytest.fixture
def account(ledger: Ledger) -> FakeAccount:
    only = candidate("job", "job-role")
    return FakeAccount(ledger, functions={QUEUE: [only]}, role_ids={only.role_arn: "AROAJOBROLE"})


@pytest.fixture
def said() -> Said:
    return Said()
