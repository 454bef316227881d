import threading

import pytest

from immortal_local.workers import Workers


def test_a_worker_that_dies_is_reported_and_works_again(capfd: pytest.CaptureFixture[str]) -> None:
    workers, again = Workers(), threading.Event()
    attempts: list[int] = []

    def work(stopping: threading.Event) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise ZeroDivisionError
        again.set()
        stopping.wait()

    worker = workers.start("divider", work)

    assert again.wait(10)
    assert worker.deaths == 1
    told = capfd.readouterr().err
    assert "worker divider died and is started again" in told
    assert "ZeroDivisionError" in told
    workers.stop()
    assert not worker.alive


def test_a_worker_whose_work_is_done_is_not_started_again() -> None:
    workers = Workers()
    attempts: list[int] = []

    worker = workers.start("once", lambda _stopping: attempts.append(1))
    worker.stop()

    assert attempts == [1]
    assert not worker.alive
