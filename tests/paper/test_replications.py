"""Two runs of an experiment side by side: what is paired, what is refused, and how it came out."""

import dataclasses
import math
import re
from typing import Any, ClassVar

import pytest
from scipy.stats import ttest_ind

from empirical.engine.predictions import INFORMATIVE
from paper import render, site, words
from paper.evidence import Evidence, EvidenceError, Run
from paper.keys import UnknownKey, Values
from paper.replications import CAME, Pair, counts, replications, unlike

from .test_site import row


class Made(dict[str, Any]):
    """A record that sealed nothing."""

    raw: ClassVar[dict[str, Any]] = {}


def run(profile: str, first_seed: int, *rows: Any, **settings: Any) -> Run:
    """Of the experiment `planted`, in three worlds."""
    records: Any = [
        Made(cell={"kind": "world", "size": 4, **settings, "seed": first_seed + i}, metrics={}) for i in range(3)
    ]
    return Run("planted", profile, records, rows)


def two(gathered: Evidence, first: Run, again: Run) -> Evidence:
    """Evidence of these runs alone."""
    return dataclasses.replace(gathered, runs={"planted": [first, again]}, unfinished={})


def table(evidence: Evidence, name: str = "replications.tex") -> str:
    """As the paper or the page has it."""
    found = replications(evidence)
    about = {"found": found, "again": found, "unlike": unlike(evidence), "counts": counts, "came": CAME,
             "number": words.Number}  # fmt: skip
    return render.template(name).render(about)


VERDICTS = {"kept": ("holds", "holds"), "lost": ("holds", "undecided"), "gained": ("undecided", "holds"),
            "open": ("undecided", "undecided"), "broken": ("holds", "violated")}  # fmt: skip


def sides() -> list[list[Any]]:
    """A row for every way to come out, of each run."""
    return [[row(id=name, says=f"that {name} is so", verdict=verdicts[k], predicted=0.25, worlds=[[k + 1, 4]] * 2)
             for name, verdicts in VERDICTS.items()] for k in range(2)]  # fmt: skip


def test_what_does_not_hold_in_both_is_shown_with_both_means_and_counted(gathered: Evidence) -> None:
    first, again = sides()
    again[1]["explained"] = "planted reason"
    both = two(gathered, run("cpu", 1, *first), run("gpu", 4, *again))
    (found,) = replications(both)
    assert [pair.came for pair in found.pairs] == ["both", "first", "again", "neither", "violated"]
    assert [found.count(came) for came in CAME] == [1] * 5
    assert counts([found]) == {"experiments": 1, "rows": 5, **dict.fromkeys(CAME, 1), "held": 3, "apart": 5}
    assert found.worlds == [2, 2]
    for name in ("replications.tex", "replications.html"):
        counted, _, listed = table(both, name).partition("does not hold in both")
        assert "planted" in counted
        assert "planted reason" in listed
        for pair in found.pairs:
            assert (pair.first["says"] in listed) == (pair.came != "both"), pair.first["id"]
        shown = re.sub(r"<[^>]*>|\\ensuremath|\\verdict|[{}]", " ", listed)
        assert re.search(r"0\.25 +\[.*holds.*\n?.*0\.5 +\[.*violated|holds.*0\.25.*violated.*0\.5", shown)


@pytest.mark.parametrize(
    ("field", "other"),
    [("predicted", 0.26), ("margin", 0.1), ("relation", "at_least"), ("says", "something else"), ("kind", "hypothesis"),
     ("claim", "dilution"), ("about", "mean"), ("predicted", [0.25, 0.25])],
)  # fmt: skip
def test_another_prediction_under_the_same_name_is_refused(gathered: Evidence, field: str, other: object) -> None:
    first, again = sides()
    again[1][field] = other
    with pytest.raises(EvidenceError, match=f"one_layer, lost: expected the same prediction .* another {field}: "):
        replications(two(gathered, run("cpu", 1, *first), run("gpu", 4, *again)))


def test_what_is_predicted_world_by_world_may_differ_and_is_shown_of_both(gathered: Evidence) -> None:
    rows = [row(predicted=predicted) for predicted in ([0.1, 0.3], [0.5, 0.7])]
    (found,) = replications(two(gathered, run("cpu", 1, rows[0]), run("gpu", 4, rows[1])))
    assert render.html(found.pairs[0].predicted) == "≤ 0.2 (by world); ≤ 0.6 (by world)"
    assert render.html(Pair(row(), row()).predicted) == "≤ 0.5"


def test_a_world_in_both_runs_is_refused_and_other_settings_are_left_out(gathered: Evidence) -> None:
    with pytest.raises(EvidenceError, match="planted, gpu: expected other worlds than under cpu, got seed 3 in both"):
        replications(two(gathered, run("cpu", 1, row()), run("gpu", 3, row())))
    larger = two(gathered, run("cpu", 1, row()), run("gpu", 4, row(predicted=0.6), size=8))
    assert (replications(larger), unlike(larger)) == ([], ["planted"])
    assert r"not compared: \code{planted}" in table(larger)
    assert unlike(two(gathered, run("cpu", 1, row()), run("gpu", 4, row()))) == []


