"""The entities experiment: its questions, greedy answers by name, and one tiny world through every path."""

import itertools
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from empirical.engine import catalogue
from empirical.engine.catalogue import settings as config
from empirical.engine.eager import seal
from empirical.engine.records import Record
from empirical.engine.settings import Count, as_json
from empirical.experiments.entities import model as language
from empirical.experiments.entities import run as entities
from empirical.experiments.entities.figures import plots
from empirical.experiments.entities.tables import BaseCell, Settings, WorldCell
from empirical.tasks.entities import (
    DIRECT,
    FAMILIES,
    FIRST,
    HELD_OUT,
    REAL,
    SECOND,
    EntityShape,
    World,
    direct,
    examples,
    written_out,
)
from tests.empirical.experiments.live import live, verdicts
from theory.composition import chain_of_thought

WORLDS = st.builds(
    lambda seed, people, countries: (seed, EntityShape(people, countries)),
    st.integers(0, 10**6),
    st.integers(1, 20),
    st.integers(2, 12),
)


def small(**changes: Any) -> Settings:
    tiny = {"people": 2, "countries": 2, "steps": 3, "batch": 4, "methods": ("ties", "arrow_top1", "random")}
    found: Settings = config("entities", "smoke").but(**{**tiny, **changes})
    return found


@pytest.fixture(scope="module")
def base():
    return language.base_model(language.SCRATCH, "cpu")


@pytest.fixture(scope="module")
def records(base: language.Base) -> list[Record]:
    """Every cell of the tiny grid."""
    return [live("entities", cell) for cell in entities.cells(small())]


def world_of(records: list[Record]) -> Record:
    return next(r for r in records if isinstance(r.cell, WorldCell))


# ------------------------------------------------------------ questions


def between(prompt, wording):
    """What stands in the place of the name, or None if the prompt is not of this wording."""
    before, after = wording.replace("{y}", "{x}").split("{x}")
    fits = prompt.startswith(before) and prompt.endswith(after)
    return prompt[len(before) : len(prompt) - len(after)] if fits else None


def parse(prompt, wordings):
    found = {between(prompt, w) for w in wordings} - {None}
    assert len(found) >= 1
    return min(found, key=len)  # the longest wording that fits leaves the shortest name


@settings(max_examples=25, deadline=None)
@given(WORLDS)
def test_every_question_has_one_right_answer_and_it_is_the_one_that_the_statements_imply(drawn):
    seed, shape = drawn
    rows = list(examples(seed, shape.people, shape.countries))
    assert len({r["id"] for r in rows}) == len(rows)
    home, capital = {}, {}
    for r in rows:  # from the one-hop statements of the training split alone
        if r["split"] == "train" and r["kind"] == "first":
            assert home.setdefault(parse(r["prompt"], FIRST[:-1]), r["answer"]) == r["answer"]
        if r["split"] == "train" and r["kind"] == "second":
            assert capital.setdefault(parse(r["prompt"], SECOND[:-1]), r["answer"]) == r["answer"]
    assert len(home) == 3 * shape.people
    assert len(set(capital.values())) == len(capital) == 3 * shape.countries
    for r in rows:
        if r["kind"] == "direct":
            assert r["answer"] == capital[home[parse(r["prompt"], DIRECT)]]
            assert r["hops"] == 2
        if r["kind"] == "written_out":
            first, _, second = r["prompt"].partition(". ")
            person, country = next((x, y) for x, y in home.items() if first == f"{FIRST[HELD_OUT].format(x=x)} {y}")
            assert r["answer"] == capital[country]
            assert second == SECOND[HELD_OUT].format(y=country)
            assert person in home
    assert {r["answer"] for r in rows} <= set(home.values()) | set(capital.values())


@settings(max_examples=25, deadline=None)
@given(WORLDS)
def test_names_are_apart_and_splits_share_no_prompt(drawn):
    seed, shape = drawn
    world = World(shape, seed)
    made_up = [p.name for p in world.people] + world.countries["F"]
    made_up += [world.capital[y] for f in ("H", "F") for y in world.countries[f]]
    assert len(set(made_up)) == len(made_up)
    real = [n for c in REAL for n in (c.name, c.capital, *c.people)]
    assert not set(made_up) & set(real)
    names = sorted({*made_up, *real})
    # no name begins another: a greedy text stands for one name at most ("Mexico" and "Mexico City" would not do)
    assert not [(a, b) for a, b in itertools.pairwise(names) if b.startswith(a)]
    assert {y: world.old[y] for y in world.countries["R"]} == {y: world.capital[y] for y in world.countries["R"]}
    assert not {world.old[y] for y in world.countries["H"]} & {world.capital[y] for y in world.countries["H"]}
    rows = list(examples(seed, shape.people, shape.countries))
    train = {r["prompt"] for r in rows if r["split"] == "train"}
    test = {r["prompt"] for r in rows if r["split"] == "test"}
    assert train
    assert test
    assert not train & test
    assert rows == list(examples(seed, shape.people, shape.countries))


