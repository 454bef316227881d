"""What things cost: US dollars in us-east-1 on x86, as of November 2026; for a comparison, not for a bill."""

LAMBDA_GB_SECOND = 0.0000166667
LAMBDA_REQUEST = 0.20 / 1_000_000
FARGATE_VCPU_HOUR = 0.04048
FARGATE_GB_HOUR = 0.004445

FARGATE_MINIMUM_S = 60.0
"""Fargate bills by the second, but a minute at least."""


def lambda_cost(billed_ms: int, memory_mb: int, requests: int) -> float:
    """What invocations cost."""
    return billed_ms / 1000 * memory_mb / 1024 * LAMBDA_GB_SECOND + requests * LAMBDA_REQUEST


def fargate_cost(running_s: float, cpu_units: int, memory_mb: int) -> float:
    """What a task costs; 1,024 units are one vCPU."""
    hours = max(running_s, FARGATE_MINIMUM_S) / 3600
    return hours * (cpu_units / 1024 * FARGATE_VCPU_HOUR + memory_mb / 1024 * FARGATE_GB_HOUR)
