"""audit_outcomes: tiny worlds of both kinds live, forecasts held against other ways to them, and planted outcomes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from empirical.adapters.audit import audit
from empirical.adapters.trained import save_adapter
from empirical.engine import catalogue
from empirical.engine.records import Record, RecordError
from empirical.engine.sealed import check, sealing
from empirical.engine.settings import Count, as_json
from empirical.experiments.audit_outcomes import predictions
from empirical.experiments.audit_outcomes import run as experiment
from empirical.experiments.audit_outcomes.forecast import BASE, KEPT, Taught, added, geometry, of_geometry
from empirical.experiments.audit_outcomes.predictions import Pairs, error, gain, rank
from empirical.experiments.audit_outcomes.run import OWN, Bench, Draw, Pool, names
from empirical.experiments.audit_outcomes.tables import (
    Alone,
    Foretold,
    Line,
    Measured,
    Merged,
    PretrainedCell,
    ScratchCell,
    Settings,
)
from empirical.experiments.known import known_world
from empirical.reuse.methods import weighted_sum
from empirical.tasks.entities import REAL
from empirical.tasks.sentences import collate
from empirical.training.adapter import AdapterShape, answer_logits
from empirical.training.bases import BaseShape, scratch_base, updated
from tests.empirical.experiments.live import live, spoilt, verdicts


@pytest.fixture(scope="module")
def settings() -> Settings:
    return catalogue.settings("audit_outcomes", "smoke")


@pytest.fixture(scope="module")
def cell(settings: Settings) -> ScratchCell:
    return ScratchCell.of(settings.scratch, seed=100)


@pytest.fixture(scope="module")
def bench(cell: ScratchCell) -> Bench:
    return experiment.scratch(cell, "cpu")


@pytest.fixture(scope="module")
def pool(cell: ScratchCell, bench: Bench) -> Pool:
    return Pool(cell, bench)


@pytest.fixture(scope="module")
def result(cell: ScratchCell) -> Record:
    return live("audit_outcomes", cell)


# ------------------------------------------------------------ what is taught, and which merges


def rows(taught: Taught) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(prompt, answer) of every sentence."""
    (batch,) = collate([taught])
    found = []
    for i, tokens in enumerate(taught.tokens.tolist()):
        answers = batch.columns[batch.rows == i]
        found.append((tuple(tokens[: min(answers)]), tuple(tokens[min(answers) : max(answers) + 1])))
    return found


def check_lessons(cell: ScratchCell | PretrainedCell, bench: Bench) -> None:
    taught = {name: rows(bench.lessons[name].taught) for name in names(cell)}
    prompts = {name: [prompt for prompt, _ in found] for name, found in taught.items()}
    assert all(len(found) == cell.lesson for found in prompts.values())
    facts = [p for i in range(cell.facts) for p in prompts[f"facts {i}"]]
    assert len(set(facts)) == len(facts), "facts have prompts of their own"
    for i in range(cell.contested):
        assert prompts[f"contested {i}"] == prompts[f"facts {i}"]
        pairs = zip(taught[f"contested {i}"], taught[f"facts {i}"], strict=True)
        assert sum(a != b for (_, a), (_, b) in pairs) > cell.lesson / 2
    for i in range(cell.again):
        assert taught[f"again {i}"] == taught[f"facts {cell.facts - cell.again + i}"]
    for i in range(cell.changed):
        assert not set(prompts[f"changed {i}"]) & set(facts)
    own = {prompt for prompt, _ in rows(bench.own)}
    assert not own & {p for found in prompts.values() for p in found}, "what the base is asked is taught to none"
    for style in cell.styles:
        assert not {p for p, _ in rows(bench.lessons[style].probes)} & set(prompts[style])


def test_lessons_are_what_their_names_say(cell: ScratchCell, bench: Bench) -> None:
    check_lessons(cell, bench)
    world = known_world(cell, cell.seed)
    before = {tuple(row[:2]): row[2] for row in world.second_hops("old").tokens.tolist()}
    taught = bench.lessons["changed 0"].taught.tokens.tolist()
    assert all(before[tuple(row[:2])] != row[2] for row in taught), "the base knows another answer"


