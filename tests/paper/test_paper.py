"""The paper's machinery: the same bytes twice, missing and stale input named, typed numbers and holes noticed."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from empirical.engine import catalogue
from empirical.engine.catalogue import PROFILES
from empirical.engine.declaration import Declared
from empirical.engine.figures import plots
from empirical.engine.judge import Row, informative
from empirical.engine.records import RESULTS
from empirical.engine.show import spans
from paper import evidence, figures, lint, render, tables, words
from paper.evidence import Evidence, EvidenceError
from paper.generate import RequestError, answers, generate
from paper.graph import depths, layout
from paper.keys import UnknownKey, Values
from paper.manuscript import PAPER, sections, texts, uses, without_comments
from paper.requests import requests
from theory.claims import load, topics
from theory.provenance import ROOT
from theory.verify.formal import theorem_files

from .conftest import Judged, verified

#: of every figure of the paper: pairs of level names along an axis with less than a space between them
TOUCHING: list[tuple[str, str]] = []
#: of every figure of the paper: places of its axes, and what is drawn there
DRAWN: list[Any] = []


def drawn(figure: Any) -> Any:
    """Places of the axes, points of the lines and words of a figure."""
    return [
        (a.get_position().bounds, [x.get_xydata().tobytes() for x in a.lines], [t.get_text() for t in a.findobj(Text)])
        for a in figure.axes
    ]


def touching(figure: Any) -> Iterator[tuple[str, str]]:
    """Pairs of level names along a horizontal axis with less than a space between them."""
    space = 3 * figure.dpi / 72
    for axis in figure.axes:
        low, high = sorted(axis.get_xlim())
        shown = [t for t in axis.get_xticklabels() if t.get_text() and low <= t.get_position()[0] <= high]
        level = [(t.get_text(), t.get_window_extent()) for t in shown if not t.get_rotation()]
        for (name, box), (other, beside) in pairwise(sorted(level, key=lambda found: found[1].x0)):
            if beside.x0 - box.x1 < space and box.y0 < beside.y1 and beside.y0 < box.y1:
                yield name, other


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory, gathered: Evidence) -> Path:
    settle = figures.settle

    def settled(figure: Any) -> None:
        settle(figure)
        TOUCHING.extend(touching(figure))
        DRAWN.append(drawn(figure))

    out = tmp_path_factory.mktemp("first") / "generated"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "settle", settled)
        generate(gathered, PAPER, out, out.parent / "keys.txt")
    return out


# ---------------------------------------------------------------- generated parts


@pytest.mark.parametrize("name", catalogue.names())
def test_every_prediction_and_every_caption_can_be_set(name: str) -> None:
    """Of experiments that have not run too."""
    says = [p.says for profile in PROFILES for p in catalogue.load(name).declare(catalogue.settings(name, profile))]
    captions = [figures.caption(plot.draw) for plot in plots([name])]
    assert all(text.endswith(".") and "\n" not in text for text in captions)
    for text in (*says, *captions):
        assert render.escape(text).isascii()


def test_twice_gives_the_same_bytes(
    tmp_path: Path, gathered: Evidence, generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures of two experiments to the byte, the others before they are written as PDF, which is how all are."""
    again, save = [], figures.save

    def saved(figure: Any, path: Path) -> None:
        again.append(drawn(figure))
        if path.stem.startswith(("coverage", "one_layer")):
            save(figure, path)

    monkeypatch.setattr(figures, "save", saved)
    written = generate(gathered, PAPER, tmp_path / "generated", tmp_path / "keys.txt")
    assert {"numbers.tex", "ladder.tex", "statements.tex", "graph.tex", "experiments.tex"} <= set(written)
    assert sum(name.startswith("figures/") for name in written) > 3
    for name in written:
        assert (tmp_path / "generated" / name).read_bytes() == (generated / name).read_bytes(), name
    assert again == DRAWN


def test_every_theorem_stands_under_the_file_that_holds_it(generated: Path) -> None:
    plain = (generated / "statements.tex").read_text(encoding="utf-8").replace(r"\allowbreak{}", "").replace(r"\_", "_")
    held: dict[str, list[str]] = {}
    for part in plain.split(r"\subsection*")[1:]:
        (file,) = re.findall(r"\\code{proofs/(\w+)\.v}", part.partition("\n")[0])
        held |= {theorem: [file] for theorem in re.findall(r"\\formal{\\code{(\w+)}}", part)}
    assert held == theorem_files(ROOT / "proofs")


