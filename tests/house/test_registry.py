"""The registry and what it names agree in both directions, and each gate is seen to fail once."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import theory.checks
from empirical.ladder import adapter_checks, checks_of
from theory.claims import REGISTRY, Claim, RegistryError, load, resolve, topics
from theory.verify.run import Formal, coded_problems

CLAIMS = load()

ENTRY = """
[planted]
topic = "merging"
title = "t"
kind = "theorem"
assumptions = []
source = "ours"
code = ["theory.merging:dilution_limit"]
symbolic = ["theory.checks.merging:dilution_symbolic"]
numeric = ["theory.checks.merging:dilution_numeric"]
"""
TEX = '[[planted.sentences]]\ntex = "s"\n'
PROVED = TEX + 'theorems = ["t"]\n[planted.theorems]\nt = "x"\n'
SOUND = ENTRY + PROVED


def registered_checks() -> dict[str, str]:
    return {reference: claim.id for claim in CLAIMS.values() for reference in claim.checks}


def marked_checks(modules: list[str]) -> dict[str, str]:
    """Every function that carries the mark of a check: reference -> claim that it says it checks."""
    found = {}
    for name in modules:
        module = importlib.import_module(name)
        for key, value in vars(module).items():
            if callable(value) and hasattr(value, "claim") and value.__module__ == name:
                found[f"{name}:{key}"] = value.claim
    return found


def check_modules() -> list[str]:
    return [f"theory.checks.{m.name}" for m in pkgutil.iter_modules(theory.checks.__path__)]


def planted(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "claims.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_reference_resolves() -> None:
    dangling = [p for problems in coded_problems(CLAIMS).values() for p in problems]
    assert not dangling, "give theory/claims.toml the name that stands in the code, or write what it names"


def test_checks_and_registry_agree_both_ways() -> None:
    cure = "a check has one mark, @check(claim) in theory/checks/, and one entry, symbolic or numeric, of that claim"
    assert marked_checks(check_modules()) == registered_checks(), f"{cure} in theory/claims.toml"


def test_the_mark_alone_makes_a_check_on_real_adapters() -> None:
    assert marked_checks(["empirical.adapters.through_peft"]) == adapter_checks()
    assert set(adapter_checks().values()) <= set(CLAIMS), "@check in through_peft.py names a claim of claims.toml"
    assert "empirical.adapters.through_peft:merge_rank_adapters" in checks_of("merge_rank")


@pytest.mark.parametrize("layer", ["symbolic", "numeric"])
def test_every_claim_has_both_kinds_of_checks_or_says_why_not(layer: str) -> None:
    lacking = [c.id for c in CLAIMS.values() if not getattr(c, layer) and layer not in c.none_planned]
    assert not lacking, f"write a {layer} check and name it in theory/claims.toml, or say there why under none_planned"


def test_every_public_function_of_a_topic_belongs_to_a_claim() -> None:
    owned = {reference for claim in CLAIMS.values() for reference in claim.code}
    orphans = []
    for topic in {claim.topic for claim in CLAIMS.values()}:
        module = importlib.import_module(f"theory.{topic}")
        for name, value in vars(module).items():
            public = callable(value) and not name.startswith("_") and not isinstance(value, type)
            if public and getattr(value, "__module__", "") == module.__name__:
                orphans += [] if f"theory.{topic}:{name}" in owned else [f"theory.{topic}:{name}"]
    assert not orphans, "name it under code of its claim in theory/claims.toml, or begin its name with an underscore"


def test_a_check_that_is_not_registered_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from theory.checks import check\n@check('dilution')\ndef planted_check(): pass\n"
    (tmp_path / "unregistered.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert marked_checks(["unregistered"]) == {"unregistered:planted_check": "dilution"}
    assert not marked_checks(["unregistered"]).items() <= registered_checks().items()


def test_the_planted_entry_is_sound_before_it_is_broken(tmp_path: Path) -> None:
    (claim,) = load(planted(tmp_path, SOUND + TEX + 'measured = "why"\n')).values()
    assert (claim.proved, len(claim.mathematics), len(claim.sentences)) == (1, 1, 2)
    assert topics(load(planted(tmp_path, SOUND.replace("merging", "anew")))) == ["anew"]  # no list names it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY + 'status = "proved"\n' + PROVED, "unknown|only known keys"),
        (SOUND.replace('source = "ours"\n', ""), "expected the keys source"),
        (SOUND.replace('"merging"\n', '"mergers"\n', 1), "topic: expected merging, the file of its checks, got 'merge"),
        (SOUND.replace('"theorem"', '"lemma"'), "kind: expected one of"),
        (SOUND.replace('title = "t"', "title = 3"), "title: expected text"),
        (SOUND.replace("assumptions = []", 'assumptions = "none"'), "assumptions: expected a list"),
        (SOUND.replace("theory.merging:dilution_limit", "theory.merging.dilution_limit"), "references module:name"),
        (ENTRY + 'uses = ["nobody"]\n' + PROVED, "expected a claim id, got 'nobody'"),
        (ENTRY + 'uses = ["planted"]\n' + PROVED, "no circle in uses, got planted -> planted"),
        (ENTRY + 'theorems = ["t"]\n' + TEX + 'unproved = "why"\n', "theorems: expected a table"),
        ("planted = 3\n", "expected a table"),
        ("[planted\n", "readable TOML"),
        (SOUND + SOUND.replace("planted", "other"), "expected t once"),
        (ENTRY, "expected the keys sentences"),
        (ENTRY + "sentences = []\n", "sentences: expected a list of tables"),
        (ENTRY + 'sentences = ["s"]\n', r"sentences\[1\]: expected tex and one of theorems, unproved, measured"),
        (ENTRY + TEX, r"sentences\[1\]: expected tex and one of"),
        (ENTRY + '[[planted.sentences]]\nunproved = "why"\nmeasured = "why"\n', "expected tex and one of"),
        (SOUND.replace('theorems = ["t"]', 'theorems = ["t"]\nunproved = "why"'), "expected tex and one of"),
        (SOUND.replace('theorems = ["t"]', 'theorems = "t"'), r"sentences\[1\].theorems: expected a list of names"),
        (SOUND.replace('theorems = ["t"]', "theorems = []"), r"sentences\[1\].theorems: expected a list of names"),
        (SOUND.replace('theorems = ["t"]', 'unproved = " "'), r"sentences\[1\].unproved: expected text"),
        (SOUND.replace('theorems = ["t"]', 'theorems = ["t", "u"]'), "expected a registered theorem, got u"),
        (SOUND.replace('theorems = ["t"]', 'unproved = "why"'), "expected a sentence for t, got none"),
    ],
)  # fmt: skip
def test_a_broken_registry_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message) as caught:
        load(planted(tmp_path, text))
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize("reference", ["theory.merging:nothing", "theory.nowhere:f", "theory.lowrank:LowRank.nothing"])
def test_a_dangling_reference_is_noticed(tmp_path: Path, reference: str) -> None:
    with pytest.raises(RegistryError, match="expected"):
        resolve(reference)
    claims = load(planted(tmp_path, SOUND.replace("theory.merging:dilution_limit", reference)))
    assert coded_problems(claims)["planted"]


def test_a_theorem_taken_from_a_sentence_leaves_a_claim_proved_in_part(tmp_path: Path) -> None:
    """Whole and in part are read off the sentences: nothing else has to be changed, and nothing else can hide it."""
    registry = REGISTRY.read_text(encoding="utf-8")
    name = 'theorems = ["dilution_limit"]'
    claims = load(planted(tmp_path, registry.replace(name, f'{name[:-1]}, "dilution"]')))
    status: dict[str, tuple[str, str | None]] = {t: ("pass", None) for c in claims.values() for t in c.theorems}
    formal = Formal(claims)

    def counted(claims: dict[str, Claim]) -> tuple[int, int, str]:
        found = formal.results({"dilution": claims["dilution"]}, [(status, 1.0)])["dilution"]
        return found.proved, found.sentences, found.status

    assert counted(claims) == (4, 4, "pass")
    text = 'theorems = ["dilution"]'
    assert registry.count(text) == registry.count(name) == 1
    less = registry.replace(name, f'{name[:-1]}, "dilution"]').replace(text, 'unproved = "planted"')
    assert counted(load(planted(tmp_path, less))) == (3, 4, "pass")
    status["dilution_limit"] = ("fail", "planted")
    assert counted(claims) == (3, 4, "fail")


def test_statements_are_tex_without_unbalanced_braces_or_dollars() -> None:
    for claim in CLAIMS.values():
        for text in (*(s.tex for s in claim.sentences), *claim.assumptions):
            plain = re.sub(r"\\[{}$\\]", "", text)
            where = f"in theory/claims.toml, {claim.id}: {text}"
            assert plain.count("{") == plain.count("}"), f"close every brace {where}"
            assert plain.count("$") % 2 == 0, f"close every formula with $ {where}"
