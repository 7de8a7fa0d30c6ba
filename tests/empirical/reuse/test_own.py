"""METHOD=file.py:function: what is refused before anything is trained, and what works."""

import re
import sys

import numpy as np
import pytest
import torch

from empirical.__main__ import main
from empirical.engine import catalogue
from empirical.engine.settings import group_of
from empirical.reuse.methods import Options, check_method, merged, reused
from empirical.reuse.own import fingerprint, random_adapter, tiny_base, trial
from empirical.tasks.sentences import ragged
from empirical.training.bases import updated
from empirical.training.readout import Readout
from tests.empirical.reuse.adapters import adapter, close, logits

HEAD = """import numpy as np
import torch
from empirical.reuse.routers import Routing
from theory.lowrank import LowRank

"""


def write(tmp_path, body, arguments="updates"):
    path = tmp_path / "own.py"
    path.write_text(f"{HEAD}\ndef method({arguments}):\n    {body}\n")
    return f"{path}:method"


def test_the_merge_of_the_examples_runs(base):
    reference = "examples/my_merge.py:merge"
    catalogue.user_method(reference, ["coverage", "one_layer", "entities"])
    adapters = [adapter(base, 1, scale=4.0), adapter(base, 2, scale=0.5)]
    found = merged(reference, adapters, base)
    for name in adapters[0]:
        sizes = [a[name].norm() for a in adapters]
        wanted = sum(a[name].dense() * (sum(sizes) / 2 / s) for a, s in zip(adapters, sizes, strict=True))
        assert np.allclose(found[name].dense(), wanted, rtol=0, atol=1e-13)  # entries of order 1, a few roundings
    assert check_method(reference) == reference


def test_the_router_of_the_examples_runs(base):
    reference = "examples/my_router.py:route"
    catalogue.user_method(reference, ["coverage", "one_layer", "entities"])
    adapters = [adapter(base, 1), adapter(base, 2)]
    name = next(iter(adapters[0]))
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    plain = base.get_submodule(name)(x).detach()
    with reused(reference, adapters, base):
        found = base.get_submodule(name)(x).detach()
    outputs = [1.5 * x.double().numpy() @ (a[name].B @ a[name].A).T for a in adapters]
    strength = np.array([np.linalg.norm(o, axis=1) for o in outputs])
    share = np.exp(strength) / np.exp(strength).sum(axis=0)
    wanted = plain.numpy() + sum(s[:, None] * o for s, o in zip(share, outputs, strict=True))
    assert np.abs(found.numpy() - wanted).max() < 1e-5  # float32, entries of order 1
    assert torch.equal(base.get_submodule(name)(x).detach(), plain)


def test_the_method_with_data_of_the_examples_runs(base):
    reference = "examples/my_fit.py:fit"
    trial(reference, given=("data",))
    adapters = [adapter(base, 1), adapter(base, 2)]
    few = ragged([[3, 7], [9, 2], [4, 4], [8, 1]], [[1], [5], [6], [2]])
    found = merged(reference, adapters, base, Options(data=few))
    losses = {}
    for scale in (0.25, 0.5, 0.75, 1.0, 1.5):
        with updated(base, merged(f"sum@{scale}", adapters, base)) as model:
            last = torch.log_softmax(logits(model, few.tokens[:, :2])[:, -1], dim=-1)
            losses[scale] = -float(last[range(4), few.tokens[:, 2]].mean())
    best = min(losses, key=losses.__getitem__)
    assert sorted(losses.values())[1] > min(losses.values()) + 1e-4, "two scales are as good"
    close(found, merged(f"sum@{best}", adapters, base), 0.0)
    with pytest.raises(ValueError, match="data: expected some"):
        catalogue.user_method(reference, ["one_layer"])
    assert catalogue.user_method(reference, ["coverage"]).reference.endswith("my_fit.py:fit")


