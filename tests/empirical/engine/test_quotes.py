"""A page that quotes rows says what the judge says of the committed results, and every advice has its evidence."""

import re
from pathlib import Path

import pytest

from empirical.engine.quotes import BEFORE, PAGES, PLACE, filled
from tests.empirical.judged import rows
from theory.claims import load

TEXT = PAGES[0].read_text(encoding="utf-8")
pytestmark = pytest.mark.usefixtures("judged_once")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_the_judge_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert filled(text) == text, "the page is of other results: make golden"
    declared = [place for place in PLACE.findall(text) if "(" in place[2]]
    assert len(declared) > 5
    for experiment, row, told in declared:
        judged = [(before, r) for p, before in BEFORE.items() for r in rows(experiment, p) if r["id"] == row]
        assert len(judged) == len(told.split("; on")) > 0
        for part, (before, r) in zip(re.split("; (?=on)", told), judged, strict=True):
            assert part.startswith(before)
            assert float(part.removeprefix(before).partition(" (")[0]) == round(r["mean"] or 0.0, 2)
            assert "-0.00" not in part
            assert r["verdict"] in part


def test_a_stale_number_is_put_right_and_nothing_else_is_touched() -> None:
    stale = re.sub(r"(<!-- row coverage/headline\.order\.sum\.all -->)\d\.\d\d", r"\g<1>9.99", TEXT)
    assert stale != TEXT
    assert filled(stale) == TEXT
    assert filled("no place\n") == "no place\n"


def test_what_is_declared_nowhere_cannot_be_quoted() -> None:
    with pytest.raises(ValueError, match=r"^row: expected one that is declared, got coverage/headline\.order\.sun$"):
        filled("<!-- row coverage/headline.order.sun --><!-- /row -->")


def test_every_advice_has_a_row_or_a_claim() -> None:
    items = re.findall(r"^\d+\. .*?(?=^\d+\. |^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert len(items) > 8
    assert all(PLACE.search(item) or "claim `" in item for item in items)
    assert set(re.findall(r"[Cc]laim\s+`([a-z_]+)`", TEXT)) <= set(load())
