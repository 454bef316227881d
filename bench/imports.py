"""What importing the dispatcher costs above boto3, which every Lambda has to import anyway."""

import subprocess
import sys
import time
from collections.abc import Iterator

from bench.lines import Line

ROUNDS = 15
LIMIT_MS = 60


def measure() -> Iterator[Line]:
    plain, ours = [], []
    for _ in range(ROUNDS):  # in turn, so that whatever else the machine does hits both alike
        plain.append(_import_s("import boto3; boto3.Session"))
        ours.append(_import_s("import boto3; boto3.Session; import immortal_dispatcher.handler"))
    above_ms = (min(ours) - min(plain)) * 1000
    yield Line("import of the dispatcher, above boto3's", f"{above_ms:.0f} ms", f"limit {LIMIT_MS} ms")
    yield Line("  boto3 alone", f"{min(plain) * 1000:.0f} ms", "")


def _import_s(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began
