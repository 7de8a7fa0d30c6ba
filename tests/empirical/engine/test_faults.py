"""Killed drivers and workers, full disks, two drivers, Ctrl-C: nothing half-written, lost or done twice."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from empirical.engine.records import files, read
from tests.empirical.conftest import files_of_at_most
from theory.numerics import stream

#: at least 30 of them; a driver takes its two workers with it
KILLS = 32


def whole(results: Path) -> int:
    """Number of records; raises for one that is half-written."""
    return len([read(path) for path in files(results / "toy" / "cpu")])


def doubled(toy: Any) -> list[str]:
    """Marks of cells that were started although their record was there."""
    written = {}
    for path in files(toy.results / "toy" / "cpu"):
        written[read(path)["cell"]["x"]] = path.stat().st_mtime_ns
    marks = [p for p in (toy.folder / "marks").iterdir() if int(p.name.split("-")[0]) in written]
    return [p.name for p in marks if p.stat().st_mtime_ns > written[int(p.name.split("-")[0])]]


def test_kills_at_random_moments_change_nothing(toy: Any) -> None:
    toy.settle("plain", xs=range(400))
    rng = stream(11, "kills")
    workers = drivers = 0
    toy.pause(0.15)
    while workers + drivers < KILLS:
        driver = toy.start()
        before = set(toy.at_work())
        for _ in range(int(rng.integers(4, 9))):
            toy.until(lambda known=before: set(toy.at_work()) - known)
            time.sleep(float(rng.uniform(0, 0.15)))
            at_work = {name: pid for name, pid in toy.at_work().items() if name not in before and toy.running(pid)}
            if at_work:
                os.kill(at_work[sorted(at_work)[int(rng.integers(len(at_work)))]], signal.SIGKILL)
                workers += 1
            before = set(toy.at_work())
            assert driver.poll() is None, driver.communicate()
        driver.kill()
        driver.communicate()
        drivers += 1
        assert whole(toy.results) < 400, "the cells ran out before the kills did"
    toy.until(lambda: not any(toy.running(pid) for pid in toy.at_work().values()))

    # a kill hit a cell if that cell started and never ended; most must, or this test would show nothing
    interrupted = len(toy.at_work())
    assert interrupted >= KILLS / 2
    assert drivers >= 4
    toy.pause(0)
    done = toy.drive()
    assert done.returncode == 0, done.stdout + done.stderr
    measured = sorted((record["cell"]["x"], record["metrics"]) for record in map(json.loads, toy.files().values()))
    assert measured == [(x, {"square": x**2, "right": [x % 2, 2]}) for x in range(400)]
    (row,) = toy.table()
    assert (row["verdict"], len(row["worlds"])) == ("holds", 400)
    assert doubled(toy) == []
    assert [p for p in toy.results.rglob("*") if p.suffix in (".partial", ".txt")] == []


def test_workers_die_with_their_driver_and_a_second_driver_is_refused_meanwhile(toy: Any) -> None:
    toy.pause(600)
    driver = toy.start()
    toy.until(lambda: len(toy.at_work()) == 2)
    second = toy.here()
    assert second.returncode == 2
    assert "no other driver" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    pids = list(toy.at_work().values())
    assert all(toy.running(pid) for pid in pids)
    driver.kill()
    driver.communicate()
    toy.until(lambda: not any(toy.running(pid) for pid in pids), 10)
    toy.pause(0)
    assert toy.here().returncode == 0
    assert len(toy.files()) == 3


def test_ctrl_c_is_answered_once_and_keeps_what_is_finished(toy: Any) -> None:
    def listening() -> None:
        # a shell without job control starts what runs in the background deaf to Ctrl-C, and the tests may run there
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    toy.settle("plain", xs=[1])
    assert toy.here().returncode == 0
    toy.settle("plain")
    toy.pause(600)
    driver = toy.start(start_new_session=True, preexec_fn=listening)
    toy.until(lambda: len(toy.at_work()) == 2)
    pids = list(toy.at_work().values())
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does, to the driver and all its workers
    _, err = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert err.splitlines() == [
        "empirical: stopped; what is finished is kept, nothing is half-written; run the same command again"
    ]
    toy.until(lambda: not any(toy.running(pid) for pid in pids), 10)
    assert whole(toy.results) == 1


def test_a_full_disk_is_named_and_loses_nothing_that_was_written(toy: Any) -> None:
    toy.settle("plain", xs=[1])
    assert toy.here().returncode == 0
    kept = toy.files()
    toy.settle("plain")
    toy.declare()
    with files_of_at_most(300):  # less than a record and more than a mark
        done = toy.here()
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "expected to write it, got: File too large" in done.stderr
    assert toy.files() == kept
    assert list(toy.results.rglob(".*.partial")) == []
    assert toy.here().returncode == 0
    assert len(toy.files()) == 3


def test_a_results_folder_that_goes_away_is_made_again_or_named(toy: Any) -> None:
    toy.pause(600)
    driver = toy.start()
    toy.until(lambda: len(toy.at_work()) == 2)
    shutil.rmtree(toy.results)
    toy.results.write_text("a file in the way", encoding="utf-8")
    os.kill(next(iter(toy.at_work().values())), signal.SIGKILL)  # its cell is tried again, and is quick now
    toy.pause(0)
    _, err = driver.communicate()
    assert driver.returncode == 2
    assert len(err.splitlines()) == 1
    assert str(toy.results) in err