def test_the_appendix_names_the_commit_that_declared(gathered: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """And has dashes where the history is not there."""

    def table(found: Declared | None) -> str:
        monkeypatch.setattr(tables, "declared", lambda *run: found)
        about = {"evidence": gathered, "declarations": tables.declarations(gathered)}
        return render.template("declared.tex").render(about)

    named = table(Declared("1234567890", [("abcdef0123", True), ("fedcba9876", False)]))
    assert named.count(r"& \code{1234567} &") == len(gathered.all_runs)
    assert named.count(r"& \code{abcdef0} *, \code{fedcba9} &") == len(gathered.all_runs)
    nameless = table(None)
    for run in gathered.all_runs:
        said = run.records[0]["declaration"]
        assert rf"& \code{{{said}}} & -- & \code{{{run.commits}}} & -- &" in nameless


def test_figures_embed_their_fonts_as_outlines(generated: Path) -> None:
    for path in sorted((generated / "figures").glob("*.pdf")):
        content = path.read_bytes()
        assert b"/Type3" not in content, path.name
        assert b"/FontFile2" in content, path.name


def test_every_section_of_the_main_text_opens_with_its_result() -> None:
    main = (PAPER / "main.tex").read_text(encoding="utf-8").partition(r"\label{main:end}")[0]
    stems = re.findall(r"\\input\{(\w+)\}", main)
    text = "".join((PAPER / f"{stem}.tex").read_text(encoding="utf-8") for stem in stems)
    opening = re.findall(r"\\section\{.*\}\n\\label\{sec:(\w+)\}\n\n(.*)", text)
    assert [name for name, _ in opening] == [
        "question", "computes", "keeps", "cannot", "joins", "systems", "beforehand", "wrong", "guidance", "related",
        "limits",
    ]  # fmt: skip
    assert {name for name, line in opening if not line.startswith(r"\emph{")} == set()


@pytest.mark.usefixtures("generated")
def test_names_along_an_axis_do_not_touch() -> None:
    figure = Figure(figsize=(2, 2))
    axis = figure.subplots()
    axis.set_xticks(range(3), ["of one width", "of one width", "b"])
    figure.draw_without_rendering()
    assert list(touching(figure)) == [("of one width", "of one width")]
    assert TOUCHING == []


def test_no_text_of_a_figure_is_smaller_than_seven_points_in_print(generated: Path) -> None:
    """Of the files as they are written, at the width of the text, at which the page sets them."""
    margins = re.findall(r"(?:left|right)=(\d+)mm", (PAPER / "preamble.tex").read_text(encoding="utf-8"))
    text = (210 - sum(map(int, margins))) / 25.4 * 72
    files = sorted((generated / "figures").glob("*.pdf"))
    assert len(files) > len(catalogue.names())
    for path in files:
        content = path.read_bytes()
        (width,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) [\d.]+ \]", content)
        streams = [s for s in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL) if s[:1] == b"\x78"]
        drawn = b"\n".join(zlib.decompressobj().decompress(s) for s in streams)
        sizes = {float(s) for s in re.findall(rb"/F\d+ ([\d.]+) Tf", drawn)}
        assert sizes, path.name
        assert min(sizes) * text / float(width) >= 7, path.name


def test_every_listed_key_has_its_value(gathered: Evidence, generated: Path) -> None:
    values = Values(gathered)
    listed = dict(line.split("\t", 1) for line in (generated.parent / "keys.txt").read_text().splitlines())
    assert len(listed) > 100
    for key, value in listed.items():
        assert render.tex(values(key)) == value


def test_the_paper_can_be_written_before_any_run(gathered: Evidence) -> None:
    nothing = dataclasses.replace(gathered, runs={}, unfinished=dict.fromkeys(catalogue.names(), "no results yet"))
    text = answers(nothing, Values(nothing), {}, PAPER)
    assert text.count(r"\notfinished") >= len(catalogue.names())
    assert r"\keep" not in text
    assert Values(nothing)("one_layer.anything.mean") == words.PENDING


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (r"\val{additive_ceilings.10.10}", "additive_ceilings"),
        (r"\val{additive_ceiling.10}", "additive_ceiling.10"),
        (r"\val{additive_ceiling.ten.3}", "additive_ceiling.ten.3"),
        (r"\val{one_layer.cosine.median}", "one_layer.cosine.median"),
        (r"\val{one_layer.setting.nothing.rank}", "nothing"),
        (r"\val{one_layer.over.nothing.greatest}", "nothing"),
        (r"\claim{no_such_claim}", "no_such_claim"),
        (r"\claimref{no_such_claim}", "no_such_claim"),
        (r"\status{no_such_experiment}", "no_such_experiment"),
        (r"\judged{one_layer}{nothing.}", "nothing."),
        (r"\scores{one_layer}{two_hop}{scores}{nothing}{first}", "nothing"),
        (r"\scores{one_layer}{two_hop}{scores}{*}{nothing}", "nothing"),
        (r"\figref{no_such_figure}", "no_such_figure"),
        (r"\judged{one_layer}", "2 arguments"),
    ],
)
def test_an_unknown_request_names_file_and_line(tmp_path: Path, gathered: Evidence, request_: str, named: str) -> None:
    (tmp_path / "planted.tex").write_text("text\n\n" + request_ + "\n", encoding="utf-8")
    with pytest.raises(RequestError, match=re.escape(named)) as caught:
        answers(gathered, Values(gathered), {}, tmp_path)
    assert str(caught.value).startswith("planted.tex:3: ")


