import pytest

from immortal_lambda.failures import classify


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"error_type": "Sandbox.Timedout", "message": "RequestId: x Error: Task timed out after 3.00 seconds"},
            "timeout",
        ),
        ({"error_type": None, "message": "2024-04-08T10:00:00Z x Task timed out after 3.00 seconds"}, "timeout"),
        ({"error_type": "Runtime.OutOfMemory", "message": "out of memory"}, "memory"),
        ({"error_type": "Runtime.ExitError", "message": "Runtime exited with error: signal: killed"}, "memory"),
        ({"error_type": "Runtime.ExitError", "message": "Runtime exited with error: exit status 127"}, "crash"),
        ({"error_type": None, "message": "Runtime exited without providing a reason", "code": "200"}, "crash"),
        ({"error_type": None, "message": "RequestId: x Process exited before completing request"}, "crash"),
        ({"error_type": "OSError", "message": "[Errno 28] No space left on device"}, "disk"),
        ({"error_type": "ValueError", "message": "row 17 is bad"}, "error"),
        ({"error_type": None, "message": "row 17 is bad", "code": "200"}, "error"),
        ({"error_type": None, "message": None, "code": "429"}, "throttled"),
        ({"error_type": None, "message": None, "condition": "ZeroReservedConcurrency"}, "never_ran"),
        ({"error_type": None, "message": None}, "unknown"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_failure_is_sorted_by_what_it_died_of(said: dict[str, str], expected: str) -> None:
    assert classify(**said).failure_class == expected
