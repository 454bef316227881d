"""Handlers built on libraries that many functions use run as they are, with the endpoint's credentials."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from immortal_local.server import LocalAws
from immortal_runner.code.layout import lay_out
from immortal_runner.execution.credentials import EndpointCredentials, TemporaryCredentials
from immortal_runner.execution.environment import ExecutionEnvironment
from immortal_runner.execution.outcomes import Returned
from immortal_runner.runtime_api.invocations import Invocation
from immortal_runner.runtimes.distributions import top_level_files, with_requirements
from support.functions import ARN, FUNCTION, MemoryLog, open_to_all

LIBRARIES = ("aws-lambda-powertools", "aws-xray-sdk", "fastapi", "mangum")
BUNDLED = ("boto3",)

CODE = """
import boto3
from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, idempotent_function
from fastapi import FastAPI
from mangum import Mangum

logger = Logger()
tracer = Tracer()
batch = BatchProcessor(event_type=EventType.SQS)
payments = DynamoDBPersistenceLayer(table_name="idempotency")
web = FastAPI()
paid = []


@logger.inject_lambda_context
def log(event, context):
    logger.info("at work", extra={"order": event["order"]})
    return logger.get_current_keys()["function_request_id"]


@tracer.capture_lambda_handler
def trace(event, context):
    return "traced"


@idempotent_function(data_keyword_argument="payment", persistence_store=payments)
def pay(payment):
    paid.append(payment)
    return {"paid": payment["amount"]}


def pay_twice(event, context):
    return [pay(payment=event["payment"]), pay(payment=event["payment"]), len(paid)]


def one_record(record):
    if record.body == "bad":
        raise ValueError(record.body)


def records(event, context):
    return process_partial_response(event=event, record_handler=one_record, processor=batch, context=context)


@web.get("/orders/{number}")
def order(number: int):
    return {"order": number}


def who(event, context):
    return boto3.client("sts").get_caller_identity()["Arn"]


DOORS = {"log": log, "trace": trace, "pay": pay_twice, "batch": records, "web": Mangum(web, lifespan="off"), "who": who}


def handler(event, context):
    return DOORS[event.pop("do")](event, context)
"""


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture(scope="module")
def environment(
    local: LocalAws, log: MemoryLog, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ExecutionEnvironment]:
    root = tmp_path_factory.mktemp("libraries")
    open_to_all(root)
    local.client("dynamodb").create_table(
        TableName="idempotency",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    environment = ExecutionEnvironment(
        replace(FUNCTION, variables={"POWERTOOLS_SERVICE_NAME": "shop", "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR"}),
        lay_out(make_package(root / "code.zip"), [], root / "laid-out"),
        credentials=EndpointCredentials(lambda: assume_role(local)),
        log=log,
        variables={"AWS_ENDPOINT_URL": local.endpoint},
    )
    yield environment
    environment.stop()


def make_package(path: Path) -> Path:
    """A zip as a build tool makes it: the handler beside all that it needs, without what Lambda brings along."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("app.py", CODE)
        for name, source in top_level_files(with_requirements(LIBRARIES) - with_requirements(BUNDLED)).items():
            files = [source] if source.is_file() else [each for each in source.rglob("*") if each.suffix != ".pyc"]
            for file in files:
                archive.write(file, Path(name, file.relative_to(source)) if file != source else name)
    return path


def assume_role(local: LocalAws) -> TemporaryCredentials:
    given = local.client("sts").assume_role(RoleArn=FUNCTION.role_arn, RoleSessionName=FUNCTION.name)["Credentials"]
    return TemporaryCredentials(
        given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], datetime.now(UTC) + timedelta(hours=1)
    )


def ask(environment: ExecutionEnvironment, **event: Any) -> Any:
    request_id = f"7c1f0b52-4b0e-4a6e-9d5b-0a1f6a3f{len(event['do']):04}"
    outcome = environment.invoke(Invocation(request_id, json.dumps(event).encode(), ARN), timeout_s=None)
    assert isinstance(outcome, Returned), outcome
    return json.loads(outcome.result.read())


def test_powertools_logger_knows_the_request(environment: ExecutionEnvironment, log: MemoryLog) -> None:
    request_id = ask(environment, do="log", order=17)
    environment.deliver_log(5)
    line = next(json.loads(each) for each in log.text.splitlines() if each.startswith("{") and "at work" in each)
    assert (line["order"], line["service"], line["function_request_id"]) == (17, "shop", request_id)
    assert line["function_name"] == FUNCTION.name


def test_powertools_tracer_does_without_a_daemon(environment: ExecutionEnvironment) -> None:
    assert ask(environment, do="trace") == "traced"


def test_powertools_idempotency_pays_once(environment: ExecutionEnvironment) -> None:
    once = {"paid": 30}
    assert ask(environment, do="pay", payment={"order": 17, "amount": 30}) == [once, once, 1]


def test_powertools_batch_names_the_records_that_failed(environment: ExecutionEnvironment) -> None:
    events = [{"messageId": body, "body": body, "eventSource": "aws:sqs"} for body in ("good", "bad")]
    assert ask(environment, do="batch", Records=events) == {"batchItemFailures": [{"itemIdentifier": "bad"}]}


def test_fastapi_answers_behind_mangum(environment: ExecutionEnvironment) -> None:
    http = {"method": "GET", "path": "/orders/17", "sourceIp": "192.0.2.1", "protocol": "HTTP/1.1", "userAgent": "t"}
    event = {
        "version": "2.0",
        "rawPath": "/orders/17",
        "rawQueryString": "",
        "headers": {"host": "example.org"},
        "requestContext": {"http": http, "stage": "$default"},
        "isBase64Encoded": False,
    }
    answer = ask(environment, do="web", **event)
    assert (answer["statusCode"], json.loads(answer["body"])) == (200, {"order": 17})


@pytest.mark.conformance(50)
def test_boto3_is_the_functions_role(environment: ExecutionEnvironment) -> None:
    role = FUNCTION.role_arn.rpartition("/")[2]
    assert ask(environment, do="who").endswith(f":assumed-role/{role}/{FUNCTION.name}")
