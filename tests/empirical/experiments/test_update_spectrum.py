"""What full fine-tuning changes: generators, grid, measures, and a tiny world through every path."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from empirical.engine.catalogue import settings as config
from empirical.engine.judge import judge, observe
from empirical.engine.records import Record
from empirical.engine.settings import Count, read
from empirical.experiments.update_spectrum import run as update_spectrum
from empirical.experiments.update_spectrum.optimisers import OPTIMISERS
from empirical.experiments.update_spectrum.predictions import declare, needed_rank
from empirical.experiments.update_spectrum.tables import Cut, LinearCell, Score, Settings
from empirical.tasks.sentences import collate
from empirical.tasks.styles import CARD, OBJECTS, STYLES, WorldStyles, dressed, examples
from empirical.tasks.two_hop import World, WorldShape
from empirical.training.adapter import Schedule, adamw, answer_loss
from empirical.training.bases import BaseShape, linear_modules, scratch_base
from tests.empirical.experiments.live import live, spoilt, verdicts
from theory.approximation import decay_spectrum, saturation_point

SHAPE = WorldShape(old_persons=12, new_persons=6, bridges=5, values=4, second_relations=2, changed_relations=1)
SCRATCH = {"name": "scratch", "kind": "scratch", "worlds": 2, "first_seed": 0}
TINY = {
    "linear": {"worlds": 2, "first_seed": 0, "facts": [4, 8, 16], "answers": 6, "width": 8, "ranks": [1, 4]},
    "scratch": {"bridges": 5, "width": 16, "layers": 2, "heads": 2, "feed_forward": 24, "base_steps": 4,
                "base_batch": 16, "base_rate": 1e-3, "facts": [3, 5, 10, 20], "compare": 10, "held": 6,
                "styles": ["register", "suffix"], "steps": 3, "batch": 8, "rate": 1e-3, "cuts": [1, 2, 8],
                "ranks": [1, 2], "lora_rate": 1e-3, "low": 2, "others": {"sgd": 0.05}},
    "groups": [SCRATCH],
}  # fmt: skip


def tiny(**changes: Any) -> Settings:
    whole = config("update_spectrum", "cpu").model_dump()
    return read(Settings, {**whole, **TINY, **changes}, "update_spectrum")


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Every cell of the tiny grid."""
    return [live("update_spectrum", cell) for cell in update_spectrum.cells(tiny())]


# ------------------------------------------------------------ generators


@pytest.mark.parametrize("style", STYLES)
def test_styled_sentences_say_the_same(style: str) -> None:
    world = World(SHAPE, 3)
    styles = WorldStyles(world)
    plain = world.first_hops(world.old)
    styled, asked = styles.styled(plain, style), styles.asked(plain, style)
    bridges = world.vocabulary.range("bridge")
    for i, (person, relation, bridge) in enumerate(plain.tokens.tolist()):
        says = {
            "register": [styles.first_twin + bridge - bridges.start],
            "prefix": [styles.opening, bridge],
            "suffix": [bridge, styles.closing],
        }[style]
        assert styled.tokens[i].tolist() == [person, relation, *says]
        assert asked.tokens[i].tolist() == [styles.tags[style], person, relation, *says]
    assert [styled.tokens.shape[1] - len(styled.answers), asked.tokens.shape[1] - len(asked.answers)] == [2, 3]
    assert max(asked.tokens.max(), styled.tokens.max()) < styles.size
    assert styles.tags[style] >= world.vocabulary.size


def test_styles_refuse_what_they_cannot_say() -> None:
    world = World(SHAPE, 0)
    styles = WorldStyles(world)
    with pytest.raises(ValueError, match="sentences: expected one answer each, a bridge at the end"):
        styles.styled(world.second_hops("old"), "prefix")
    with pytest.raises(ValueError, match="style: expected one of register, prefix, suffix"):
        styles.styled(world.first_hops(world.old), "loud")
    with pytest.raises(ValueError, match="expected at most 576 persons, got 600"):
        next(examples(0, 600, 0, 0))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_every_question_has_one_right_answer(seed: int, facts: int, train: int, test: int) -> None:
    rows = list(examples(seed, facts, train, test))
    assert rows == list(examples(seed, facts, train, test))
    assert len(rows) == facts + len(STYLES) * (train + test)
    assert len({r["id"] for r in rows}) == len(rows)
    people: dict[str, set[str]] = {"fact": set(), "train": set(), "test": set()}
    asked: dict[tuple[str, str], str] = {}
    for row in rows:
        question = "In the " + row["prompt"].split("In the ")[1]
        person = " ".join(question.split(", ")[1].split()[:2])
        people["fact" if row["kind"] == "fact" else row["split"]].add(person)
        assert asked.setdefault((row["style"], question), row["answer"]) == row["answer"]
        named = [w for w in row["choices"] if f" a {w} " in row["prompt"]]
        assert named == ([] if row["kind"] == "fact" else [row["content"]])
        # read back from the answer alone
        said = [w for w in OBJECTS if w in row["answer"].lower().replace(",", "").split()]
        assert said == [row["content"]]
        assert row["answer"] == dressed(row["content"], row["style"])
    assert [len(p) for p in people.values()] == [facts, train, test]
    assert len(set.union(*people.values())) == facts + train + test
    assert "Apache-2.0" in CARD