USED = "method: expected updates or gates that can be used, got "
#: what is wrong with it -> (arguments, body, what is said)
WRONG = {
    "type": ("updates", "return 3", "updates: expected a dict module -> LowRank or array, got int"),
    "name": ("updates", "return {'nowhere': np.ones((2, 2))}", "updates: expected names of modules with a weight"),
    "shape": ("updates", "return {n: np.ones((2, 2)) for n in updates[0]}", "updates: expected shape (8, 8) for"),
    "list": ("updates", "return {n: [[1.0]] for n in updates[0]}", "updates: expected a LowRank or a numpy array for"),
    "nan": ("updates", "return {n: u.dense() * np.nan for n, u in updates[0].items()}",
            "updates: expected finite numbers for"),
    "complex": ("updates", "return {n: u.dense() * 1j for n, u in updates[0].items()}",
                "updates: expected real numbers for"),
    "overflow": ("updates", "return {n: u.dense() * 1e200 for n, u in updates[0].items()}",
                 "logits: expected finite numbers, got nan or inf"),
    "exception": ("updates", "return updates[5]", "method: expected updates or gates, got IndexError: list index"),
    "several lines": ("updates", "raise RuntimeError('one\\ntwo')",
                      "method: expected updates or gates, got RuntimeError: one"),
    "exit": ("updates", "raise SystemExit(3)", "method: expected updates or gates, got SystemExit: 3"),
    "arguments": ("updates, magic", "return updates[0]", "arguments: expected some of updates, base, seed"),
    "asks for what is not there": ("updates, data", "return updates[0]", "data: expected some, as the method asks"),
    "changes the base": ("updates, base", "torch.nn.init.ones_(base.lm_head.weight); return updates[0]",
                         "base: expected the weights as they were, got others"),
    "gate of no module": ("updates", "return {'nowhere': lambda x: x}", "router: expected linear modules only"),
    "gate of a wrong shape": ("updates", "return {n: lambda x: x for n in updates[0]}",
                              "gate: expected shares of shape (3, 3, 2)"),
    "gate of a wrong type": ("updates", "return {n: lambda x: 1.0 for n in updates[0]}",
                             "gate: expected a tensor of shares, got float"),
    "gate that is nan": ("updates", "return {n: lambda x: x[..., :2] * np.nan for n in updates[0]}",
                         "gate: expected finite shares, got nan or inf"),
    "gate that fails": ("updates", "return {n: lambda x: 1 / 0 for n in updates[0]}",
                        "method: expected a gate that answers, got ZeroDivisionError"),
    "gate that changes the base": (
        "updates, base",
        "return {n: lambda x: (base.lm_head.weight.data.zero_(), x[..., :2])[1] for n in updates[0]}",
        "base: expected the weights as they were, got others",
    ),
    "overflow in factors": (
        "updates", "return {n: LowRank(1e200 * u.B, 1e200 * u.A) for n, u in updates[0].items()}",
        "logits: expected finite numbers, got nan or inf",
    ),
    "exception without words": (
        "updates", "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})",
        "method: expected updates or gates, got Mute: no message",
    ),
    "base without numbers": ("updates, base", "base.to('meta'); return updates[0]", USED + "NotImplementedError"),
    "base that fails": ("updates, base", "base.register_forward_pre_hook(lambda *_: 1 / 0); return updates[0]",
                        USED + "ZeroDivisionError"),
    "gate without numbers": ("updates", "return {n: lambda x: x[..., :2].to('meta') for n in updates[0]}",
                             "method: expected shares that can be used, got RuntimeError"),
    "gate that is sparse": ("updates", "return {n: lambda x: x[..., :2].to_sparse() for n in updates[0]}",
                            "method: expected shares that can be used, got NotImplementedError"),
    "routing of a number": ("updates", "return Routing(5, {})", USED + "TypeError"),
    "routing by a number": ("updates", "return Routing(updates, 5)", USED + "AttributeError"),
    "routing of numbers": ("updates", "return Routing([5, 6], {n: lambda x: x[..., :2] for n in updates[0]})",
                           USED + "AttributeError"),
    "dict that fails": ("updates", "return type('Bad', (dict,), {'values': lambda self: 1 / 0})(updates[0])",
                        USED + "ZeroDivisionError"),
    "update that fails": (
        "updates", "bad = type('Bad', (LowRank,), {'dense': lambda self: 1 / 0})\n"
        "    return {n: bad(u.B, u.A) for n, u in updates[0].items()}",
        USED + "ZeroDivisionError",
    ),
    "update without a factor": ("updates", "[setattr(u, 'B', None) for u in updates[0].values()]; return updates[0]",
                                USED + "AttributeError"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_said_in_one_line_before_anything_is_trained(tmp_path, fault):
    arguments, body, message = WRONG[fault]
    reference = write(tmp_path, body, arguments)
    with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
        catalogue.user_method(reference)
    assert "\n" not in str(caught.value)
    assert "own.py:method" in str(caught.value)


def test_the_reason_comes_first_on_the_command_line(tmp_path, capsys):
    reference = write(tmp_path, "raise SystemExit(3)")
    assert main(["run", "--profile", "smoke", "--experiment", "coverage", "--method", reference]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("empirical: method: expected updates or gates, got SystemExit: 3")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_an_experiment_that_compares_no_methods_is_refused(capsys):
    arguments = ["--experiment", "gates", "--experiment", "replay", "--method", "examples/my_merge.py:merge"]
    assert main(["run", "--profile", "smoke", "--dry-run", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("empirical: --experiment: expected one that takes a method under profile smoke: one_layer, ")
    assert said.endswith("got gates, replay\n")


def test_the_trial_asks_a_model(tmp_path):
    """The tiny base is asked with the answer in place: a merge that is right in form passes, and says what it needs."""
    trial(write(tmp_path, "return updates[0] if len(data.tokens) == len(probes[1].tokens) == 3 else None",
                "updates, probes, data, *, seed, factor=2"), given=("probes", "data"))  # fmt: skip
    general = write(tmp_path, "return general[0]", "general")
    trial(general, given=("general",))
    assert catalogue.user_method(general, ["coverage"])
    with pytest.raises(ValueError, match="general: expected some, as the method asks for them"):
        catalogue.user_method(general, ["word_problems"])
    trial(write(tmp_path, "return updates[1]"), base=Readout(np.ones((3, 4))))
    with pytest.raises(ValueError, match="updates: expected names of modules"):
        trial(
            write(tmp_path, "return {'model.layers.0.mlp.down_proj': np.ones((3, 4))}"), base=Readout(np.ones((3, 4)))
        )


def test_a_fingerprint_sees_any_weight_and_any_buffer():
    base = tiny_base()
    seen = {fingerprint(base)}
    assert fingerprint(tiny_base()) in seen
    for value in base.state_dict().values():
        value.view(-1)[-1] += 1e-3
        seen.add(fingerprint(base))
    assert len(seen) > len(list(base.parameters()))
    assert set(random_adapter(base, 1)) == {n for n, m in base.named_modules() if "_proj" in n}


def test_an_own_merge_is_checked_where_it_is_used(base, tmp_path):
    before = logits(base)
    reference = write(tmp_path, "base.lm_head.weight.data += 1; return updates[0]", "updates, base")
    with pytest.raises(ValueError, match="base: expected the weights as they were"):
        merged(reference, [adapter(base, 1)], base)
    base.lm_head.weight.data -= 1
    assert torch.allclose(logits(base), before, atol=1e-3)


@pytest.mark.parametrize(
    "spoil",
    ["update.scale *= 0.1", "update.B = 0.1 * update.B", "update.B.setflags(write=True); update.B[:] = 0.0"],
    ids=["scale", "factor", "array"],
)
def test_a_method_that_changes_its_adapters_changes_them_for_itself_alone(base, tmp_path, spoil):
    """At once, or in a gate that is called later; another merge of the same adapters is what it was, bit for bit."""
    adapters, general, data = [adapter(base, 1), adapter(base, 2)], [adapter(base, 3)], ragged([[1, 2]], [[3]])
    options = Options(general=general, data=data)
    before = [merged("sum", parts, base) for parts in (adapters, general)]
    at_once = f"""data.tokens[:] = 0
    for update in [u for a in [*updates, *general] for u in a.values()]:
        {spoil}
    return dict(updates[0])"""
    later = f"""def gate(x):
        for update in updates[0].values():
            {spoil}
        return x[..., :2]
    return {{n: gate for n in updates[0]}}"""
    changed = merged(write(tmp_path, at_once, "updates, general, data"), adapters, base, options)
    assert all(u.norm() < 0.2 * adapters[0][n].norm() for n, u in changed.items())
    with reused(write(tmp_path, later), adapters, base, options) as model:
        logits(model)
    for parts, wanted in zip((adapters, general), before, strict=True):
        close(merged("sum", parts, base), wanted, 0.0)
    assert data.tokens.any()


def test_a_file_with_dataclasses_runs_and_one_that_fails_leaves_no_module(tmp_path):
    """Dataclasses look for their module among those that are imported."""
    path = tmp_path / "own.py"
    text = """from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Part:
    share: float = 1.0

def method(updates):
    return updates[0]
"""
    path.write_text(text)
    trial(f"{path}:method")
    path.write_text(text + "1 / 0\n")
    there = set(sys.modules)
    with pytest.raises(ValueError, match="a file that runs, got ZeroDivisionError"):
        trial(f"{path}:method")
    assert set(sys.modules) == there


def test_another_text_than_that_of_the_record_is_refused(base, tmp_path):
    """Of one length and within one tick of the clock, too."""
    adapters = [adapter(base, 1), adapter(base, 2)]
    own = catalogue.user_method(write(tmp_path, "return updates[0]"))
    close(merged(own.pinned, adapters, base), adapters[0], 0.0)
    reference = write(tmp_path, "return updates[1]")
    for act in (merged, lambda name, *_: check_method(name)):
        with pytest.raises(ValueError, match=r"own\.py as it was when the run began, got another text"):
            act(own.pinned, adapters, base)
    close(merged(reference, adapters, base), adapters[1], 0.0)


def test_unknown_methods_and_files_are_refused(base, tmp_path):
    with pytest.raises(ValueError, match="method: expected one of sum, mean"):
        check_method("summ")
    with pytest.raises(ValueError, match="method: expected one of"):
        merged("summ", [adapter(base, 1)], base)
    with pytest.raises(ValueError, match="method: expected a file"):
        check_method("nowhere.py:merge")
    with pytest.raises(ValueError, match="method: expected a function 'other'"):
        check_method(write(tmp_path, "return {}").replace(":method", ":other"))
    broken = tmp_path / "broken.py"
    for line, name in (("1 / 0", "ZeroDivisionError"), ("raise SystemExit", "SystemExit"), ("x = (", "SyntaxError"),
                       ("def f(x: 1 / 0): ...", "ZeroDivisionError")):  # fmt: skip
        broken.write_text(line + "\n")
        with pytest.raises(ValueError, match=f"method: expected a file that runs, got {name}"):
            check_method(f"{broken}:merge")


def test_a_method_of_one_s_own_is_run_where_others_are(tmp_path):
    own = catalogue.user_method(write(tmp_path, "return updates[0]"), ["coverage"])
    cells = catalogue.cells("coverage", "cpu", own)
    assert {group_of(c) for c in cells} == {"headline"}
    assert len(cells) == len({c.seed for c in cells}) == catalogue.load("coverage").planned(
        catalogue.settings("coverage", "cpu"))["headline"]  # fmt: skip