def test_a_violation_without_an_explanation_says_so(gathered: Evidence) -> None:
    run = gathered.runs["one_layer"][0]
    planted: list[Row] = [{**run.rows[0], "verdict": "violated", "explained": None}, *run.rows[1:]]
    changed = dataclasses.replace(gathered, runs={"one_layer": [dataclasses.replace(run, rows=planted)]})
    text = requests(changed, Values(changed), {})["violations"][1]("one_layer")
    assert text.count(r"\violation{") == 1 + sum(r["verdict"] == "violated" for r in run.rows[1:])
    assert "No explanation is known" in text


def test_values_come_from_theory_and_results(gathered: Evidence) -> None:
    from theory.additive import additive_ceiling

    values = Values(gathered)
    assert values("additive_ceiling.1000.10") == words.Number(additive_ceiling(1000, 10))
    assert "factor_average" not in values.functions  # of the registry too, but it gives an update
    run = gathered.runs["one_layer"][0]
    (cosine,) = [r for r in run.rows if r["id"] == "cosine"]
    assert values("one_layer.cosine.mean") == words.Number(words.mean(words.rates(cosine)))
    assert values("one_layer.cosine.verdict") == words.Verdict(cosine["verdict"])
    # what no record holds as a share, and its metrics add up over wordings
    scored = [r for r in gathered.runs["taught_coverage"][0].records if r.cell.group == "half"]
    asked = [r.metrics.answered["first_early"].questions["F_covered"] for r in scored]
    right = [sum(wording.old_forced for wording in a) / sum(wording.asked for wording in a) for a in asked]
    rate = values("taught_coverage.metric.world[group=half].scores.first_early.F_covered_old_forced.mean")
    assert rate == words.Number(words.mean(right))


# ---------------------------------------------------------------- numbers and text


@pytest.mark.parametrize(
    ("value", "tex", "html"),
    [
        (0.375, "0.375", "0.375"), (1, "1", "1"), (1.0, "1", "1"), (0.20345, "0.203", "0.203"),
        (1234567, "1234567", "1234567"), (12345.6, "12346", "12346"), (-0.5, "-0.5", "−0.5"),
        (2.5e-6, r"2.5\cdot 10^{-6}", "2.5\u202f×\u202f10<sup>−6</sup>"), (Fraction(4, 2), "2", "2"),
        (Fraction(79, 108), r"\tfrac{79}{108}", "79/108"), (float("-inf"), r"-\infty", "−∞"),
    ],
)  # fmt: skip
def test_a_number_is_set_in_both(value: float | Fraction, tex: str, html: str) -> None:
    assert render.tex(value) == rf"\ensuremath{{{tex}}}"
    assert render.html(value) == html


def test_many_ways_are_counted_and_those_that_violate_a_sentence_are_named() -> None:
    def said(holds: int, violated: int, undecided: int = 0) -> str:
        verdicts = [*["holds"] * holds, *["violated"] * violated, *["undecided"] * undecided]
        rows: Any = [{"verdict": verdict, "about": f"w{i}", "kind": "control"} for i, verdict in enumerate(verdicts)]
        return re.sub("<[^>]*>", "", render.html(words.methods(rows)))

    assert said(2, 1) == "holds for w0, w1; is violated by w2"
    assert said(9, 2) == "holds for 9 of 11 ways; is violated by w9, w10"
    assert said(1, 0, 9) == "holds for w0; is undecided for 9 of 10 ways"
    assert said(0, 9) == "is violated by w0, w1, w2, w3, w4, w5, w6, w7, w8"