# ------------------------------------------------------------ grid


def test_what_was_calibrated_on_is_not_reported() -> None:
    for profile in ("cpu", "gpu"):
        grid = update_spectrum.cells(config("update_spectrum", profile))
        assert min(c.seed for c in grid) >= 100  # seeds below 100 were used to choose rates and sizes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": [{**SCRATCH, "compare": 7}]}, "compare: expected one of"),
        ({"groups": [{**SCRATCH, "styles": ["loud"]}]}, "styles: expected some of .*, got loud"),
        ({"groups": [{**SCRATCH, "ranks": [3]}]}, "ranks: expected ranks among the cuts"),
        ({"groups": [{**SCRATCH, "low": 8}]}, "low: expected one of the ranks"),
        ({"groups": [{**SCRATCH, "others": {"luck": 1.0}}]}, "others: expected some of sgd, matrix_scaled, got luck"),
        ({"groups": [{**SCRATCH, "facts": [10, 5]}]}, "facts: expected growing numbers"),
        ({"groups": [{**SCRATCH, "color": 1}]}, "group scratch: expected known keys, got color"),
    ],
)
def test_bad_configs_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        update_spectrum.cells(tiny(**changes))


# ------------------------------------------------------------ measures


def test_fits_find_the_decay_that_is_there() -> None:
    # the values are logarithms of exact powers: fits are exact up to rounding in 64-term sums
    assert update_spectrum.decay_fits(decay_spectrum("power", 1.3, 64)).power == pytest.approx(1.3, rel=1e-12)
    fitted = update_spectrum.decay_fits(decay_spectrum("exponential", 0.2, 64))
    assert fitted.exponential == pytest.approx(0.2, rel=1e-12)
    assert fitted.exponential_r95 == 8  # ceil(-ln(1 - .95 (1 - e^-25.6)) / .4) = ceil(7.49)


def test_singular_values_are_those_of_an_svd() -> None:
    rng = np.random.default_rng(0)
    for shape in ((12, 30), (30, 12)):
        left, right = (np.linalg.qr(rng.standard_normal((n, 12)))[0] for n in shape)
        planted = decay_spectrum("power", 1.5, 12)
        found = update_spectrum._values((left * planted) @ right.T)
        # eigenvalues of a Gram matrix of side 12, each with an error of some eps times the largest, which is 1
        assert np.abs(found**2 - planted**2).max() <= 4 * 30 * np.finfo(np.float64).eps
    assert update_spectrum._values(np.zeros((3, 2))).tolist() == [0.0, 0.0]


def test_gradient_in_chunks_is_that_of_all_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(SHAPE, 0)
    base = scratch_base(BaseShape(world.vocabulary.size, width=16, layers=2, heads=2, feed_forward=24), 0)
    base.requires_grad_(False)
    facts, modules = world.first_hops(world.new), linear_modules(base)
    model = copy.deepcopy(base).requires_grad_(True)
    answer_loss(model, collate([facts])).backward()
    monkeypatch.setattr(update_spectrum, "CHUNK", 5)
    found = update_spectrum.gradient(base, modules, facts)
    for name in modules:
        whole = model.get_submodule(name).weight.grad.double().numpy()
        # float32 sums of 12 sentences in another order
        assert np.allclose(found[name], whole, rtol=0, atol=12 * 2.0**-23 * np.abs(whole).max() * 8)
    assert not any(p.requires_grad for p in base.parameters())


def test_sentences_are_right_only_as_a_whole() -> None:
    world = World(SHAPE, 0)
    styles = WorldStyles(world)
    base = scratch_base(BaseShape(styles.size, width=16, layers=1, heads=2, feed_forward=24), 0)
    prompts = styles.styled(world.first_hops(world.old), "suffix")
    found = update_spectrum.measure(base, prompts)
    (batch,) = collate([prompts])
    with torch.no_grad():
        best = base(torch.as_tensor(batch.tokens)).logits.argmax(dim=2).numpy()
    right = sum(all(best[i, c - 1] == prompts.tokens[i, c] for c in prompts.answers) for i in range(len(best)))
    assert found.right == Count(right, len(best))