def test_merges_are_drawn_of_the_pool_whatever_its_adapters_are(settings: Settings) -> None:
    cells = experiment.cells(catalogue.settings("audit_outcomes", "cpu"))
    assert sum(len(experiment.draws(c)) for c in cells) >= 150
    sizes = set()
    for each in cells:
        drawn = experiment.draws(each)
        assert [d.weights for d in drawn] == ["sum", "mean"] * (each.merges // 2)
        assert all(len(np.unique(d.members)) == len(d.members) for d in drawn)
        assert all(d.each.sum() == pytest.approx(len(d.members) if d.weights == "sum" else 1.0) for d in drawn)
        sizes |= {len(d.members) for d in drawn}
    assert sizes == set(range(2, 9))
    for wrong, said in (
        ({"sizes": (2, 99)}, r"sizes: expected two numbers from 2 to 8, the smaller first, got \(2, 99\)"),
        ({"again": 9}, "contested, again: expected at most 3, as facts"),
        ({"styles": ("loud",)}, "styles: expected one of register, prefix, suffix"),
    ):
        with pytest.raises(ValueError, match=said):
            experiment.cells(settings.but(scratch=settings.scratch.but(**wrong)))
    with pytest.raises(ValueError, match="lesson: expected 3 times as many sentences, got 60 of 24"):
        experiment.scratch(ScratchCell.of(settings.scratch, seed=1).but(lesson=60, base_steps=1), "cpu")


# ------------------------------------------------------------ forecasts


def test_geometry_is_what_the_audit_says_of_the_adapters_on_disk(
    tmp_path: Path, cell: ScratchCell, bench: Bench, pool: Pool
) -> None:
    chosen = [0, 3, 4, 6]
    folders = [tmp_path / f"adapter{i}" for i in chosen]
    for folder, i in zip(folders, chosen, strict=True):
        r = pool.alone[pool.names[i]].rank
        save_adapter(folder, pool.updates[i], AdapterShape(r, experiment.SCALE * r))
    weights = [1.0, 1.0, 1.0, 1.0]
    report = audit(folders, weights)
    found = geometry(bench.base, [pool.updates[i] for i in chosen])
    said, norm = of_geometry(found, np.arange(4), np.array(weights))
    others = {key: np.zeros((4, 4)) for key in ("keys", "interference")}
    for pair in report.total.pairs:
        i, j = pair.first, pair.second
        assert found.inner[i, j] / np.sqrt(found.inner[i, i] * found.inner[j, j]) == pytest.approx(pair.cosine)
        others["keys"][i, j] = others["keys"][j, i] = pair.keys_share
        others["interference"][i, j] = pair.second_on_first.mean_largest
        others["interference"][j, i] = pair.first_on_second.mean_largest
    for key, table in others.items():
        assert said[key] == pytest.approx(table.sum(axis=1))
    mean = of_geometry(found, np.arange(4), np.full(4, 0.25))[0]
    assert mean["cosine"] == pytest.approx([t.kept_by_mean for t in report.total.adapters])
    base = np.sqrt(sum(float(bench.base.get_submodule(m.name).weight.double().square().sum()) for m in report.modules))
    assert norm == pytest.approx(report.total.norm / base)
    half = of_geometry(found, np.arange(2), np.array([1.0, 0.5]))[0]
    assert half["keys"] == pytest.approx([others["keys"][0, 1] / 2, others["keys"][0, 1] * 2])


def test_shares_are_those_of_added_logits(bench: Bench, pool: Pool) -> None:
    """By logits of single models, question by question."""
    draw = Draw(np.array([0, 3, 6]), "mean")
    for number, name in enumerate([pool.names[j] for j in draw.members] + [OWN]):
        probes = bench.own if name == OWN else bench.lessons[name].probes
        (batch,) = collate([probes])
        with torch.no_grad():
            plain, answers = answer_logits(bench.base, batch)
            alone = []
            for j in draw.members:
                with updated(bench.base, pool.updates[j]) as model:
                    alone.append(answer_logits(model, batch)[0])
        known = plain if name == OWN else alone[number]

        def right(logits: torch.Tensor, given: Any = answers, rows: Any = batch.rows) -> np.ndarray:
            whole = np.ones(len(set(rows)), dtype=bool)
            np.logical_and.at(whole, rows, (logits.argmax(dim=1) == given).numpy())
            return whole

        asked = right(known)
        if not asked.any():
            continue
        together = plain + sum((a - plain) / 3 for a in alone)
        assert pool.share(name, draw) == pytest.approx(right(together)[asked].mean())
        if name != OWN:
            own = plain + (alone[number] - plain) / 3
            assert pool.share(name, draw, draw.members[number]) == pytest.approx(right(own)[asked].mean())


def test_one_adapter_at_full_weight_is_foretold_exactly(pool: Pool) -> None:
    states = added(pool.base[OWN], [pool.asked[2][OWN]], [1.0])
    torch.testing.assert_close(states, pool.asked[2][OWN])
    one = Draw(np.array([2]), "sum")
    name = pool.names[2]
    merged = pool.merge(one)
    assert merged.kept[0].rate == pool.share(name, one) == 1.0
    assert merged.base.rate == pytest.approx(pool.share(OWN, one), abs=0.02)


# ------------------------------------------------------------ sealed first


def run_watched(cell: ScratchCell, bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Run a world; for every merge that is made, how many forecasts were on the disk when it was made."""
    made: list[int] = []

    def watched(*args: Any) -> Any:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        made.append(sum(len(json.loads(line)["value"]) for line in lines))
        return weighted_sum(*args)

    monkeypatch.setattr(experiment, "weighted_sum", watched)
    (path.parent.parent).mkdir(exist_ok=True)
    with sealing(path):
        experiment.measured(cell, bench)
    return made


def test_every_forecast_is_on_the_disk_before_the_first_merge_is_made(
    cell: ScratchCell, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_watched(cell, bench, tmp_path / "sealed" / "a.json", monkeypatch) == [cell.merges] * cell.merges
    # the watch would see a world that makes its merges first
    monkeypatch.setattr(experiment, "seal", lambda name, value: value)
    assert run_watched(cell, bench, tmp_path / "sealed" / "b.json", monkeypatch) == [0] * cell.merges


def test_a_forecast_that_was_changed_after_the_merge_is_refused(result: Record) -> None:
    with sealing(None) as sealed:
        sealed.add("foretold", result.metrics.foretold)
    check(sealed.text, result.raw["metrics"], "a record")
    kept = result.metrics.merged[0].kept[0].rate
    seen = spoilt(result, "foretold", 0, "said", "additive", 0, to=kept + 0.001)
    with pytest.raises(RecordError, match="expected foretold as it was sealed, got another value"):
        check(sealed.text, seen.raw["metrics"], "a record")


# ------------------------------------------------------------ how forecasts are judged


def test_error_gain_and_rank_by_hand() -> None:
    pairs = Pairs(np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.25, 1.0]))
    assert error(pairs, None) == pytest.approx(0.25 / 3)
    spread = np.abs(pairs.kept - pairs.kept.mean()).mean()
    assert gain(pairs, None) == pytest.approx(spread - 0.25 / 3)
    assert gain(pairs, Line(start=float(pairs.kept.mean()), slope=0.0)) == pytest.approx(0.0)
    assert error(pairs, Line(start=2.0, slope=0.0)) == pytest.approx(1 - pairs.kept.mean())  # no share above 1
    assert rank(pairs, None) == pytest.approx(1.0)
    assert rank(pairs, Line(start=0.0, slope=-1.0)) == pytest.approx(-1.0)
    assert rank(pairs, Line(start=0.0, slope=0.0)) is None
    assert rank(Pairs(pairs.said, np.ones(3)), None) is None
    nothing = Pairs(np.zeros(0), np.zeros(0))
    assert error(nothing, None) is gain(nothing, None) is rank(nothing, None) is None


def world(settings: Settings, seed: int, foretells: str) -> Record:
    """A world in which this number foretells what is kept, and all others the reverse."""
    rng = np.random.default_rng(seed)
    group = settings.scratch
    cell = ScratchCell.of(group, seed=seed)
    foretold, merged = [], []
    for draw in experiment.draws(cell):
        kept = rng.integers(0, 101, size=len(draw.members) + 1)
        lines = settings.lines[draw.weights]

        def says(number: str, shares: Any, lines: Any = lines) -> Any:
            line = predictions.line_of(lines, number)
            shown = shares / 100 if number == foretells else 1 - shares / 100
            return tuple(float(x) for x in (shown if line is None else (shown - line.start) / line.slope))

        foretold.append(Foretold(
            adapters=tuple(names(cell)[j] for j in draw.members), weights=draw.weights,
            said={n: says(n, kept[1:]) for n in KEPT}, base={n: says(n, kept[:1])[0] for n in BASE},
        ))  # fmt: skip
        merged.append(Merged(kept=tuple(Count(int(k), 100) for k in kept[1:]), base=Count(int(kept[0]), 100)))
    known = Count(100, 100)
    alone = {n: Alone(rank=1, before=Count(0, 100), right=known, base=known) for n in names(cell)}
    made = Measured(base=known, adapters=alone, beyond=-0.1, foretold=tuple(foretold), merged=tuple(merged))
    return live("audit_outcomes", cell, as_json(made))


@pytest.mark.parametrize("number", sorted({*KEPT, *BASE}))
def test_a_number_that_foretells_is_seen_and_one_that_does_not_is_refuted(number: str) -> None:
    settings = catalogue.settings("audit_outcomes", "cpu")
    records = [world(settings, seed, number) for seed in range(60, 60 + settings.worlds.scratch)]
    said = {p.id: p for p in predictions.declare(settings)}
    judged = {id_: v for id_, v in verdicts("audit_outcomes", settings, records).items() if said[id_].about}
    assert number in {said[id_].about for id_ in judged}
    for id_, verdict in judged.items():
        foretells = said[id_].about == number
        holds = foretells == (said[id_].relation == "at_least")
        assert verdict == ("hypothesis", "holds" if holds else "violated"), id_


def test_a_bound_that_is_broken_stops_the_world(settings: Settings, result: Record) -> None:
    assert verdicts("audit_outcomes", settings, [result])["scratch.bound"] == ("exact", "holds")
    assert -1 < result.metrics.beyond < 0, "near enough to be broken by what is a little larger"
    found = catalogue.load("audit_outcomes").broken(settings, [spoilt(result, "beyond", to=1e-6)])
    assert found is not None
    assert found.startswith("scratch.bound: expected, by interference, ")


# ------------------------------------------------------------ the pretrained group


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """A model of random weights with a tokenizer of single bytes, as a folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    folder = tmp_path / "model"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    scratch_base(BaseShape(len(letters), 16, 2, 2, 16, positions=160), 1).save_pretrained(folder)
    return folder


def test_a_world_in_a_pretrained_base(tiny_model: Path) -> None:
    profile = catalogue.settings("audit_outcomes", "cpu")
    cell = PretrainedCell.of(profile.pretrained, seed=60).but(
        base=str(tiny_model), layers=1, lesson=3, steps=1, batch=2, merges=2, ranks=(1, 4)
    )
    check_lessons(cell, experiment.pretrained(cell, "cpu"))
    found = live("audit_outcomes", cell).metrics
    assert set(found.adapters) == set(names(cell))
    assert [len(f.adapters) for f in found.foretold] == [len(m.kept) for m in found.merged]
    assert found.base.asked == len(REAL)
    assert found.beyond <= 0