def test_only_what_was_declared_and_may_come_out_either_way_is_compared(gathered: Evidence) -> None:
    rows = [row(id="a"), row(id="b", kind="control"), row(id="c", kind="exact"), row(id="d", declared=None)]
    first, again = ([*rows, row(id=mine), row(id="g", declared=a), row(id="h", declared=b)]
                    for mine, a, b in (("e", "hash", None), ("f", None, "hash")))  # fmt: skip
    (found,) = replications(two(gathered, run("cpu", 1, *first), run("gpu", 4, *again)))
    assert [pair.first["id"] for pair in found.pairs] == ["a"]


@pytest.mark.parametrize(
    ("first", "again"),
    [([0.1, 0.2, 0.4], [0.5, 0.9, 0.8, 0.6]), ([0.1, 0.2, 0.4], [0.2, 0.3, 0.25]), ([0.0, 0.0], [0.1, 0.4, 0.3]),
     ([0.31, 0.32], [0.33, 0.4]), ([0.5, 0.4, 0.0], [0.8, 1.0, 0.9, 0.7])],
)  # fmt: skip
def test_means_are_apart_where_welch_says_so(first: list[float], again: list[float]) -> None:
    pair = Pair(row(worlds=first), row(worlds=again))
    assert pair.apart == (ttest_ind(first, again, equal_var=False).pvalue <= 0.05)


def test_means_without_spread_are_apart_where_they_differ_and_one_world_tells_nothing() -> None:
    assert not Pair(row(worlds=[0.5, 0.5]), row(worlds=[[1, 2], [1, 2]])).apart
    assert Pair(row(worlds=[0.5, 0.5]), row(worlds=[0.25, 0.25])).apart
    assert not Pair(row(worlds=[0.5]), row(worlds=[0.1, 0.1, 0.1])).apart


def test_the_largest_difference_is_one_of_shares(gathered: Evidence) -> None:
    first = [row(id="bits", worlds=[3.0, 0.5]), row(id="share", worlds=[[1, 4]] * 2), row(id="gap", worlds=[-0.1, 0.1])]
    again = [row(id="bits", worlds=[9.0, 0.5]), row(id="share", worlds=[[3, 4]] * 2), row(id="gap", worlds=[0.3, 0.4])]
    (found,) = replications(two(gathered, run("cpu", 1, *first), run("gpu", 4, *again)))
    assert found.widest is found.pairs[1]
    assert [math.isnan(pair.difference) for pair in found.pairs] == [True, False, False]
    assert [pair.difference for pair in found.pairs[1:]] == pytest.approx([0.5, 0.35])


def test_keys_say_the_counts_and_name_a_run_by_its_profile(gathered: Evidence) -> None:
    first, again = sides()
    values = Values(two(gathered, run("cpu", 1, *first), run("gpu", 4, *again)))
    assert [values(f"again.{name}") for name in ("rows", "held", *CAME)] == [5, 3, 1, 1, 1, 1, 1]
    assert [values(f"planted{under}.kept.mean") for under in ("", ".cpu", ".gpu")] == [
        words.Number(0.25), words.Number(0.25), words.Number(0.5)]  # fmt: skip
    alone = Values(dataclasses.replace(gathered, runs={"planted": [run("gpu", 4, *again)]}, unfinished={}))
    assert alone("planted.cpu.kept.mean") == words.PENDING
    assert alone("again.rows") == 0
    assert "No experiment" in table(alone.evidence)


def test_a_key_names_the_share_of_a_method(gathered: Evidence) -> None:
    (gpu,) = [run for run in gathered.runs["entities_methods"] if run.profile == "gpu"]
    values = Values(gathered)
    (soups,) = [way for way in gpu.ways if (way.method, way.on) == ("lora_soups", "all+all, free text")]
    assert soups.first is not None
    assert values("entities_methods.gpu.way.lora_soups[all+all, free text].first") == words.Number(soups.first.mean)
    for wrong in ("nothing[all+all, free text].first", "lora_soups[all+all].first", "lora_soups.first",
                  "lora_soups[all+all, free text].uncovered"):  # fmt: skip
        with pytest.raises(UnknownKey, match="one line of the methods"):
            values(f"entities_methods.gpu.way.{wrong}")


def test_the_runs_of_this_repository_are_compared(gathered: Evidence) -> None:
    """Every row that both judged falls into one count, and the page has what does not hold in both."""
    found = replications(gathered)
    assert {one.first.profile for one in found} == {"cpu"}
    assert {one.again.profile for one in found} == {"gpu"}
    for one in found:
        rows = [
            {r["id"] for r in run.rows if r["kind"] in INFORMATIVE and r["declared"]} for run in (one.first, one.again)
        ]
        assert {pair.first["id"] for pair in one.pairs} == rows[0] & rows[1]
    total = counts(found)
    assert sum(total[came] for came in CAME) == total["rows"] == sum(len(one.pairs) for one in found)
    chosen = dataclasses.replace(gathered, runs={one.first.experiment: [one.first, one.again] for one in found[-1:]})
    shown = site.page(chosen)
    assert shown.count('<tr class="again">') == len(found[-1].open)
    assert 'href="#again"' in shown