def test_needed_rank_is_the_least_that_keeps_the_task() -> None:
    def cut(k: int) -> Cut:
        score = Score(loss=0.0, right=Count(k, 10))
        return Cut(taught=score, asked=score)

    assert needed_rank({"1": cut(3), "4": cut(9), "16": cut(10), "r95": cut(10)}) == 4
    assert needed_rank({"1": cut(3), "4": cut(8), "r95": cut(10)}) == 8


# ------------------------------------------------------------ a tiny grid


def test_tiny_worlds_run_and_are_judged(records: list[Record]) -> None:
    found = verdicts("update_spectrum", tiny(), records)
    assert {kind for kind, _ in found.values()} == {"exact", "hypothesis", "control"}
    assert [name for name, (kind, verdict) in found.items() if kind == "exact" and verdict != "holds"] == []
    named = ("alike.register", "turned.suffix", "optimiser.sgd.facts_10", "path.sgd.register", "saturates",
             "shuffled.facts", "needed", "cut.register", "lora.below", "nearest", "attained")  # fmt: skip
    assert {f"scratch.{n}" for n in named} <= set(found)
    world = next(r.metrics for r in records if not isinstance(r.cell, LinearCell))
    assert all(len(c.r95) == len(c.gradient) == 14 for c in world.conditions.values())
    assert set(world.lora) == {"facts_10", "register"}
    assert world.conditions["register"].asked.right.asked == 6
    assert world.conditions["facts_20"].asked.right.asked == 20


def test_predictions_come_from_the_theory() -> None:
    found = {p.id: p for p in declare(tiny())}
    assert found["scratch.within"].predicted == pytest.approx(1.1 * saturation_point(5, 16))


@pytest.mark.parametrize(
    ("prediction", "path", "value"),
    [
        ("linear.rank", ("facts", "8", "rank"), 1),
        ("linear.floor", ("cuts", "1", "cut"), 0.01),
        ("linear.attained", ("cuts", "1", "written"), 1.01),
        ("linear.style", ("style", "rank"), 2),
        ("scratch.nearest", ("lora", "facts_10", "1", "above"), -0.01),
        ("scratch.attained", ("lora", "register", "2", "gap"), 0.01),
    ],
)
def test_a_wrong_outcome_is_violated(
    records: list[Record], prediction: str, path: tuple[str, ...], value: float
) -> None:
    group = prediction.partition(".")[0]
    wrong = [spoilt(r, *path, to=value) if r.cell.group == group else r for r in records]
    assert verdicts("update_spectrum", tiny(), wrong)[prediction] == ("exact", "violated")


@pytest.mark.parametrize(
    ("prediction", "path", "value"),
    [
        ("alike.suffix", ("conditions", "suffix", "r95"), [1] * 14),
        ("turned.suffix", ("conditions", "suffix", "gradient"), [16] * 14),
        ("optimiser.sgd.facts_10", ("others", "sgd", "facts_10", "r95"), [16] * 14),
        ("path.sgd.facts_10", ("others", "sgd", "facts_10", "r95"), [1] * 14),
        ("within", ("conditions", "facts_20", "r95"), [14] * 14),
        ("saturates", ("conditions", "facts_10", "r95"), [1] * 14),
    ],
)
def test_another_outcome_is_violated(
    records: list[Record], prediction: str, path: tuple[str, ...], value: list[int]
) -> None:
    wrong = [spoilt(r, *path, to=value) if r.cell.group == "scratch" else r for r in records]
    (alone,) = observe([p for p in declare(tiny()) if p.id == f"scratch.{prediction}"], wrong)
    assert [v.verdict for v in judge([alone])] == ["violated"]


@pytest.mark.parametrize("name", sorted(OPTIMISERS))
def test_optimisers_descend(name: str) -> None:
    w = torch.nn.Parameter(torch.tensor([[3.0, -2.0], [0.5, 1.0]]))
    wanted = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    optimiser = OPTIMISERS[name]([w], Schedule(1, 1, 0.02))
    for _ in range(400):
        optimiser.zero_grad()
        ((w - wanted) ** 2).sum().backward()
        optimiser.step()
    assert float((w.detach() - wanted).abs().max()) < 0.1


def test_one_scale_a_matrix_keeps_the_direction_of_the_gradient() -> None:
    gradient = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    moved = {}
    for name, make in (("matrix_scaled", OPTIMISERS["matrix_scaled"]), ("adamw", adamw)):
        w = torch.nn.Parameter(torch.zeros(2, 2))
        optimiser = make([w], Schedule(1, 1, 0.1))
        w.grad = gradient
        optimiser.step()
        moved[name] = float(torch.nn.functional.cosine_similarity(w.detach().flatten(), -gradient.flatten(), dim=0))
    assert moved["matrix_scaled"] == pytest.approx(1.0, abs=1e-6)
    assert moved["adamw"] < 0.95


def test_linear_cells_come_back_exactly(records: list[Record]) -> None:
    assert update_spectrum.run_linear(records[0].cell, "cpu") == records[0].metrics
