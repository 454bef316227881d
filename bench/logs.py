"""What a function's output costs the runner on its way to CloudWatch Logs: 100 MB a minute, a line at a time."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator

from bench.lines import Line

MB_PER_MINUTE = 100
SECONDS = 20
LIMIT_PERCENT = 10
LINE_BYTES = 120

# The runner's process holds what is measured and nothing else: the child and the endpoint have processes of their own.
_WRITER = """
import os, sys, time
rate, seconds = float(sys.argv[1]), float(sys.argv[2])
began, number = time.monotonic(), 0
while (spent := time.monotonic() - began) < seconds:
    while number * 120 < spent * rate:
        os.write(1, b"2026-11-21T14:00:00.000Z INFO %012d " % number + b"x" * 76 + b"\\n")
        number += 1
    time.sleep(0.005)
sys.stderr.write(f"{number}")
"""
_ENDPOINT = """
import http.server, json
class Endpoint(http.server.BaseHTTPRequestHandler):
    protocol_version, expected, calls = "HTTP/1.1", 0, 0
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for event in asked.get("logEvents", ()):
            assert int(event["message"].split()[2]) == Endpoint.expected and len(event["message"]) == 120
            Endpoint.expected += 1
        Endpoint.calls += 1
        self.answer(b"{}")
    def do_GET(self):
        self.answer(b"%d %d" % (Endpoint.expected, Endpoint.calls))
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
print(server.server_port, flush=True)
server.serve_forever()
"""
_RUNNER = """
import resource, subprocess, sys, boto3, psutil
from immortal_runner.aws import open_log_stream
from immortal_runner.execution.output import Output
port, rate, seconds = sys.argv[1:4]
keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "eu-west-1"}
logs = boto3.client("logs", endpoint_url=f"http://127.0.0.1:{port}", **keys)
stream = open_log_stream(logs, group="/aws/lambda/measured", stream="s")
output = Output(stream.write)
before = resource.getrusage(resource.RUSAGE_SELF)
command = [sys.executable, "-c", sys.argv[4], rate, seconds]
child = subprocess.Popen(command, stdout=output.write_end, stderr=subprocess.PIPE, text=True)
written = child.communicate()[1]
output.close()
stream.close()
after = resource.getrusage(resource.RUSAGE_SELF)
spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(written, spent, psutil.Process().memory_info().rss / 1e6)
"""


def measure() -> Iterator[Line]:
    endpoint = subprocess.Popen([sys.executable, "-c", _ENDPOINT], stdout=subprocess.PIPE, text=True)
    try:
        assert endpoint.stdout is not None
        port = endpoint.stdout.readline().strip()
        command = [sys.executable, "-c", _RUNNER, port, str(MB_PER_MINUTE * 1e6 / 60), str(SECONDS), _WRITER]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            arrived, calls = map(int, answer.read().split())
    finally:
        endpoint.kill()
        endpoint.wait()
    written, spent_s, resident_mb = map(float, ran.stdout.split())
    assert arrived == written, f"{written:.0f} lines were written and {arrived} arrived"
    mb_per_minute = written * LINE_BYTES / SECONDS * 60 / 1e6
    yield Line(
        f"{mb_per_minute:.0f} MB of output a minute, of a core", f"{spent_s / SECONDS:.1%}", f"limit {LIMIT_PERCENT} %"
    )
    yield Line(f"  {arrived:,} lines in {calls} calls, none lost; resident", f"{resident_mb:.0f} MB", "")
