"""The audit against peft itself, against dense linear algebra, and against its published schema."""

import json
import math
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from empirical.adapters.audit import Settings, audit
from empirical.adapters.files import SAFE, read_adapter
from empirical.adapters.page import as_html
from empirical.adapters.report import SCHEMA, as_json, schema_text
from tests.empirical.adapters.folders import configured
from theory.claims import load


def against_schema(data: Any) -> list[str]:
    """What breaks the published schema: the keys of the object where it does."""
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(data)]


# ---------------------------------------------------------------- numbers


def test_the_numbers_are_those_of_dense_algebra(save_adapter):
    a = save_adapter("a", seed=1)
    b = save_adapter("b", seed=2, r=3, use_rslora=True, targets=["q_proj", "down_proj"])
    data = audit([a, b], [0.7, -1.3], Settings(rank=2))
    parts = [read_adapter(a), read_adapter(b)]
    assert len(data.modules) == 14
    near = partial(pytest.approx, rel=1e-9, abs=1e-9)  # sizes below 100, float64 rounding and conditions below 1e6
    for m in data.modules:
        dense = [p.update(m.name).dense() if m.name in p.modules else None for p in parts]
        for p in m.parts:
            values = np.linalg.svd(parts[p.adapter].update(m.name).dense(), compute_uv=False)
            assert p.norm == near(np.linalg.norm(values))
            assert p.spectral_norm == near(values[0])
            assert p.stable_rank == near((values**2).sum() / values[0] ** 2)
            assert p.rank == p.r
            kept = np.cumsum(values**2) / (values**2).sum()
            assert p.rank95 == int(np.argmax(kept >= 0.95)) + 1
        wanted = sum(w * d for w, d in zip([0.7, -1.3], dense, strict=True) if d is not None)
        values = np.linalg.svd(wanted, compute_uv=False)
        assert m.merge.norm == near(np.linalg.norm(values))
        tail = np.linalg.norm(values[2:]) / np.linalg.norm(values)
        assert m.merge.truncation == near(tail)
        assert m.merge.rank == sum(p.rank for p in m.parts)


@pytest.mark.parametrize(
    ("architecture", "one", "two"),
    [
        ("llama", {}, {"alpha": 5.0}),
        ("gpt2", {"use_rslora": True}, {"targets": ["c_attn"]}),
        ("llama", {"targets": ["q_proj", "embed_tokens"]}, {"targets": ["v_proj", "embed_tokens"]}),
        ("llama", {"layers_to_transform": [0], "targets": ["q_proj"]},
         {"layers_to_transform": [0, 1], "targets": ["q_proj"]}),
        ("llama", {"dtype": torch.bfloat16}, {}),
    ],
)  # fmt: skip
def test_every_combination_type_is_what_peft_really_does(architecture, one, two, save_adapter, tiny_base):
    """peft runs on the real model; its merged layers are read back and compared with the audit's errors."""
    from empirical.adapters.base import quiet
    from empirical.adapters.identity import with_adapters
    from empirical.adapters.peft_types import RANDOM
    from empirical.training.bases import holds, lora_layers, update_of
    from theory.lowrank import LowRank

    folders = [save_adapter("a", architecture, 1, **one), save_adapter("b", architecture, 2, **two)]
    weights = [0.7, -1.3]
    data = audit(folders, weights, Settings(density=0.4))
    parts = [read_adapter(f) for f in folders]
    model = with_adapters(tiny_base(architecture), folders, ["a", "b"])
    modules = {m.name: m for m in data.modules}
    for kind, total in data.total.combinations.items():
        assert total.reason is None
        if kind in RANDOM:
            assert total.error > 0
            continue
        options = {"density": 0.4} if "ties" in kind or "prune" in kind else {}
        with quiet():
            model.add_weighted_adapter(["a", "b"], weights, kind, combination_type=kind, **options)
        made = {n: layer for n, layer in lora_layers(model).items() if holds(layer, kind)}
        assert sorted(set(modules) - set(made)) == sorted(total.dropped)
        squares = []
        for name, m in modules.items():
            present = [(p.update(name), w) for p, w in zip(parts, weights, strict=True) if name in p.modules]
            wanted = LowRank.combine([u for u, _ in present], [w for _, w in present])
            error = wanted.norm()
            if name in made:
                found = update_of(made[name], kind)
                if m.kind == "embedding":  # peft's orientation is that of the weight
                    found = LowRank(found.A.T, found.B.T, found.scale)
                error = LowRank.combine([found, wanted], [1.0, -1.0]).norm()
            squares.append(error)
            # peft's arithmetic is float32, its dense types decompose in it
            assert m.combinations[kind].error == pytest.approx(error, abs=2e-5 * wanted.norm())
        whole = data.total.norm
        assert total.error == pytest.approx(math.hypot(*squares) / whole, abs=2e-5)


