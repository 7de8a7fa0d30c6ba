"""The registry and its door."""

import re
from dataclasses import fields

import numpy as np
import pytest
import torch

from empirical.__main__ import main
from empirical.engine import catalogue
from empirical.reuse.__main__ import table
from empirical.reuse.methods import METHODS, Options, asks, check_method, merged, reused
from empirical.reuse.options import GIVEN
from empirical.tasks.sentences import Sentences
from tests.empirical.reuse.adapters import adapter, logits
from theory.claims import load
from theory.lowrank import LowRank
from theory.provenance import ROOT, marked


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_the_base_as_it_was(base, method):
    before = {k: v.clone() for k, v in base.state_dict().items()}
    plain = logits(base)
    few = Sentences(np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]] * 4), (2,))
    options = Options(general=[adapter(base, 9)], probes=[few, few], data=few)
    with reused(method, [adapter(base, 1), adapter(base, 2)], base, options) as model:
        assert not torch.equal(logits(model), plain)
    assert torch.equal(logits(base), plain)
    assert all(torch.equal(v, before[k]) for k, v in base.state_dict().items())


def test_the_base_comes_back_when_the_body_fails(base):
    plain = logits(base)
    with pytest.raises(RuntimeError), reused("sum", [adapter(base, 1)], base):
        raise RuntimeError
    assert torch.equal(logits(base), plain)


def test_methods_say_which_adapters_they_cannot_take(base):
    unlike = [adapter(base, 1, rank=2), adapter(base, 2, rank=3)]
    for method in ("linear", "ties_factors", "dare_factors", "dare_ties_factors"):
        with pytest.raises(ValueError, match="expected adapters of one rank"):
            merged(method, unlike, base)
    full = {n: u.dense() for n, u in unlike[0].items()}
    for method in ("linear", "factor_mean"):
        with pytest.raises(ValueError, match=f"{method}: expected low-rank updates"):
            merged(method, [full, unlike[1]], base)
    rows = {"model.embed_tokens": LowRank(np.zeros((30, 1)), np.zeros((1, 16)))}
    with pytest.raises(ValueError, match="linear: expected linear modules only"):
        merged("linear", [rows, unlike[1]], base)
    with pytest.raises(ValueError, match=r"adapters\[0\]: expected shape"):
        merged("sum", [{"lm_head": np.zeros((2, 2))}], base)
    with pytest.raises(ValueError, match="adapters: expected at least one"):
        merged("sum", [], base)


def test_rows_name_claims_and_say_what_they_need():
    claims = set(load())
    for name, row in METHODS.items():
        assert row.name == name
        assert set(row.limit) <= claims, name
        assert row.needs <= {"updates", "base", *(f.name for f in fields(Options))}, name
        assert row.says, name
        assert not row.number or row.number in row.needs, name
    assert asks("arrow_top1_subtract") == {"general"}
    assert asks("sum@0.3") == frozenset()


@pytest.mark.parametrize(
    ("name", "message"),
    [("mean@0.5", "method: expected mean without a number"), ("sum@x", "method: expected a number behind sum@"),
     ("ties@0", "density: expected"), ("svd@0", "rank: expected"), ("svd@2.5", "method: expected a number"),
     ("sums@1", "method: expected one of")],
)  # fmt: skip
def test_a_wrong_number_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        check_method(name)


@pytest.mark.parametrize("name", ["sum", "knots", "tsv", "core_ties", "ties", "breadcrumbs", "arrow", "arrow_factors"])
def test_a_library_of_three_keeps_all_three(base, name):
    """Two hops and an expert for the target relation of other people are merged and routed like any two."""
    adapters = [adapter(base, seed) for seed in (1, 2, 3)]
    answers = []
    for kept in (adapters, adapters[:2], adapters[1:]):
        with reused(name, kept, base) as model:
            answers.append(logits(model))
    assert not torch.allclose(answers[0], answers[1], atol=1e-3)
    assert not torch.allclose(answers[0], answers[2], atol=1e-3)


def test_a_router_is_no_merge(base):
    with pytest.raises(ValueError, match="method: expected a merge, got the router arrow"):
        merged("arrow", [adapter(base, 1)], base)


DOCUMENT = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def test_the_document_has_the_table_of_the_methods():
    assert marked(DOCUMENT, "methods", "methods.md")[1] == table(), "make golden"
    assert "`ties`, `ties@density` | merge: TIES on the updates" in table()


def test_the_examples_of_the_document_are_true(tmp_path, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    (tmp_path / "halves.py").write_text(example, encoding="utf-8")
    reference = f"{tmp_path / 'halves.py'}:merge"
    assert catalogue.user_method(reference, ["coverage"]).reference == reference
    (command,) = re.findall(r"METHOD=(\S+)", DOCUMENT)
    assert catalogue.user_method(command, ["coverage"])
    (said,) = re.findall(r"```text\n(.*)\n```", DOCUMENT)
    mine = tmp_path / "mine.py"
    mine.write_text("import numpy\n\ndef merge(updates):\n    return {n: numpy.ones((2, 2)) for n in updates[0]}\n")
    assert main(["run", "--experiment", "coverage", "--profile", "smoke", "--method", f"{mine}:merge"]) == 2
    assert capsys.readouterr().err.strip() == said.replace("mine.py", str(mine))
    arguments = {name for line in re.findall(r"^\| (`.*?) \|", DOCUMENT.partition("Your own")[2], re.MULTILINE)
                 for name in re.findall(r"`(\w+)`", line)}  # fmt: skip
    assert arguments == set(GIVEN)
