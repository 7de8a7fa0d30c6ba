"""The paper's machinery: the same bytes twice, missing and stale input named, typed numbers and holes noticed."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
from fractions import Fraction

from empirical.ladder import LAYERS, SOURCES
from paper import lint, material, tex
from paper.generate import RequestError, answers, generate
from paper.graph import claims_figure, depths, places
from paper.material import Material, MaterialError
from paper.parts import violations
from paper.sources import PAPER, texts, uses, without_comments
from paper.values import Values
from theory.claims import load
from theory.verify.run import sources_hash

ROOT = Path(__file__).resolve().parents[2]


def verified(parts: dict[str, dict[str, str]]) -> dict[str, Any]:
    """A verification in which everything passed; `parts`: claim -> prediction -> verdict."""

    def layer(claim: str, name: str) -> dict[str, Any]:
        found = parts.get(claim, {}) if name == "empirical" else {}
        return {"status": "pass", "part": "whole", "figure": {"name": "gap", "value": 1e-16, "unit": "relative"},
                "seconds": 0.1, "parts": found, "reason": None}  # fmt: skip

    environment = {"python": "3", "platform": "a test", "cores": 2, "packages": {"peft": "1", "torch": None},
                   "coq": "The Coq Proof Assistant, version 8", "commit": "0123456789", "dirty": False, "seconds": 60.0,
                   "sources": sources_hash(SOURCES)}  # fmt: skip
    claims = {c: {name: layer(c, name) for name in LAYERS} for c in load()}
    return {"schema": 1, "environment": environment, "claims": claims}


@pytest.fixture(scope="module")
def judged() -> dict[tuple[str, str], material.Run]:
    return material.judge_everything(material.RESULTS)


@pytest.fixture(scope="module")
def verification(tmp_path_factory: pytest.TempPathFactory, judged: dict[tuple[str, str], material.Run]) -> Path:
    from empirical.engine.catalogue import judged_profile

    profile = judged_profile(material.RESULTS)
    parts: dict[str, dict[str, str]] = {}
    for (_, under), run in judged.items():
        for row in run.rows:
            if under == profile:
                parts.setdefault(row["claim"], {})[row["id"]] = row["verdict"]
    path = tmp_path_factory.mktemp("build") / "verification.json"
    path.write_text(json.dumps(verified(parts)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def gathered(verification: Path, judged: dict[tuple[str, str], material.Run]) -> Material:
    claims = load()
    found = material.read_verification(verification, claims)
    material.check_measured(found, claims, judged, material.RESULTS)
    runs, unfinished = material.sort_runs(judged)
    return Material(claims, found, material.read_statements(material.STATEMENTS, claims), runs, unfinished)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory, gathered: Material) -> Path:
    out = tmp_path_factory.mktemp("first") / "generated"
    generate(gathered, PAPER, out, out.parent / "keys.txt")
    return out


def one_file(folder: Path, text: str) -> Path:
    (folder / "planted.tex").write_text(text, encoding="utf-8")
    return folder


# ---------------------------------------------------------------- generated parts


def test_twice_gives_the_same_bytes(tmp_path: Path, gathered: Material, generated: Path) -> None:
    written = generate(gathered, PAPER, tmp_path / "generated", tmp_path / "keys.txt")
    assert {"numbers.tex", "ladder.tex", "statements.tex", "figures/claims.pdf"} <= set(written)
    for name in written:
        assert (tmp_path / "generated" / name).read_bytes() == (generated / name).read_bytes(), name


def test_figures_embed_their_fonts_as_outlines(generated: Path) -> None:
    for path in sorted((generated / "figures").glob("*.pdf")):
        content = path.read_bytes()
        assert b"/Type3" not in content, path.name
        assert b"/FontFile2" in content, path.name


def test_every_listed_key_has_its_value(gathered: Material, generated: Path) -> None:
    values = Values(gathered)
    listed = dict(line.split("\t", 1) for line in (generated.parent / "keys.txt").read_text().splitlines())
    assert len(listed) > 100
    for key, value in listed.items():
        assert values(key) == value


def test_the_paper_can_be_written_before_any_run(gathered: Material) -> None:
    nothing = dataclasses.replace(gathered, runs={}, unfinished=dict.fromkeys(material.EXPERIMENTS, "no results yet"))
    text = answers(nothing, Values(nothing), {}, PAPER)
    assert text.count(r"\notfinished") >= len(material.EXPERIMENTS)
    assert r"\keep" not in text


def test_a_value_of_an_unfinished_experiment_is_marked(gathered: Material) -> None:
    nothing = dataclasses.replace(gathered, runs={}, unfinished=dict.fromkeys(material.EXPERIMENTS, "no results yet"))
    assert Values(nothing)("one_layer.anything.mean") == r"\pending{}"


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (r"\val{additive_ceilings.10.10}", "additive_ceilings"),
        (r"\val{additive_ceiling.10}", "additive_ceiling.10"),
        (r"\val{additive_ceiling.ten.3}", "additive_ceiling.ten.3"),
        (r"\val{rank_threshold.argmax.median}", "rank_threshold.argmax.median"),
        (r"\val{rank_threshold.setting.nothing.rank}", "nothing"),
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
def test_an_unknown_request_names_file_and_line(tmp_path: Path, gathered: Material, request_: str, named: str) -> None:
    folder = one_file(tmp_path, "text\n\n" + request_ + "\n")
    with pytest.raises(RequestError, match=re.escape(named)) as caught:
        answers(gathered, Values(gathered), {}, folder)
    assert str(caught.value).startswith("planted.tex:3: ")


def test_a_violation_without_an_explanation_says_so(gathered: Material) -> None:
    run = gathered.runs["one_layer"][0]
    planted = [{**run.rows[0], "verdict": "violated", "explained": None}, *run.rows[1:]]
    changed = dataclasses.replace(gathered, runs={"one_layer": [dataclasses.replace(run, rows=planted)]})
    text = violations(changed, "one_layer")
    assert text.count(r"\violation{") == 1 + sum(r["verdict"] == "violated" for r in run.rows[1:])
    assert "No explanation is known" in text


def test_values_come_from_theory_and_results(gathered: Material) -> None:
    from theory.additive import additive_ceiling

    values = Values(gathered)
    assert values("additive_ceiling.1000.10") == rf"\ensuremath{{{additive_ceiling(1000, 10):.3g}}}"
    run = gathered.runs["rank_threshold"][0]
    (law,) = [r for r in run.rows if r["id"] == "law"]
    assert values("rank_threshold.law.mean") == tex.number(sum(law["worlds"]) / len(law["worlds"]))
    assert values("rank_threshold.law.verdict") == rf"\verdict{{{law['verdict']}}}"


# ---------------------------------------------------------------- numbers and text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.375, "0.375"), (1, "1"), (1.0, "1"), (0.20345, "0.203"), (1234567, "1234567"), (12345.6, "12346"),
     (-0.5, "-0.5"), (2.5e-6, r"2.5\cdot 10^{-6}"), (Fraction(79, 108), r"\tfrac{79}{108}"), (Fraction(4, 2), "2")],
)  # fmt: skip
def test_numbers_are_set_as_they_are(value: float | Fraction, text: str) -> None:
    assert tex.number(value) == rf"\ensuremath{{{text}}}"


def test_text_is_escaped_and_odd_characters_are_refused() -> None:
    assert tex.escape("a_b <= 5 % of #|c|") == r"a\_b $\le$ 5 \% of \#\textbar{}c\textbar{}"
    with pytest.raises(ValueError, match="'漢'"):
        tex.escape("漢")


def test_spans_of_seeds() -> None:
    assert tex.spans([3, 1, 2, 7]) == "1--3, 7"


# ---------------------------------------------------------------- missing and stale input


def test_a_missing_verification_is_named(tmp_path: Path) -> None:
    with pytest.raises(MaterialError, match=r"verification\.json: .* no such file"):
        material.read_verification(tmp_path / "verification.json", load())


@pytest.mark.parametrize("change", ["sources", "claims", "damaged", "layer"])
def test_a_stale_or_damaged_verification_is_named(tmp_path: Path, change: str) -> None:
    document = verified({})
    if change == "sources":
        document["environment"]["sources"] = "0" * 64
    elif change == "claims":
        document["claims"].pop("merge_rank")
    elif change == "layer":
        document["claims"]["merge_rank"].pop("formal")
    text = json.dumps(document)
    path = tmp_path / "verification.json"
    path.write_text(text[:-20] if change == "damaged" else text, encoding="utf-8")
    with pytest.raises(MaterialError, match=r"verification\.json: expected"):
        material.read_verification(path, load())


def test_verdicts_of_other_results_are_stale(judged: dict[tuple[str, str], material.Run]) -> None:
    with pytest.raises(MaterialError, match=r"verification\.json: expected the verdicts of the present results"):
        material.check_measured(verified({}), load(), judged, material.RESULTS)


def test_missing_or_foreign_statements_are_named(tmp_path: Path) -> None:
    path = tmp_path / "statements.v.out"
    with pytest.raises(MaterialError, match=r"statements\.v\.out: .* no such file"):
        material.read_statements(path, load())
    path.write_text(material.STATEMENTS.read_text(encoding="utf-8").replace("adapter_merge\n", "adapter_merges\n", 1))
    with pytest.raises(MaterialError, match=r"statements\.v\.out: .*adapter_merge"):
        material.read_statements(path, load())


def test_a_record_of_another_grid_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "rank_threshold" / "cpu"
    folder.mkdir(parents=True)
    (folder / "0123456789abcdef.json").write_text("{}", encoding="utf-8")
    with pytest.raises(MaterialError, match=r"0123456789abcdef\.json: expected a cell of the present grid"):
        material.judge_everything(tmp_path)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "rank_threshold" / "cpu"
    shutil.copytree(ROOT / "empirical" / "results" / "rank_threshold" / "cpu", folder)
    broken = min(folder.glob("*.json"))
    broken.write_text("{}", encoding="utf-8")
    with pytest.raises(MaterialError, match=broken.name):
        material.judge_everything(tmp_path)


def test_an_incomplete_grid_is_not_finished(tmp_path: Path, judged: dict[tuple[str, str], material.Run]) -> None:
    run = judged["rank_threshold", "cpu"]
    short = dataclasses.replace(run, records=run.records[:-1])
    runs, unfinished = material.sort_runs({("rank_threshold", "cpu"): short})
    assert not runs
    assert f"{len(run.records) - 1} of {len(run.records)} cells" in unfinished["rank_threshold"]


# ---------------------------------------------------------------- the graph


def test_the_graph_shows_every_claim_once_and_no_boxes_overlap(gathered: Material) -> None:
    where, bands = places(gathered)
    assert set(where) == set(gathered.claims)
    assert len(set(where.values())) == len(where)
    for topic, first, last in bands:
        assert all(first <= where[c][1] <= last for c in where if gathered.claims[c].topic == topic)


def test_arrows_are_the_uses_of_the_registry(gathered: Material) -> None:
    from matplotlib.patches import FancyArrowPatch

    arrows = [p for p in claims_figure(gathered).axes[0].patches if isinstance(p, FancyArrowPatch)]
    assert len(arrows) == sum(len(c.uses) for c in gathered.claims.values())


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
    (problem,) = lint.typed_numbers("experiments_rank.tex", "Fine.\n" + planted + "\n")
    assert problem.startswith("experiments_rank.tex:2: ")


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
    assert list(lint.typed_numbers("experiments_rank.tex", without_comments(fine + "  % 37 of 40\n"))) == []


def test_mathematics_of_proofs_is_free_and_their_prose_is_not() -> None:
    body = "\\begin{equation}\n  x = 12\n\\end{equation}\nand $0.75$ but 12 more\n"
    assert list(lint.typed_numbers("merging.tex", body)) == [
        "merging.tex:4: expected a generated value, got the typed number '12'"
    ]


def test_every_claim_is_stated_once() -> None:
    assert list(lint.missing_claims(texts())) == []


def test_a_claim_that_is_not_stated_is_noticed() -> None:
    without = {file: text.replace(r"\claim{merge_rank}", "") for file, text in texts().items()}
    assert list(lint.missing_claims(without)) == [r"paper: expected \claim{merge_rank} once, got it 0 times"]


def test_every_claim_is_stated_in_the_file_of_its_topic() -> None:
    assert list(lint.misplaced_claims(texts())) == []
    moved = {"routing.tex": r"\claim{merge_rank}"}
    assert list(lint.misplaced_claims(moved)) == [
        r"routing.tex:1: expected \claim{merge_rank} in merging.tex, the file of its topic"
    ]


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
    ],
)
def test_a_warning_that_must_not_be_is_noticed(line: str) -> None:
    assert len(list(lint.log_problems(f"This is pdfTeX\n{line}\n"))) == 1


def test_a_small_overhang_passes() -> None:
    assert not list(lint.log_problems("Overfull \\hbox (4.99pt too wide) in paragraph at lines 5--6\n"))


def test_holes_in_the_pdf_are_noticed_with_their_page() -> None:
    assert list(lint.pdf_problems("fine\fsee Figure ??\f")) == ["pdf: expected no '??', got one on page 2"]


LATEX = pytest.mark.skipif(
    not (shutil.which("latexmk") and shutil.which("pdftotext")), reason="latexmk or pdftotext is not installed"
)


def latex(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    import os

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
    shutil.copytree(PAPER, folder, ignore=shutil.ignore_patterns("generated", "__pycache__", "*.py"))
    shutil.copytree(generated, folder / "generated")
    done = latex(folder, tmp_path / "out")
    assert done.returncode == 0, done.stdout[-2000:]
    assert list(lint.built_problems(tmp_path / "out")) == []


def test_a_build_without_a_pdf_is_noticed(tmp_path: Path) -> None:
    assert list(lint.built_problems(tmp_path)) == [f"{lint.NAME}.log: expected what LaTeX writes, got no such file"]
