"""The demo's function: searches the prime at a position, and takes its time."""


def handler(event: dict[str, int], _context: object) -> dict[str, int]:
    """Find the prime at ``event["position"]``, counting from 1, by trial division."""
    position = event["position"]
    primes: list[int] = []
    candidate = 1
    while len(primes) < position:
        candidate += 1
        if is_prime(candidate, primes):
            primes.append(candidate)
            if len(primes) % (position // 8) == 0:
                print(f"{len(primes):>9,} primes found, the last is {candidate:,}")  # noqa: T201  # its log is watched
    return {"position": position, "prime": candidate}


def is_prime(candidate: int, primes: list[int]) -> bool:
    """Whether none of the smaller primes divides a candidate."""
    for prime in primes:
        if prime * prime > candidate:
            return True
        if candidate % prime == 0:
            return False
    return True