def test_random_types_are_one_named_draw(save_adapter):
    folders = [save_adapter("a", seed=1, targets=["q_proj"]), save_adapter("b", seed=2, targets=["q_proj"])]
    before = torch.random.get_rng_state()
    first, again, other = (audit(folders, None, Settings(seed=s)).total.combinations["dare_linear"] for s in (0, 0, 1))
    assert first == again
    assert first != other
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_peft_refuses_is_said_in_its_words(save_adapter):
    data = audit([save_adapter("a", seed=1), save_adapter("b", seed=2, r=2)])
    found = data.total.combinations
    assert "same r" in found["linear"].reason
    assert found["linear"].error is None
    assert found["cat"].error == pytest.approx(0.0, abs=1e-12)  # closed form: scale 1, nothing cut off
    assert data.total.mean.factor_error is None
    mixed = audit([save_adapter("c", targets=".*q_proj"), save_adapter("d", targets=["q_proj"])])
    assert all(v.error is None for v in mixed.total.combinations.values())


def test_a_combination_that_peft_cannot_make_is_foreseen(save_adapter, tiny_base):
    """The union of the targets meets a module that no adapter has; peft then fails in the middle."""
    from empirical.adapters.base import quiet
    from empirical.adapters.identity import with_adapters

    a = save_adapter("a", seed=1, targets=["q_proj"], layers_to_transform=[0])
    b = save_adapter("b", seed=2, targets=["q_proj", "up_proj"], layers_to_transform=[1])
    model = with_adapters(tiny_base("llama"), [a, b], ["a", "b"])
    with quiet(), pytest.raises((IndexError, ValueError)):
        model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "c", combination_type="linear")
    known, guessed = audit([a, b], base=tiny_base("llama")), audit([a, b])
    for data in (known, guessed):
        reason = data.total.combinations["linear"].reason
        assert "layers.0.mlp.up_proj, which no adapter has" in reason
    assert "--base" in reason
    assert not against_schema(json.loads(as_json(known)))


def test_dropped_modules_are_named_in_the_verdict(save_adapter):
    a = save_adapter("a", seed=1, targets=["q_proj"], layers_to_transform=[0])
    b = save_adapter("b", seed=2, targets=["q_proj"], layers_to_transform=[1])
    data = audit([a, b])
    assert data.total.combinations["cat"].dropped == ("model.layers.1.self_attn.q_proj",)
    assert any("would drop 1 module" in v.text and "layers.1" in v.text for v in data.verdict)
    assert data.total.combinations["cat"].error > 0.1


def test_large_modules_skip_the_dense_types_and_say_so(save_adapter, monkeypatch):
    monkeypatch.setattr("empirical.adapters.audit.DENSE_LIMIT", 1000)
    folders = [save_adapter("a", seed=1), save_adapter("b", seed=2)]
    found = audit(folders).total.combinations
    assert "--dense" in found["ties_svd"].reason
    assert found["svd"].error > 0
    assert audit(folders, None, Settings(dense=True)).total.combinations["ties_svd"].error > 0