def test_what_another_says_too_is_counted() -> None:
    def row(name: str, bound: float, worlds: list[float], **other: str) -> Any:
        said = {"about": name, "kind": "hypothesis", "relation": "at_most", "family": "f", "declared": "d"}
        return {**said, "verdict": "holds", "predicted": bound, "worlds": worlds, **other}

    def twice(*rows: Any) -> list[str]:
        return [row["about"] for row in words.twice(rows)]

    first, same = row("first", 0.5, [0.1, 0.2]), row("same", 0.5, [0.1, 0.2])
    assert twice(first, same) == ["same"]
    assert twice(row("loose", 0.6, [0.1, 0.2]), first) == ["loose"]
    least = [row(name, bound, [0.6, 0.7], relation="at_least") for name, bound in (("loose", 0.4), ("tight", 0.5))]
    assert twice(*least) == ["loose"]
    others = [row("other", 0.5, [0.1, 0.3]), {**same, "family": "g"}, {**same, "relation": "at_least"},
              {**same, "kind": "control"}, {**same, "declared": None}]  # fmt: skip
    assert twice(first, *others) == []
    said = re.sub("<[^>]*>", "", render.html(words.methods([first, same])))
    assert said == "holds for first, same (1 of them with the answers of another in every world)"


def test_ways_that_pass_a_bound_elsewhere_are_counted(gathered: Evidence) -> None:
    """Worked out beside, from what the records hold."""
    run = gathered.run("coverage")
    assert run
    worlds = [r.metrics.scores for r in run.records if r["cell"].get("group") == "headline"]
    bounds = {r["about"]: r["predicted"] for r in run.rows if r["id"].startswith("headline.uncovered.")}

    def over(about: str, cell: str) -> float:
        return sum(world[about][cell].rate for world in worlds) / len(worlds)

    passing = [about for about, bound in bounds.items() if over(about, "new_changed_covered_forced") > bound]
    both = [about for about in passing if over(about, "first_new") > bounds[about]]
    assert 0 < len(both) < len(bounds)
    above = "coverage.above.world[group=headline].[headline.uncovered.].scores.*."
    values = Values(gathered)
    assert values(above + "new_changed_covered_forced") == len(passing)
    assert values(above + "new_changed_covered_forced+first_new") == len(both)
    with pytest.raises(UnknownKey, match=r"nothing: expected values of sum:placed"):
        values(above + "nothing")


# ---------------------------------------------------------------- directions that are typed by hand

HEADLINE = "coverage.metric.world[group=headline].scores"
LIBRARY = "entities_library.metric.world[group=three].scores"
SOUPS = "entities_soups.metric.world[group=placed].scores"
TAUGHT = "taught_coverage.metric.world[group=half].scores"
#: start of the keys, greater, less: what the text says in words of two values that no row judges
SAID = [
    (HEADLINE, "sum:rows.new_changed_uncovered", "sum:placed.new_changed_uncovered"),
    (LIBRARY, "sum:all+all.H_country", "sum:all+all+all.H_country"),
    (LIBRARY, "sum:all+all.first", "sum:all+all+all.first"),
    (LIBRARY, "sum:all+all.second", "sum:all+all+all.second"),
    (LIBRARY, "sum:early+late.H", "sum:early+late+late.H"),
    (SOUPS, "lora_soups:early+late.H", "sum:early+late.H"),
    (SOUPS, "lora_soups:early+late.first_0", "lora_soups:early+late.first_1"),
    (TAUGHT, "first_early.F_covered_old", "first_early.F_uncovered_old"),
    (TAUGHT, "first_early.F_covered_old_forced", "sum:early+late.F_covered_old_forced"),
    (TAUGHT, "sum:early+late.F_covered_forced", "first_early.F_covered_forced"),
    (TAUGHT, "sum:early+late.F_covered_old_forced", "sum:early+late.F_uncovered_forced"),
    ("update_spectrum.metric.scratch.cuts", "register.1.asked.right", "facts_128.1.asked.right"),
    ("update_spectrum.metric.pretrained.cuts", "suffix.1.asked.right", "facts_64.1.asked.right"),
    ("update_spectrum.metric.scratch.lora", "register.1.asked.right", "facts_128.1.asked.right"),
    ("update_spectrum.metric.pretrained.lora", "suffix.1.asked.right", "facts_64.1.asked.right"),
]  # fmt: skip


def quoted() -> list[tuple[str, str]]:
    """(file, key) of every value in the text."""
    return [(file, use.arguments[0]) for file, text in texts().items() for use in uses(file, text, {"val": 1})]


@pytest.mark.parametrize(("start", "greater", "less"), SAID)
def test_a_direction_in_words_is_that_of_the_values(gathered: Evidence, start: str, greater: str, less: str) -> None:
    keys = [f"{start}.{end}.mean" for end in (greater, less)]
    assert set(keys) <= {key for _, key in quoted()}
    more, fewer = (Values(gathered)(key).value for key in keys)
    assert more > fewer


