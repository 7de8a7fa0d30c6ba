import pytest

from empirical.training.bases import BaseShape, scratch_base


@pytest.fixture(scope="session")
def base():
    return scratch_base(BaseShape(vocabulary=30, width=16, layers=3, heads=2, feed_forward=32, init=0.2), seed=1)
