"""Functions of other languages than Python, invoked through the local Lambda."""

import io
import json
import shutil
import zipfile
from typing import Any

import pytest

from immortal_runner.runtimes.node import client_files, find_node
from support.bench import Bench
from support.needs import need

NODE = "export const handler = async (event, context) => ({ ...event, by: context.functionName })"

SHELL = """\
#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while :; do
  head=$(curl -sS -D - -o /dev/null "$api/next" | grep -i '^lambda-runtime-aws-request-id:')
  id=$(echo "${head#*:}" | tr -d '[:space:]')
  curl -sS -X POST -d "\\"$_HANDLER\\"" "$api/$id/response" > /dev/null
done
"""


def zip_program(name: str, text: str) -> bytes:
    """Make a zip of one file that may be executed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o100755 << 16
        archive.writestr(entry, text)
    return buffer.getvalue()


def invoke(bench: Bench, name: str, event: Any) -> Any:
    answered = bench.functions.invoke(FunctionName=name, Payload=json.dumps(event))
    assert "FunctionError" not in answered, answered["Payload"].read()
    return json.loads(answered["Payload"].read())


@pytest.mark.parametrize(("runtime", "client"), [("nodejs22.x", "3.3.0"), ("nodejs24.x", "4.0.2")])
def test_a_node_function_answers(bench: Bench, runtime: str, client: str) -> None:
    need("Node's runtime client (immortal local install)", here=bool(find_node() and client_files(client)))
    code = {"ZipFile": zip_program("app.mjs", NODE)}
    name = bench.make_function(Runtime=runtime, Code=code, Timeout=20)
    assert invoke(bench, name, {"a": 1}) == {"a": 1, "by": name}


def test_a_function_that_brings_its_own_program_answers(bench: Bench) -> None:
    need("curl", here=shutil.which("curl") is not None)
    code = {"ZipFile": zip_program("bootstrap", SHELL)}
    name = bench.make_function(Runtime="provided.al2023", Handler="some.thing", Code=code, Timeout=20)
    assert invoke(bench, name, {}) == "some.thing"