def test_the_best_methods_that_the_text_names_are_the_best(gathered: Evidence) -> None:
    """Of a library of three, in free text."""
    run = gathered.run("entities_library")
    assert run
    ways = [w for w in run.ways if w.on == "all+all+all, free text"]
    best = sorted((w for w in ways if w.covered), key=lambda w: -w.covered.mean)
    assert [w.method for w in best[:2]] == ["lora_soups", "arrow_top1_subtract_updates"]


def not_holding(evidence: Evidence, found: Sequence[tuple[str, str]]) -> list[str]:
    """Keys of rows that do not hold whose outcome stands in a file that does not give their verdict."""
    bare = []
    for file, key in found:
        name, _, field = key.rpartition(".")
        head, _, rest = name.partition(".")
        runs = evidence.runs.get(head, ())
        profile, _, of = rest.partition(".")
        if profile in catalogue.JUDGED:
            runs, rest = [run for run in runs if run.profile == profile], of
        held = [row["verdict"] == "holds" for run in runs[:1] for row in run.rows if row["id"] == rest]
        if (
            field in ("mean", "least", "greatest", "interval")
            and False in held
            and (file, f"{name}.verdict") not in found
        ):
            bare.append(key)
    return bare


def test_a_number_of_a_row_that_does_not_hold_stands_with_its_verdict(gathered: Evidence) -> None:
    """So that words of a direction do not outlive it."""
    assert not_holding(gathered, quoted()) == []
    row = "entities_methods.gpu.two.placed.all+all.data"
    assert not_holding(gathered, [("a", f"{row}.mean"), ("b", f"{row}.verdict")]) == [f"{row}.mean"]
    assert not_holding(gathered, [("a", f"{row}.mean"), ("a", f"{row}.verdict")]) == []


def passed_by_nothing(rows: Sequence[Row]) -> list[str]:
    """Equalities with what single experts foretell that hold where nothing at all is answered."""
    said = [r for r in informative(rows) if r["relation"] == "equal" and words.by_world(r)]
    return [r["id"] for r in said if words.target(r) <= r["margin"]]


def test_a_prediction_that_joining_nothing_passes_is_named_where_it_is_reported(gathered: Evidence) -> None:
    found = [f"{run.experiment}.{id_}.predicted" for run in gathered.first_runs for id_ in passed_by_nothing(run.rows)]
    assert found == ["entities.headline.law.all+all.free.predicted"]
    assert set(found) <= {key for _, key in quoted()}
    (row,) = [r for run in gathered.runs["entities"][:1] for r in run.rows if r["id"] == "headline.kept.all+all"]
    assert words.target(row) - row["margin"] <= 1 / 12  # as the text says, of chance by forced choice


def devices(evidence: Evidence, text: str) -> dict[str, set[str]]:
    """Experiment -> the profiles whose numbers stand in what is shown once it is finished."""
    found: dict[str, set[str]] = {}
    for use in uses("text", text, {"finished": 2}):
        for value in uses("text", use.arguments[1], {"val": 1}):
            head, profile, *_ = value.arguments[0].split(".")
            if runs := evidence.runs.get(head):
                named = profile if profile in catalogue.JUDGED else runs[0].profile
                found.setdefault(use.arguments[0], set()).add(named)
    return found


def test_a_section_sets_numbers_of_one_kind_of_device_side_by_side(gathered: Evidence) -> None:
    found = {k: v for text in texts().values() for k, v in devices(gathered, text).items()}
    assert len(found) > 10
    assert {name for name, profiles in found.items() if len(profiles) > 1} == set()
    mixed = r"\finished{taught_coverage}{\val{taught_coverage.tally} and \val{entities.tally}}"
    assert devices(gathered, mixed) == {"taught_coverage": {"cpu", "gpu"}}


def test_a_sentence_that_is_said_of_several_stands_once(gathered: Evidence) -> None:
    said = [
        ("sum: rises", "sum"),
        ("mean: rises", "mean"),
        ("mean: falls", "mean"),
        ("a control", ""),
        ("a control", ""),
    ]
    rows: Any = [{"id": str(i), "says": says, "about": about} for i, (says, about) in enumerate(said)]
    found = words.families(rows)
    assert [sentence for sentence, _ in found] == ["…: rises", "", "", ""]
    assert [[row["id"] for row in alike] for _, alike in found] == [["0", "1"], ["2"], ["3"], ["4"]]
    for run in gathered.all_runs:
        assert [row for _, alike in words.families(run.rows) for row in alike] == list(run.rows)


