"""capacity: a small world live, the power law, the ceiling by counting, rounding to bits."""

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.experiments.capacity import run as experiment
from empirical.experiments.capacity.predictions import declare
from empirical.experiments.capacity.tables import Settings
from empirical.experiments.filled import POWERS, fitted, round_to
from tests.empirical.experiments.live import live, spoilt
from theory.lowrank import LowRank
from theory.numerics import stream

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return catalogue.settings("capacity", "smoke").but(steps=3, base_steps=3)


@pytest.fixture(scope="module")
def result(settings: Settings) -> Record:
    return live("capacity", experiment.cells(settings)[0])


def test_a_world_live(settings: Settings, result: Record) -> None:
    found = result.metrics
    wanted = [str(r) for r in (*settings.fitted, *settings.foretold)]
    assert list(found.ranks) == wanted
    sizes = [found.ranks[r].parameters for r in wanted]
    assert sizes == [sizes[0] * int(r) for r in wanted]
    assert set(found.law.foretold) == {str(r) for r in settings.foretold}
    each = {found.layers[str(i)].parameters for i in range(settings.layers)}
    assert {found.layers["all"].parameters} == {settings.layers * size for size in each}
    # one matrix of the last layer at rank one, at its two sizes
    numbers = settings.width + settings.feed_forward
    assert found.small["32"].bits == 32 * numbers
    assert found.small["2"].bits == 2 * numbers + 2 * 32
    assert found.small["2"].ceiling <= found.small["32"].ceiling <= 1


def test_the_ceiling_by_counting_is_that_of_the_adapter_itself(settings: Settings, result: Record) -> None:
    said = {p.id: p for p in declare(settings)}
    assert said["counting"].predicted == result.metrics.small[str(min(settings.bits))].ceiling


def test_a_law_that_goes_on_and_one_that_ends_are_told_apart(settings: Settings, result: Record) -> None:
    beyond = max(settings.foretold)
    foretold = result.metrics.law.foretold[str(beyond)]
    said = {p.id: p for p in declare(settings)}["law.beyond"]
    for ratio in (1.0, 0.8):
        found = said.of([spoilt(result, "ranks", str(beyond), "drop", to=ratio * foretold)])
        assert found == pytest.approx(ratio - 1)


def test_a_power_law_is_found_and_foretells_itself() -> None:
    law = fitted({r: 0.3 * r**0.7 + 2.0 for r in (1, 2, 4, 16)}, (8, 64))
    assert (law.power, law.scale, law.offset) == pytest.approx((0.7, 0.3, 2.0), rel=1e-6)
    assert law.foretold["64"] == pytest.approx(0.3 * 64**0.7 + 2.0)


def test_a_logarithm_is_the_least_power() -> None:
    law = fitted({r: float(np.log(r)) for r in (1, 2, 4, 16)}, (64,))
    assert law.power == min(POWERS)
    # C (r^a - 1) with C a near 1 is log r but for a (log r)^2 / 2, in the middle of the ranks and at 64
    assert law.foretold["64"] == pytest.approx(np.log(64), abs=0.02 * np.log(64) ** 2 / 2)


@pytest.mark.parametrize("bits", [32, 16, 8, 4, 2])
def test_rounded_numbers_fit_into_their_bits(bits: int) -> None:
    rng = stream(0, "rounded")
    B, A = (rng.standard_normal(shape).astype(np.float32).astype(float) for shape in ((60, 3), (3, 50)))
    rounded, size = round_to({"m": LowRank(B, A, 2.0)}, bits)
    most = max(len(np.unique(f)) for f in (rounded["m"].B, rounded["m"].A))
    assert most <= 2**bits
    if bits < 16:
        assert size == bits * (60 * 3 + 3 * 50) + 2 * 32
        step = np.abs(B).max() / (2 ** (bits - 1) - 1)
        assert np.abs(rounded["m"].B - B).max() <= step / 2 * (1 + 1e-9)
    else:
        assert np.abs(rounded["m"].B / B - 1).max() <= 2.0 ** (-7 if bits == 16 else -60)