def test_a_world_of_too_few_known_countries_is_refused():
    with pytest.raises(ValueError, match="known: expected at least 16 real countries, got 3"):
        World(EntityShape(), 0, REAL[:3])


# ------------------------------------------------------------ answers


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5).flatmap(lambda n: st.tuples(*[st.lists(st.sampled_from("abc"), min_size=n, max_size=n)] * 2)))
def test_chance_is_the_mean_over_all_permutations(drawn):
    given_answers, right = drawn
    n = len(right)
    total = sum(
        Fraction(sum(given_answers[j] == right[i] for i, j in enumerate(order)), n)
        for order in itertools.permutations(range(n))
    )
    exact = total / len(list(itertools.permutations(range(n))))
    # one division of whole numbers: correctly rounded
    assert entities.permuted_chance(given_answers, right) == float(exact)
    assert entities.permuted_chance([None] * n, right) == 0.0


@pytest.mark.parametrize(
    ("text", "ended", "name"),
    [
        (" Paris.", False, "Paris"),
        ("paris\n", False, "Paris"),
        (" Parisian", False, None),
        (" New Delhi is", False, "New Delhi"),
        (" New York", False, None),
        (" Paris", True, "Paris"),
        (" Par", True, None),
        (" the city", False, None),
    ],
)
def test_a_name_is_read_off_the_beginning_of_a_text(text, ended, name):
    assert language.read_name(text, ["Paris", "New Delhi"], ended) == language.Finished(name)


@pytest.mark.parametrize("text", ["", " ", " Par", " Paris", " New"])
def test_a_text_that_can_still_become_a_name_is_written_on(text):
    assert language.read_name(text, ["Paris", "New Delhi"]) is None


def test_greedy_names_are_those_of_the_plain_greedy_text(base):
    """Padding, the cache and stopping early change nothing."""
    world = World(EntityShape(4, 4), 3, REAL[: language.SCRATCH_COUNTRIES])
    asked = [*direct(world.famous("R")), *direct(world.people), *written_out(world.people)]
    names = [c.capital for c in REAL]
    found = base.reader.names(base.model, [q.prompt for q in asked], names)
    assert len({len(base.reader.prompt(q.prompt)) for q in asked}) > 3
    for question, name in zip(asked, found, strict=True):
        tokens = base.reader.prompt(question.prompt)
        start = len(tokens)
        with torch.no_grad():
            for _ in range(10):
                tokens.append(int(base.model(torch.tensor([tokens])).logits[0, -1].argmax()))
        text = base.reader.tokenizer.decode(tokens[start:])
        assert language.read_name(text, names, ended=True) == language.Finished(name)
    assert sum(n is not None for n in found) > 5


def test_own_text_is_what_the_model_says(base):
    texts = base.reader.texts(base.model)
    assert language.agreement(base.model, texts) == Count(24 * language.TEXT, 24 * language.TEXT)
    texts.tokens[texts.answers] += 1
    assert language.agreement(base.model, texts).right < 24 * language.TEXT / 2


def test_the_survey_keeps_what_the_base_knows(base):
    found = language.survey(language.SCRATCH, "cpu")
    taught = {c.name for c in REAL[: language.SCRATCH_COUNTRIES]}
    assert len(taught) / 2 < len(found.known) <= len(taught)
    assert {c.name for c in found.known} <= taught
    assert found.composed <= {x for c in REAL for x in c.people}
    held_out = {SECOND[HELD_OUT].format(y=c.name) for c in REAL}
    assert not held_out & {q.prompt for asked in found.replay.values() for q in asked}


def test_a_base_that_is_not_there_is_named_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="expected a base with a tokenizer") as raised:
        language.base_model(str(tmp_path / "nothing"), "cpu")
    assert "\n" not in str(raised.value)


# ------------------------------------------------------------ grid and predictions