def test_every_run_stands_once_under_where_it_was_made(gathered: Evidence) -> None:
    found = tables.environments(gathered)
    verification, *runs = [made for there in found.values() for made in there]
    assert verification.name == "verification"
    assert sorted(render.html(made.name) for made in runs) == sorted(
        render.html((words.Code(run.experiment), f", {run.profile}")) for run in gathered.all_runs
    )
    for where, there in found.items():
        assert {made.where for made in there} == {where}


@pytest.mark.parametrize(
    ("phrase", "tex", "html"),
    [
        ("a_b <= 5 % of #|c|", r"a\_b \ensuremath{\le} 5 \% of \#\textbar{}c\textbar{}", "a_b &lt;= 5 % of #|c|"),
        (words.Code("a_b.c"), r"\code{a\_\allowbreak{}b.\allowbreak{}c}", "<code>a_b.c</code>"),
        (words.TeX(r"5\,\% of $x$"), r"5\,\% of $x$", "5\u202f% of <math><mi>x</mi></math>"),
        (("n ", 2, (words.PENDING, None)), r"n \ensuremath{2}\textit{not finished}--", "n 2<em>not finished</em>–"),
        (words.percent(0.25), r"\ensuremath{25}\,\%", "25\u202f%"),
        (words.setting([]), "--", "–"),
        (words.setting(["a_b", 2]), r"a b, \ensuremath{2}", "a b, 2"),
        (spans([3, 1, 2, 7]), "1--3, 7", "1–3, 7"),
    ],
)
def test_a_phrase_is_set_in_both(phrase: words.Phrase, tex: str, html: str) -> None:
    assert render.tex(phrase) == tex
    assert render.html(phrase) == html


def test_what_may_come_out_either_way_is_counted_apart_from_controls_and_theorems() -> None:
    def rows(kind: str, verdicts: str, declared: str | None = "a hash") -> list[Row]:
        said = {"h": "holds", "v": "violated", "u": "undecided"}
        found: Any = [{"kind": kind, "verdict": said[v], "declared": declared} for v in verdicts]
        return found

    asked = [*rows("exact", "hhhh"), *rows("hypothesis", "hhv"), *rows("control", "hhu"), *rows("ceiling", "hu")]
    counted = "2 of 3 hypotheses hold, 1 violated, 0 undecided; 1 of 2 ceilings hold, 0 violated, 1 undecided"
    apart = "2 of 3 controls hold, 1 undecided; 4 of 4 theorems about the very numbers hold"
    assert render.html(words.tally(asked)) == counted
    assert render.html(words.subset(asked)) == f"{counted}; {apart}"
    late = rows("hypothesis", "vh", declared=None)
    assert render.html(words.tally([*asked, *late])) == f"{counted}; 2 not declared before the run and not counted"
    not_declared = "1 of 2 hypotheses hold, 1 violated, 0 undecided (not declared before the run)"
    assert render.html(words.subset([*asked, *late])) == f"{counted}; {not_declared}; {apart}"


def test_characters_that_the_paper_cannot_set_are_refused() -> None:
    with pytest.raises(ValueError, match="'漢'"):
        render.tex("漢")


# ---------------------------------------------------------------- missing and stale input


@pytest.mark.parametrize("change", ["missing", "sources", "claims", "damaged", "layer"])
def test_a_missing_stale_or_damaged_verification_is_named(tmp_path: Path, change: str) -> None:
    document, path = verified({}), tmp_path / "verification.json"
    if change == "sources":
        document["environment"]["sources"] = "0" * 64
    elif change == "claims":
        document["claims"].pop("merge_rank")
    elif change == "layer":
        document["claims"]["merge_rank"].pop("formal")
    if change != "missing":
        path.write_text(json.dumps(document)[: -20 if change == "damaged" else None], encoding="utf-8")
    with pytest.raises(EvidenceError, match=r"verification\.json: expected"):
        evidence.read_verification(path, load())


def test_verdicts_of_other_results_are_stale(judged: Judged) -> None:
    with pytest.raises(EvidenceError, match=r"verification\.json: expected the verdicts of the present results"):
        evidence.check_measured(verified({}), load(), judged, RESULTS)


def test_missing_or_foreign_statements_are_named(tmp_path: Path) -> None:
    path = tmp_path / "statements.v.out"
    with pytest.raises(EvidenceError, match=r"statements\.v\.out: .* no such file"):
        evidence.read_statements(path, load())
    path.write_text(evidence.STATEMENTS.read_text(encoding="utf-8").replace("adapter_merge\n", "adapter_merges\n", 1))
    with pytest.raises(EvidenceError, match=r"statements\.v\.out: .*adapter_merge"):
        evidence.read_statements(path, load())


