"""The answer in six sentences: which are there, that their numbers are measured ones, and that it comes first."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from empirical.adapters import advice
from empirical.adapters import answer as answers
from empirical.adapters.answer import answer, share
from empirical.adapters.audit import audit
from empirical.adapters.files import read_adapter
from empirical.adapters.page import as_html
from empirical.adapters.report import Answered, AuditReport, Probes
from empirical.cli import main
from tests.empirical.adapters.folders import times
from tests.empirical.judged import rows
from theory.claims import load
from theory.merging import dilution_limit

QV: dict[str, Any] = {"targets": ["q_proj", "v_proj"]}
DEAD = QV | {"fill": times(0.0)}


#: which adapters -> (options of each, weights, what the answer must say; a question that is not named has no answer)
KINDS: dict[str, tuple[list[dict[str, Any]], list[float] | None, dict[str, str]]] = {
    "one": ([QV], None, {"merge": "lora-limits merge: rank 4 in 4 modules."}),
    "two on the same modules": (
        [QV, QV], None,
        {"merge": "or peft's cat: rank 8 in 4 modules; peft's default (svd, rank 4) misses", "keep": "The sum keeps",
         "disturb": "of what a", "join": "Do not expect", "do": "Merge with lora-limits merge; try it"},
    ),
    "two on other modules": (
        [{"targets": ["q_proj"]}, {"targets": ["v_proj"]}], None,
        {"merge": "rank 4 in 4 modules", "keep": "100% of a0 and 100% of a1, a mean 50% and 50%.",
         "disturb": "No two adapt the same module", "join": "Do not expect", "do": "Merge"},
    ),
    "one below the other": (
        [QV | {"layers_to_transform": [1]}, QV | {"layers_to_transform": [0]}], None,
        {"merge": "by lora-limits merge: rank 4 in 4", "keep": "100%", "disturb": "No two",
         "waste": "peft without a word: 2 of 4", "do": "Merge",
         "join": "Perhaps a fact of a1 with a fact of a0, in this order"},
    ),
    "embeddings below a layer": (
        [QV, {"targets": ["embed_tokens"]}], None,
        {"merge": "Exactly", "keep": "100%", "disturb": "No two", "join": "a1 acts wholly below a0", "do": ""},
    ),
    "the last matrix alone": (
        [{"targets": ["lm_head"]}, {"targets": ["lm_head"]}], None,
        {"merge": "in 1 module;", "keep": "mean", "disturb": "(mean over 1 module)",
         "join": "Never", "do": "two"},
    ),
    "a dead one": (
        [QV, DEAD], None,
        {"merge": "Exactly", "keep": "The sum keeps 100% of a0, a mean 50%.", "waste": "nothing: a1.",
         "do": "Leave out a1."},
    ),
    "one that is dead in a layer": (
        [QV | {"fill": times(a=0.0, only="layers.1.")}], None,
        {"merge": "rank 0 to 4", "waste": "An update of zero in 2 of 4 modules of a0."},
    ),
    "only dead ones": ([DEAD, DEAD], None, {"merge": "The sum is zero", "waste": "nothing: a0, a1."}),
    "the same twice and another": (
        [QV | {"seed": 5}, QV | {"seed": 5}, QV], None,
        {"merge": "rank 8", "keep": "The sum keeps 2", "disturb": "of what a", "waste": "One update twice: a0 = a1.",
         "join": "Do not", "do": "Leave out a1; merge the others"},
    ),
    "one against itself": (
        [QV | {"seed": 5}, QV | {"seed": 5}], [1.0, -1.0],
        {"merge": "The sum is zero", "waste": "a0 = a1", "do": "Leave out a1."},
    ),
    "one and its opposite": (
        [QV | {"seed": 5}, QV | {"seed": 5, "alpha": -8}], None,
        {"merge": "The sum is zero", "disturb": "100%", "waste": "One update at two strengths: a1 = -1 x a0.",
         "join": "Do not", "do": "Choose other weights: with these the updates cancel."},
    ),
    "one at half of its strength, and another": (
        [QV | {"seed": 5}, QV | {"seed": 5, "alpha": 4}, QV], None,
        {"merge": "Exactly", "keep": "of each", "disturb": "200%", "join": "Do not",
         "waste": "One update at two strengths: a1 = 0.5 x a0.", "do": "Merge with"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_says_what_there_is_to_say_and_no_more(kind, save_adapter):
    options, weights, expected = KINDS[kind]
    found = audit([save_adapter(f"a{i}", **{"seed": i + 1} | o) for i, o in enumerate(options)], weights)
    lines = dict(found.answer.lines())
    assert lines.keys() == expected.keys()
    for question, part in expected.items():
        assert part in lines[question], question
    for text in lines.values():  # one sentence each
        assert text.endswith(".")
        assert ". " not in text


def test_shares_of_the_sum_and_the_worst_pair_are_those_of_dense_algebra(save_adapter):
    folders = [save_adapter(f"a{i}", seed=i, r=2 + i, **QV) for i in range(3)]
    weights = [0.5, -1.5, 2.0]
    data = audit(folders, weights)
    parts = [read_adapter(f) for f in folders]
    dense = [np.concatenate([p.update(n).dense().ravel() for n in p.modules]) for p in parts]
    wanted = sum(w * d for w, d in zip(weights, dense, strict=True))
    kept = [float(d @ wanted / (d @ d)) for d in dense]
    assert answers._in_sum(data) == pytest.approx(kept, rel=1e-9)  # float64 sums of a few thousand entries
    assert f"The sum keeps {share(min(kept))} to {share(max(kept))} of each" in str(data.answer.keep)
    most = max(
        (way.mean_largest or 0.0, owner, doer)
        for p in data.total.pairs
        for way, owner, doer in ((p.second_on_first, p.first, p.second), (p.first_on_second, p.second, p.first))
    )
    assert f"On inputs that a{most[1]} reads, a{most[2]} does up to {share(most[0])}" in str(data.answer.disturb)
    assert "the worst of 3 pairs" in str(data.answer.disturb)


def asked(data: AuditReport, base: int, single: int, both: int, mean: int) -> AuditReport:
    return replace(data, probe=Probes((None,) * 9, Answered(base, single, both, both, mean), None))  # type: ignore[arg-type]


def test_what_the_probes_measured_decides_what_to_do(save_adapter):
    data = audit([save_adapter(f"a{i}", seed=i, **QV) for i in range(2)])
    good, lost, mean = (answer(asked(data, *counts)) for counts in ((0, 8, 8, 5), (1, 8, 5, 4), (0, 8, 3, 7)))
    assert "of 9 probes the base answers 1, the best adapter for each 8, the sum 5, a mean 4." in str(lost.keep)
    assert good.do == "Merge with lora-limits merge; ask in two steps what needs facts of two."
    assert "keep them apart where lost answers matter (3 of 8)" in str(lost.do)
    assert "lora-limits merge as a mean (--weights); keep them apart where lost answers matter (1 of 8)" in str(mean.do)


def test_limits_in_sentences_are_the_claims_own(save_adapter, monkeypatch):
    data = audit([save_adapter(f"a{i}", seed=i, targets=["lm_head"]) for i in range(3)])
    monkeypatch.setattr(answers, "additive_ceiling", lambda n, m: {10: 0.123, 1000: 0.045}[n])
    assert "at most 12% with 10 bridges, 4% with 1000 bridges" in str(answer(data).join)
    # the sentence of the verdict on means, in words: k adapters hold while gain > k deficits
    (text,) = (s.text for s in data.verdict if s.claim == "dilution")
    assert "only if its gain exceeds 3 times the deficit" in text
    assert dilution_limit(3.0 * 0.7 + 1e-9, 0.7) == 3
    assert dilution_limit(3.0 * 0.7 - 1e-9, 0.7) == 2


def test_the_answer_stands_first_and_its_reasons_where_they_are_asked_for(save_adapter, tmp_path, capsys, monkeypatch):
    folders = [str(save_adapter("a", seed=1, **QV)), str(save_adapter("[b]", seed=2, r=2, **QV))]
    files = ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["audit", *folders, *files]) == 0
    plain = capsys.readouterr().out
    assert main(["audit", *folders, "--why"]) == 0
    why = capsys.readouterr().out
    top = plain.partition("\n\n")[0]
    first = [line.split()[0] for line in top.splitlines() if line[0] != " "]
    assert first == ["merge", "keep", "disturb", "join", "do"]
    assert why.startswith(top)
    assert "of a and" in top
    assert "of [b], a mean" in top  # no markup
    assert all(len(line) <= 80 for line in plain.splitlines())
    ids = [f"{claim}: " for claim in load()]
    assert not any(i in plain for i in ids)
    assert sum(why.count(i) for i in ids) == len(audit(folders).verdict)
    assert plain.count("same r value") == 1  # five types refuse for one reason
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert report["answer"]["waste"] is None
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.index("<dl") < page.index("<h2>")
    for text in filter(None, report["answer"].values()):
        assert " ".join(text.split()[:3]) in " ".join(plain.split())
        assert as_html(audit(folders)).count(text.replace("'", "&#x27;")) == 1


def test_the_errors_that_advice_names_are_those_that_were_measured():
    measured = {r["id"]: r for r in rows("audit_outcomes", "cpu")}
    for forecast, told in advice.ORDERED.items():
        found = [measured[f"{group}.rank.kept.sum.{forecast}"]["mean"] for group in ("scratch", "pretrained")]
        assert told == pytest.approx(found, abs=0.005), forecast
    gains = {name: row["mean"] or 0.0 for name, row in measured.items() if ".error.kept." in name}
    assert max(gains, key=gains.__getitem__) == "pretrained.error.kept.mean.additive", "docs/audit.md names another"
