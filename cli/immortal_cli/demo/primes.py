"""The right answer, found another way than the demo's function finds it."""

from math import isqrt, log


def prime_at(position: int) -> int:
    """Give the prime at a position, counting from 1, by a sieve.

    Source: Rosser and Schoenfeld, 1962: from the sixth on, the n-th prime is below n (log n + log log n).
    """
    bound = 15 if position < 6 else int(position * (log(position) + log(log(position)))) + 1  # noqa: PLR2004  # as cited
    is_prime = bytearray(b"\x01") * (bound + 1)
    for number in range(2, isqrt(bound) + 1):
        if is_prime[number]:
            is_prime[number * number :: number] = bytes(len(range(number * number, bound + 1, number)))
    found, at = 0, 1
    while found < position:
        at = is_prime.index(1, at + 1)
        found += 1
    return at