@pytest.mark.parametrize("name", ["0123456789abcdef.json", "damaged"])
def test_a_foreign_or_damaged_record_is_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "one_layer" / "cpu"
    shutil.copytree(RESULTS / "one_layer" / "cpu", folder)
    broken = min(folder.glob("*.json")) if name == "damaged" else folder / name
    broken.write_text("{}", encoding="utf-8")
    with pytest.raises(EvidenceError, match=broken.name):
        evidence.judge_everything(tmp_path)


def test_an_incomplete_grid_is_not_finished(tmp_path: Path, judged: Judged) -> None:
    run = judged["one_layer", "cpu"]
    short = dataclasses.replace(run, records=run.records[:-1])
    runs, unfinished = evidence.sort_runs({("one_layer", "cpu"): short})
    assert not runs
    assert f"{len(run.records) - 1} of {len(run.records)} cells" in unfinished["one_layer"]


# ---------------------------------------------------------------- the graph


def test_the_graph_shows_every_claim_once_and_no_boxes_overlap() -> None:
    claims = load()
    graph = layout(claims)
    assert set(graph.corners) == set(claims)
    assert len(set(graph.corners.values())) == len(claims)
    width, height = graph.box
    for topic, top, tall in graph.bands:
        for claim, (x, y) in graph.corners.items():
            assert (top <= y and y + height <= top + tall) == (claims[claim].topic == topic)
            assert 0 <= x <= graph.width - width


def test_arrows_are_the_uses_of_the_registry_and_cross_no_box() -> None:
    claims = load()
    graph = layout(claims)
    width, height = graph.box
    assert {(e.used, e.claim) for e in graph.edges} == {(used, c.id) for c in claims.values() for used in c.uses}
    for edge in graph.edges:
        left, top = graph.corners[edge.used]
        assert edge.curves[0][0] == (left + width, top + height / 2)
        for (_, (x, y)), (to, down) in zip(edge.curves, [start for start, _ in edge.curves[1:]], strict=False):
            assert y == down  # straight across a column, where there is no box
            assert not [c for c, (left, top) in graph.corners.items() if x < left < to and top <= y <= top + height]


def test_depth_is_the_longest_chain() -> None:
    assert depths({"a": (), "b": ("a",), "c": ("a", "b")}) == {"a": 0, "b": 1, "c": 2}


# ---------------------------------------------------------------- lint of the text


def test_the_paper_has_no_typed_number() -> None:
    assert [p for file, text in texts().items() for p in lint.typed_numbers(file, text)] == []


@pytest.mark.parametrize(
    "planted",
    [
        "The sum answers 37 of all.", "It reaches 0.37 in the mean.", "A share of 5\\,\\% holds.",
        r"It is $0.37$ here.",
        r"All $120$ hold.", r"\emph{Only 3 hold.}", r"\texttt{0.37} is reached.", "Seventeen worlds agree.",
        r"\caption{Of 12 rows one fails.}", "See \\val{a.b} and 4 more.",
    ],
)  # fmt: skip
def test_a_typed_number_is_noticed(planted: str) -> None:
    (problem,) = lint.typed_numbers("experiments/rank.tex", "Fine.\n" + planted + "\n")
    assert problem.startswith("experiments/rank.tex:2: ")


@pytest.mark.parametrize(
    "fine",
    [
        r"Ranks $r_1$ and $r_2$ with $1/m$.", r"\val{additive_ceiling.1000.10} of all", r"\cite[p.~3]{hu2021lora}",
        r"\code{SmolLM2-135M} is the base.", r"\vspace{3mm}", r"\label{fig:a1}",
        r"\includegraphics[width=0.5\textwidth]{f1}",
        r"\begin{tabularx}{0.9\textwidth}{@{}p{3cm}X@{}}", "peft's H100 run",
    ],
)  # fmt: skip
def test_what_is_no_typed_number_passes(fine: str) -> None:
    assert list(lint.typed_numbers("experiments/rank.tex", without_comments(fine + "  % 37 of 40\n"))) == []


def test_mathematics_of_proofs_is_free_and_their_prose_is_not() -> None:
    body = "\\begin{equation}\n  x = 12\n\\end{equation}\nand $0.75$ but 12 more\n"
    assert list(lint.typed_numbers("merging.tex", body)) == [
        "merging.tex:4: expected a generated value, got the typed number '12'"
    ]


def test_every_claim_and_every_experiment_has_its_place() -> None:
    assert [*lint.missing_claims(texts()), *lint.misplaced_claims(texts()), *lint.missing_sections(texts())] == []