def test_grids_report_no_calibration_world_and_have_enough_of_them() -> None:
    for profile in ("smoke", "cpu", "gpu"):
        grid = entities.cells(config("entities", profile))
        assert min(c.seed for c in grid) >= 100  # seeds below 100 were used to choose rate and steps
        worlds = [c for c in grid if isinstance(c, WorldCell)]
        if profile == "gpu":
            assert {c.rank for c in worlds} == {4, 16, 64}
        if profile == "cpu":
            assert len(worlds) >= 3
            assert len([c for c in grid if isinstance(c, BaseCell)]) >= 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("summ",)}, "method: expected one of"),
        ({"groups": [{"name": "a", "worlds": 1, "first_seed": 0, "seed": 1}]}, "got seed"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        entities.cells(small(**changes))


def test_lessons_hold_no_test_question_and_replay_nothing_of_the_world(base):
    cell = next(c for c in entities.cells(small(countries=4)) if isinstance(c, WorldCell))
    run = entities.WorldRun(cell, "cpu")
    asked = {q.prompt for f in FAMILIES for q in direct(run.people[f])}
    asked |= {w.format(x=p.name) for p in run.world.people for w in (FIRST[HELD_OUT],)}
    asked |= {SECOND[HELD_OUT].format(y=y) for f in FAMILIES for y in run.tables[f]}
    famous = {p.name for f in ("R", "H") for p in run.world.famous(f)}
    for name in entities.EXPERTS:
        job = run.job(name)
        assert sum(p.weight for p in job.parts) == pytest.approx(1.0, abs=1e-12)  # a handful of roundings of shares
        texts = [
            run.reader.tokenizer.decode(row[: int(n)])
            for part in job.parts[:-1]  # the last one is the base's own text
            for row, n in zip(part.sentences.tokens, part.sentences.lengths, strict=True)
        ]
        assert not [t for t in texts if any(t.startswith(q) for q in asked)]
        assert not [t for t in texts if any(x in t for x in famous)]
        assert not [t for t in texts if any(f" {y} " in f" {t} " for y in run.world.countries["R"]) and "capital" in t]
        direct_ones = [t for t in texts if "capital" in t and any(p.name in t for p in run.world.people)]
        assert bool(direct_ones) == (name in ("joint_bridge", "direct"))


def test_every_condition_is_scored_with_what_it_damages(records: list[Record]) -> None:
    world = world_of(records).metrics
    names = {"base", *entities.EXPERTS, "sum", "ties", "arrow_top1", "random"}
    assert set(world.scores) == set(world.chance) == set(world.written) == names
    for counts in world.scores.values():
        assert all(0 <= k <= n for k, n in counts.values())
        assert all(counts[f"{hop}_{f}"].asked == 2 for f in FAMILIES for hop in ("first", "direct", "second"))
    assert world.scores["base"]["text"].rate == 1.0
    assert world.scores["base"]["famous_H"].right == 0
    assert world.scores["base"]["second_R"] == Count(2, 2)


def test_the_law_is_read_off_the_single_experts(records: list[Record]) -> None:
    world = world_of(records).metrics
    law, famous = world.predicted.law.value, world.scores["second"]["famous_H"]
    assert law.retrieval == world.scores["first"]["direct_R"].rate
    assert law.p2 == (famous.rate if famous.asked else 0.0)
    assert law.low == law.retrieval * law.p2
    assert seal(law).sha256 == world.predicted.law.sha256
    steps = world.written["sum"].predicted.value["F"]
    assert steps.lower == chain_of_thought(steps.s1.rate, steps.s2.rate).lower


def test_predictions_are_fixed_by_kind_and_exact_ones_hold(records: list[Record]) -> None:
    found = verdicts("entities", small(), records)
    assert [name for name, (kind, verdict) in found.items() if kind == "exact" and verdict != "holds"] == []
    assert {kind for kind, _ in found.values()} == {"exact", "hypothesis", "control"}
    wanted = ("uncovered.sum", "uncovered.joint", "law.R", "law.H", "chain.lower", "bridge_data", "damage.first")
    assert {f"worlds.{w}" for w in wanted} | {"base.given"} <= set(found)


def test_a_wrong_outcome_is_judged_violated(records: list[Record]) -> None:
    """Composition where none is predicted, and a chain below its bound, planted in twelve worlds."""
    plain = world_of(records)
    metrics: Any = as_json(plain.metrics)
    for name in metrics["scores"]:
        metrics["scores"][name]["direct_F"] = [2, 2]
        metrics["chance"][name]["F"] = 0.25
    metrics["written"]["sum"]["predicted"]["value"]["F"]["lower"] = 1.0
    metrics["written"]["sum"]["reached"]["F"] = [1, 2]
    worlds = [live("entities", plain.cell.but(seed=seed), metrics) for seed in range(12)]
    found = verdicts("entities", small(), worlds)
    for name in ("uncovered.sum", "uncovered.joint", "random", "chain.lower"):
        assert found[f"worlds.{name}"][1] == "violated", name


def test_one_method_that_answers_half_of_what_nobody_should_is_not_hidden_by_the_others() -> None:
    """In the committed worlds, and twelve of them: one method answers half of F, all others as they did."""
    plain = next(r for r in catalogue.records("entities", "cpu") if not isinstance(r.cell, BaseCell))
    metrics: Any = as_json(plain.metrics)
    asked = metrics["scores"]["mean"]["direct_F"][1]
    metrics["scores"]["mean"]["direct_F"] = [asked // 2, asked]
    twelve = [live("entities", plain.cell.but(seed=seed), metrics) for seed in range(12)]
    found = {
        k: v
        for k, (_, v) in verdicts("entities", config("entities", "cpu"), twelve).items()
        if k.startswith("worlds.uncovered.")
    }
    assert [k for k, v in found.items() if v == "violated"] == ["worlds.uncovered.mean"]
    assert len(found) > 5


def test_figures_name_every_condition(records: list[Record]) -> None:
    for draw in plots.values():
        figure = draw(records, [])
        assert figure is not None
        names = [t.get_text() for t in figure.axes[0].get_xticklabels()]
        assert "joint bridge" in names
        assert "sum" in names