def test_a_base_gives_relative_norms_from_its_files_or_the_model(save_adapter, tiny_base, save_base):
    base = tiny_base("llama")
    a = save_adapter("a", seed=1, targets=["q_proj"])
    for given in (save_base(), base):
        data = audit([a], base=given)
        weight = base.model.layers[0].self_attn.q_proj.weight.double().norm()
        assert data.modules[0].base_norm == pytest.approx(float(weight), rel=1e-6)  # summed in float32
        assert data.total.adapters[0].relative_norm > 0


@pytest.fixture
def asked(save_base):
    """A base whose words are tokens, on disk."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(61)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    base = save_base()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(base)
    return base


def test_a_probe_asks_what_is_written_of_the_adapters_that_are_there(asked, save_adapter, tmp_path):
    """Names that peft passes over, a mark before the text, a head that was trained, words that nobody knows."""
    probe = tmp_path / "probe.txt"
    a = save_adapter("a", seed=1, targets=["q_proj"])
    tensors = load_file(a / SAFE)

    def found(**options: Any) -> Any:
        probe.write_text("w1 w2 w3\tw4\n", **options)
        return audit([a], base=asked, probe=probe).probe.lines

    plain = found(encoding="utf-8")
    assert abs(plain[0].margins[0] - plain[0].base_margin) > 1e-2
    assert found(encoding="utf-8-sig") == plain
    save_file({k.replace(".layers.", "._orig_mod.layers."): v for k, v in tensors.items()}, str(a / SAFE))
    assert found(encoding="utf-8") == plain
    save_file(tensors | {"base_model.model.lm_head.weight": torch.ones(61, 32)}, str(a / SAFE))
    with pytest.raises(ValueError, match=r"probe: a: .*lm_head.weight: expected the base's own weight, got another"):
        audit([a], base=asked, probe=probe)
    save_file(tensors, str(a / SAFE))
    configured(a, r=4.0)  # which peft does not take
    with pytest.raises(ValueError, match="probe: expected adapters that peft loads"):
        audit([a], base=asked, probe=probe)
    configured(a, r=4)
    probe.write_text("w1 w2\tunheard\n", encoding="utf-8")
    with pytest.raises(ValueError, match="probe: expected an answer that begins with a token that the base knows"):
        audit([a], base=asked, probe=probe)
    tokenizer = json.loads((asked / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"]["w61"] = 61  # one more than the model has
    (asked / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    for line in ("w1 w61\tw2\n", "w1 w2\tw61\n"):
        probe.write_text(line, encoding="utf-8")
        with pytest.raises(ValueError, match=r"probe: expected a tokenizer of the base's 61 tokens, got token 61 in"):
            audit([a], base=asked, probe=probe)


def test_probes_measure_margins_and_what_a_mean_holds(asked, save_adapter, tiny_base, tmp_path):
    probe = tmp_path / "probe.txt"
    probe.write_text("# people\nw1 w2 w3\tw4\n\nw5 w6\tw7\n", encoding="utf-8")
    folders = [save_adapter("a", seed=1), save_adapter("b", seed=2)]
    data = audit(folders, base=asked, probe=probe)
    assert not against_schema(json.loads(as_json(data)))
    lines = data.probe.lines
    for line in lines:
        assert line.disturbance[line.best] is None
        assert all(d is not None and d >= 0 for j, d in enumerate(line.disturbance) if j != line.best)
    # an adapter beside its own copy: the bound is at least what the copy really writes at these keys
    twins = audit([folders[0], save_adapter("copy", seed=1)], base=asked, probe=probe)
    for line in twins.probe.lines:
        assert max(d for d in line.disturbance if d is not None) >= 1.0 - 1e-12  # quotient of equal norms, rounded
    # of copies no weights are better than others, and one alone answers what any mean of them does
    same = twins.probe.advised
    assert same.foretold == pytest.approx(min(x.margins[0] for x in twins.probe.lines), abs=1e-5)  # float32 logits
    assert same.answered == twins.probe.answered.best_single
    best = data.probe.advised
    assert sum(best.weights) == pytest.approx(1.0)
    assert best.foretold >= min(min(x.margins) for x in lines)
    assert best.ceiling <= max(max(x.margins) for x in lines)
    again = audit(folders, list(best.weights), base=asked, probe=probe)
    # the linear programme has the least of these margins as what it foretells
    assert min(x.added_margin for x in again.probe.lines) == pytest.approx(best.foretold, abs=1e-5)
    assert again.probe.answered.added == sum(x.added_margin > 0 for x in again.probe.lines)
    alone = audit(folders, [1.0, 0.0], base=asked, probe=probe)
    assert [x.added_margin for x in alone.probe.lines] == pytest.approx([x.margins[0] for x in lines], abs=1e-5)
    assert again.probe.answered.sum == best.answered
    assert audit(folders[:1], base=asked, probe=probe).probe.advised is None
    assert [x.token for x in lines] == ["w4", "w7"]
    for x in lines:
        assert len(x.margins) == 2
        if x.mean_limit is not None and x.deficit is not None:
            assert x.mean_limit == max(math.ceil(x.gain / x.deficit) - 1, 0)
    base = tiny_base("llama")
    with torch.no_grad():
        logits = base(input_ids=torch.tensor([[1, 2, 3]])).logits[0, -1].double()
    rivals = torch.cat([logits[:4], logits[5:]])
    assert lines[0].base_margin == pytest.approx(float(logits[4] - rivals.max()), abs=1e-5)  # float32 logits
    with pytest.raises(ValueError, match="probe"):
        audit(folders, probe=probe)
    probe.write_text("no tab\n", encoding="utf-8")
    with pytest.raises(ValueError, match="probe: line 1"):
        audit(folders, base=asked, probe=probe)


# ---------------------------------------------------------------- reports


def sample(save_adapter):
    return audit([save_adapter("a<b>", seed=1), save_adapter("[red]b", seed=2, r=3), save_adapter("c", seed=3)])


def test_the_report_follows_its_schema_and_the_schema_bites(save_adapter):
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()  # python -m empirical.adapters.report writes it
    assert not against_schema(json.loads(as_json(audit([save_adapter("single")]))))
    data = json.loads(as_json(sample(save_adapter)))
    assert not against_schema(data)
    data["modules"][0]["parts"][0]["rank"] = "four"
    data["modules"][0]["inner"] = data["modules"][0].pop("in")
    data["surprise"] = 1
    del data["total"]["norm"]
    found = " ".join(against_schema(data))
    for wrong in ("'four'", "'surprise'", "'norm'", "'in'", "'inner'"):
        assert wrong in found


def test_numbers_that_json_cannot_hold_are_refused(save_adapter):
    data = audit([save_adapter("a", targets=["q_proj"])])
    with pytest.raises(ValueError, match="JSON"):
        as_json(replace(data, total=replace(data.total, norm=math.inf)))


def test_the_verdict_names_claims_and_their_limits(save_adapter):
    claims = load()
    lines = audit([save_adapter("a", seed=1), save_adapter("b", seed=2)]).verdict
    assert {"merge_rank", "factor_average", "dilution", "interference", "additive_limit"} <= {x.claim for x in lines}
    for line in lines:
        assert line.claim in claims
        assert line.limits
    assert "Do not expect" in next(x.text for x in lines if x.claim == "additive_limit")
    head = audit([save_adapter("h", targets=["lm_head"]), save_adapter("i", seed=1, targets=["lm_head"])]).verdict
    assert "No weighted sum" in next(x.text for x in head if x.claim == "additive_limit")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(save_adapter):
    text = as_html(sample(save_adapter))
    page = _Page()
    page.feed(text)
    assert not page.open
    assert not page.links
    assert "script" not in page.seen
    assert "svg" in page.seen
    assert "a&lt;b&gt;" in text
    assert "<b>" not in text
    assert "url(" not in text
    assert "nan" not in text.lower().replace("nance", "")