def test_a_claim_or_an_experiment_without_its_place_is_noticed() -> None:
    without = {file: text.replace(r"\claim{merge_rank}", "").replace(r"\status{coverage}", "")
               for file, text in texts().items()}  # fmt: skip
    assert list(lint.missing_claims(without)) == [r"paper: expected \claim{merge_rank} once, got it 0 times"]
    (said,) = lint.missing_sections(without)
    assert said.startswith(r"paper: expected \status{coverage} once in paper/experiments/*.tex")
    assert list(lint.misplaced_claims({"routing.tex": r"\claim{merge_rank}"})) == [
        r"routing.tex:1: expected \claim{merge_rank} in merging.tex, the file of its topic"
    ]


def test_sections_stand_in_the_order_of_their_experiments() -> None:
    assert sections(["coverage", "rank_threshold"])[:2] == ["experiments/coverage", "experiments/rank"]
    assert {f"{s}.tex" for s in sections(catalogue.names())} == {f for f in texts() if f.startswith("experiments/")}
    assert {f"{topic}.tex" for topic in topics(load())} <= set(texts())


def test_arguments_are_read_with_nested_braces_and_line_breaks() -> None:
    (use,) = uses("f.tex", "a\n\\judged{one}{x{y},\n  z}", {"judged": 2})
    assert (use.line, use.arguments) == (2, ("one", "x{y}, z"))


# ---------------------------------------------------------------- lint of a build


@pytest.mark.parametrize(
    "line",
    [
        "LaTeX Warning: Reference `fig:nope' on page 3 undefined on input line 5.",
        "Package natbib Warning: Citation `nope' on page 1 undefined on input line 3.",
        "LaTeX Warning: There were undefined references.",
        "LaTeX Warning: Label `a' multiply defined.",
        "Overfull \\hbox (5.01pt too wide) in paragraph at lines 5--6",
        "Overfull \\vbox (12.0pt too high) has occurred while \\output is active",
        "LaTeX Warning: Float too large for page by 40.24223pt on input line 29.",
    ],
)
def test_a_warning_that_must_not_be_is_noticed(line: str) -> None:
    fine = "Overfull \\hbox (4.99pt too wide) in paragraph at lines 5--6"
    assert len(list(lint.log_problems(f"{fine}\n{line}\n"))) == 1


def test_holes_in_the_pdf_and_a_missing_one_are_noticed(tmp_path: Path) -> None:
    assert list(lint.built_problems(tmp_path)) == [f"{lint.NAME}.log: expected what LaTeX writes, got no such file"]
    assert list(lint.pdf_problems("fine\fsee Figure ??\f")) == ["pdf: expected no '??', got one on page 2"]


def test_a_main_text_that_is_too_long_is_noticed() -> None:
    said = r"\newlabel{{main:end}}{{{{11}}{{{}}}{{Limits of this work}}{{section.11}}{{}}}}"
    assert list(lint.length_problems(said.format(14))) == []
    assert list(lint.length_problems(said.format(15))) == ["aux: expected main:end by page 14, got it on page 15"]
    assert list(lint.length_problems("")) == ["aux: expected main:end by page 14, got no such label"]


LATEX = pytest.mark.skipif(
    not (shutil.which("latexmk") and shutil.which("pdftotext")), reason="latexmk or pdftotext is not installed"
)


def latex(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    options = ["-pdf", "-interaction=nonstopmode", "-halt-on-error", f"-outdir={out}", f"-jobname={lint.NAME}"]
    environment = os.environ | {"max_print_line": "1000"}
    return subprocess.run(
        ["latexmk", *options, "main.tex"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@LATEX
def test_planted_holes_are_noticed_in_a_real_build(tmp_path: Path) -> None:
    (tmp_path / "main.tex").write_text(
        "\\documentclass{article}\\begin{document}See \\ref{nope} and \\cite{nope}.\n\n"
        "\\noindent\\rule{\\textwidth}{1pt}\\rule{9pt}{1pt}\\end{document}\n", encoding="utf-8")  # fmt: skip
    latex(tmp_path, tmp_path)
    found = "\n".join(lint.built_problems(tmp_path))
    assert "`nope'" in found
    assert "Overfull" in found
    assert "'??'" in found


@LATEX
def test_the_paper_builds_without_a_hole(tmp_path: Path, generated: Path) -> None:
    folder = tmp_path / "paper"
    shutil.copytree(PAPER, folder, ignore=shutil.ignore_patterns("generated", "__pycache__", "*.py", "*.j2"))
    shutil.copytree(generated, folder / "generated")
    done = latex(folder, tmp_path / "out")
    assert done.returncode == 0, done.stdout[-2000:]
    assert list(lint.built_problems(tmp_path / "out")) == []
