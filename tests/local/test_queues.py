import inspect
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.sqs.exceptions import SQSException
from moto.sqs.models import Queue as MotoQueue
from moto.sqs.models import SQSBackend

from immortal_local import queues
from immortal_local.server import LocalAws
from support.bench import Bench, Queue


def make_redriven_pair(bench: Bench, *, receives: int = 1, visibility_s: int = 1) -> tuple[Queue, Queue]:
    dead = bench.make_queue()
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": receives})
    return bench.make_queue(RedrivePolicy=policy, VisibilityTimeout=str(visibility_s)), dead


def test_a_long_poll_wakes_when_a_message_is_sent(bench: Bench) -> None:
    queue = bench.make_queue()
    sent_at = [0.0]

    def send_later() -> None:
        sent_at[0] = time.monotonic()
        queue.send("wake up")

    threading.Timer(0.2, send_later).start()
    message = queue.take(wait_s=10)

    assert message["Body"] == "wake up"
    assert time.monotonic() - sent_at[0] < 0.2


def test_a_long_poll_wakes_when_a_message_comes_back_to_sight(bench: Bench) -> None:
    queue = bench.make_queue(VisibilityTimeout="1")
    queue.send("again")
    started = time.monotonic()
    queue.take()

    message = queue.take(wait_s=10)

    assert message["Attributes"]["ApproximateReceiveCount"] == "2"
    assert 0.9 < time.monotonic() - started < 5  # ten, had the poll slept through it


def test_a_long_poll_without_a_message_ends_on_time(bench: Bench) -> None:
    queue = bench.make_queue()
    started = time.monotonic()

    received = queue.sqs.receive_message(QueueUrl=queue.url, WaitTimeSeconds=1).get("Messages", [])

    assert received == []
    assert 0.9 < time.monotonic() - started < 1.5


def test_a_message_that_is_made_visible_wakes_a_poll(bench: Bench) -> None:
    queue = bench.make_queue(VisibilityTimeout="30")
    queue.send("mine")
    handle = queue.take()["ReceiptHandle"]

    def give_back() -> None:
        queue.sqs.change_message_visibility(QueueUrl=queue.url, ReceiptHandle=handle, VisibilityTimeout=0)

    threading.Timer(0.1, give_back).start()

    assert queue.take(wait_s=5)["Body"] == "mine"


def test_waiting_for_a_message_tells_whether_there_is_one(bench: Bench) -> None:
    queue = bench.make_queue()

    assert not queues.wait_for_message(queue.arn, 0.05)
    queue.send("here")
    assert queues.wait_for_message(queue.arn, 0.05)
    assert not queues.wait_for_message(queue.arn + "-gone", 5)


def test_a_redriven_message_names_the_queue_it_came_from(bench: Bench) -> None:
    queue, dead = make_redriven_pair(bench)
    message_id = queue.send("poison")
    queue.take()
    queue.sqs.receive_message(QueueUrl=queue.url, WaitTimeSeconds=2)

    message = dead.take()

    assert message["MessageId"] == message_id
    assert message["Attributes"]["DeadLetterQueueSourceArn"] == queue.arn
    assert message["Attributes"]["ApproximateReceiveCount"] == "2"


def test_an_ordinary_message_names_no_source(bench: Bench) -> None:
    queue = bench.make_queue()
    queue.send("plain")

    assert "DeadLetterQueueSourceArn" not in queue.take()["Attributes"]


def test_concurrent_receives_deliver_and_redrive_every_message_exactly(bench: Bench) -> None:
    queue, dead = make_redriven_pair(bench, receives=2, visibility_s=1)
    bodies = {str(number) for number in range(60)}
    for body in bodies:
        queue.send(body)
    deliveries: list[str] = []

    def receive_until_empty(_: int) -> None:
        while messages := queue.sqs.receive_message(QueueUrl=queue.url, WaitTimeSeconds=2, MaxNumberOfMessages=5).get(
            "Messages"
        ):
            deliveries.extend(message["Body"] for message in messages)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(receive_until_empty, range(8)))

    assert sorted(deliveries) == sorted([*bodies, *bodies])
    assert dead.counts() == (60, 0)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param("", "MissingParameter", id="empty"),
        pytest.param("bell\x07", "InvalidMessageContents", id="control-character"),
        pytest.param("é" * 600, "InvalidParameterValue", id="too-many-bytes"),
    ],
)
def test_what_sqs_refuses_is_refused(bench: Bench, body: str, code: str) -> None:
    queue = bench.make_queue(MaximumMessageSize="1024")

    with pytest.raises(ClientError) as refused:
        queue.send(body)

    assert refused.value.response["Error"]["Code"] == code
    assert queue.counts() == (0, 0)


def test_tabs_newlines_and_emoji_are_fine(bench: Bench) -> None:
    queue = bench.make_queue()
    body = "\t line\n\r \U0001f600"
    queue.send(body)

    assert queue.take()["Body"] == body


def test_of_a_batch_only_the_bad_entries_fail(bench: Bench) -> None:
    queue = bench.make_queue()

    answer = queue.sqs.send_message_batch(
        QueueUrl=queue.url,
        Entries=[{"Id": "good", "MessageBody": "x"}, {"Id": "bad", "MessageBody": "\x01"}],
    )

    assert [entry["Id"] for entry in answer["Successful"]] == ["good"]
    assert [(entry["Id"], entry["Code"]) for entry in answer["Failed"]] == [("bad", "InvalidMessageContents")]


def test_attributes_count_towards_the_size() -> None:
    attributes = {"name": {"DataType": "String", "StringValue": "é"}}
    assert queues.message_bytes("ab", attributes) == 2 + 4 + 6 + 2

    queues.check_message("ab", attributes, maximum_bytes=14)
    with pytest.raises(SQSException):
        queues.check_message("ab", attributes, maximum_bytes=13)


def test_a_poll_that_waits_does_not_keep_the_local_aws_from_stopping() -> None:
    code = (
        "import threading, time\n"
        "from immortal_local.server import LocalAws\n"
        "with LocalAws() as local:\n"
        "    sqs = local.client('sqs')\n"
        "    url = sqs.create_queue(QueueName='q')['QueueUrl']\n"
        "    poll = threading.Thread(target=lambda: sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20))\n"
        "    poll.start()\n"
        "    time.sleep(0.3)\n"
        "    started = time.monotonic()\n"
        "print(time.monotonic() - started < 5)\n"
        "poll.join(1); print(poll.is_alive())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["True", "False"]


# Contracts: what the patches name in moto


def test_the_methods_that_are_locked_are_still_those_that_change_a_queue(local: LocalAws) -> None:
    assert local.endpoint
    for name in ("send_message", "receive_message", "delete_message", "change_message_visibility", "purge_queue"):
        first, *_ = list(inspect.signature(getattr(SQSBackend, name)).parameters)[1:]
        assert first == "queue_name"


def test_a_queue_still_keeps_its_messages_and_its_condition_where_we_look(bench: Bench) -> None:
    queue = bench.make_queue()
    queue.send("kept")
    found: Any = queues.find_queue(queue.arn)

    assert isinstance(found, MotoQueue)
    assert [message.body for message in found._messages] == ["kept"]
    assert vars(found._messages_lock)["_lock"] is queues.lock
    assert found.messages[0].visible
    assert not found.messages[0].delayed
