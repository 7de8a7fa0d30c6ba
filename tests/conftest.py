"""What every test shares: Hypothesis without deadlines, and one thread per process: models are tiny here."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture
def judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks the engine for committed results has them as other tests read and judged them."""
    from tests.empirical.judged import once

    once(monkeypatch)
