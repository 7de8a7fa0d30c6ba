"""The figure of the first page says what was judged."""

import pytest

from empirical.engine.predictions import rate
from paper import overview, words
from paper.evidence import Evidence


def test_the_first_figure_shows_what_was_judged(gathered: Evidence) -> None:
    run = gathered.runs["coverage"][0]
    judged = {row["id"]: words.mean(words.rates(row)) for row in run.rows}
    kept, apart, joined = (overview.rows(panel, run) for panel in overview.PANELS[:3])
    shown = [{row.label: sum(map(rate, row.outcomes)) / len(row.outcomes) for row in rows} for rows in (kept, joined)]
    assert shown[0]["sum, experts on all layers"] == pytest.approx(judged["headline.retained.all.first_new"])
    assert shown[0]["sum, early + late"] == pytest.approx(judged["headline.retained.placed.first_new"])
    assert shown[1]["sum, new embeddings + late"] == pytest.approx(judged["headline.rows_compose"])
    assert all(row.bound is None for row in kept)
    assert all(row.bound is not None and 0 < row.bound < 1 for row in (*apart, *joined))
