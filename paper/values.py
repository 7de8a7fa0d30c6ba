"""Every number and word that the text takes from theory, verification and results, by key.

A key is what stands in ``\\val{...}``; :meth:`Values.listed` gives them all with their present values. Keys of an
experiment that is not finished give the words "not finished", so that text can be written before the run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from empirical.ladder import checks_of
from paper import tex
from paper.material import EXPERIMENTS, Material, Run
from theory import additive, composition, facts, merging, one_layer, routing
from theory.adapters import parameter_count
from theory.verify.formal import CLOSED

PENDING = r"\pending{}"

#: functions of theory that the text may evaluate: name -> (function of the arguments, example of its arguments)
FUNCTIONS: dict[str, tuple[Callable[..., Any], str]] = {
    "additive_ceiling": (additive.additive_ceiling, "1000.10"),
    "additive_optimum": (additive.additive_optimum, "4.3"),
    "additive_patterns": (additive.additive_patterns, "4.3"),
    "additive_threshold": (additive.additive_threshold, "200.5.1/1000000"),
    "monotone_score": (additive.monotone_score, "4.3"),
    "relu_key_cosine": (one_layer.relu_key_cosine, "1/2"),
    "coverage_law_low": (lambda c, lam, p, m: composition.coverage_law(c, lam, p, m).low, "1/2.9/10.9/10.20"),
    "chain_lower": (lambda a, b: composition.chain_of_thought(a, b).lower, "9/10.9/10"),
    "oracle_ceiling": (routing.oracle_ceiling, "100.10"),
    "bridge_blind_ceiling": (routing.bridge_blind_ceiling, "100.10"),
    "maxload": (routing.maxload, "100.10"),
    "margin_rank_floor": (facts.margin_rank_floor, "100.1/10"),
    "circle_margin": (facts.circle_margin, "100"),
    "random_code_eps": (facts.random_code_eps, "128.24"),
    "capacity_ceiling": (facts.capacity_ceiling, "1000.1000.10"),
    "counting_threshold": (facts.counting_threshold, "10.200.5"),
    "dilution_limit": (merging.dilution_limit, "10.3"),
    "parameter_count": (parameter_count, "4096.4096.16"),
}


class UnknownKey(KeyError):
    """No value has this name; the message says what would have."""

    def __str__(self) -> str:
        return str(self.args[0])


def _argument(text: str) -> int | float:
    value = Fraction(text)
    return int(value) if value.denominator == 1 else float(value)


def _evaluate(name: str, arguments: str) -> str:
    function, example = FUNCTIONS[name]
    try:
        found = function(*(_argument(a) for a in arguments.split(".")))
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise UnknownKey(f"{name}.{arguments}: expected arguments as in {name}.{example}, got: {error}") from error
    return tex.number(found)


# ---------------------------------------------------------------- results


def select(run: Run, selector: str) -> list[Mapping[str, Any]]:
    """Records of one kind of cell: ``two_hop[base=scratch,writing=trained]``.

    Raises:
        UnknownKey: no such cell.
    """
    match = re.fullmatch(r"([\w.-]+)(?:\[(.*)\])?", selector)
    if not match:
        raise UnknownKey(f"{selector}: expected kind[field=value,...]")
    wanted = dict(part.split("=", 1) for part in match[2].split(",")) if match[2] else {}
    found = [
        r for r in run.records
        if kind_of(r["cell"]) == match[1] and all(str(r["cell"].get(k)) == v for k, v in wanted.items())
    ]  # fmt: skip
    if not found:
        raise UnknownKey(f"{selector}: expected a kind of cell of {run.experiment}, got none of that name")
    return found


def kind_of(cell: Mapping[str, Any]) -> str:
    """The kind of a cell: its `kind` or `part`; "cell" where all cells of an experiment are alike."""
    return str(cell.get("kind", cell.get("part", "cell")))


def dig(value: Any, path: Sequence[str]) -> Any:
    """Follow a path of names through nested tables; a name may itself contain dots.

    Raises:
        UnknownKey: nothing there.
    """
    if not path:
        return value
    if isinstance(value, Mapping):
        for i in range(len(path), 0, -1):
            name = ".".join(path[:i])
            if name in value:
                return dig(value[name], path[i:])
    raise UnknownKey(f"{'.'.join(path)}: expected a name in the results, got none")


def as_rate(value: Any) -> float:
    """[k, n] as k / n; a number as itself; NaN where nothing was asked.

    Raises:
        UnknownKey: neither.
    """
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return value[0] / value[1] if value[1] else math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise UnknownKey(f"expected a count [k, n] or a number, got {str(value)[:60]}")


def sealed(value: Any) -> bool:
    """Whether a record, or a part of it, holds a value that the run sealed: the value beside its SHA-256."""
    return isinstance(value, Mapping) and (
        set(value) == {"value", "sha256"} or any(sealed(part) for part in value.values())
    )


def cell_rates(records: Sequence[Mapping[str, Any]], path: Sequence[str]) -> list[float]:
    """The rate under `path` in every record that has it and asked something."""
    found = []
    for record in records:
        try:
            value = as_rate(dig(record["metrics"], path))
        except UnknownKey:
            continue
        if not math.isnan(value):
            found.append(value)
    return found


def _summary(values: Sequence[float], statistic: str) -> str:
    if not values:
        raise UnknownKey(f"{statistic}: expected at least one value, got none")
    if statistic == "mean":
        return tex.number(tex.mean(values))
    if statistic == "least":
        return tex.number(min(values))
    if statistic == "greatest":
        return tex.number(max(values))
    raise UnknownKey(f"{statistic}: expected mean, least or greatest")


ROW_FIELDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "mean": lambda row: tex.number(tex.mean(tex.rates(row))),
    "least": lambda row: tex.number(min(tex.rates(row))),
    "greatest": lambda row: tex.number(max(tex.rates(row))),
    "interval": tex.interval,
    "level": lambda row: tex.percent(row["level"], 4),
    "predicted": lambda row: tex.number(tex.target(row)),
    "margin": lambda row: tex.number(row["margin"]),
    "verdict": tex.verdict,
    "worlds": lambda row: tex.number(len(tex.rates(row))),
    "outcome": tex.outcome,
}


def _seeds(run: Run) -> str:
    return tex.spans([r["cell"]["seed"] for r in run.records if "seed" in r["cell"]])


def _commits(run: Run) -> str:
    found = {(r["commit"] or "unknown")[:7] + (" with changes" if r["dirty"] else "") for r in run.records}
    return ", ".join(sorted(found))


RUN_FIELDS: dict[str, Callable[[Run], str]] = {
    "tally": lambda run: tex.tally(run.rows),
    "cells": lambda run: tex.number(len(run.records)),
    "worlds": lambda run: tex.number(max(len(tex.rates(r)) for r in run.rows if r["kind"] != "exact")),
    "profile": lambda run: tex.escape(run.profile),
    "seeds": _seeds,
    "device": lambda run: tex.escape(", ".join(sorted({r["device"] for r in run.records}))),
    "commit": lambda run: tex.escape(_commits(run)),
    "minutes": lambda run: tex.number(math.fsum(r["seconds"] for r in run.records) / 60, 2),
}


def provenance(run: Run) -> str:
    """Profile, device, seeds and short commit of a run, for captions."""
    return (rf"Profile {RUN_FIELDS['profile'](run)}; {RUN_FIELDS['device'](run)}; seeds {_seeds(run)}; "
            rf"commit {RUN_FIELDS['commit'](run)}.")  # fmt: skip


def rows_like(run: Run, prefixes: str) -> list[Mapping[str, Any]]:
    """Judged rows whose id starts with one of the prefixes (separated by commas), in the order of the prefixes.

    A prefix may be narrowed by kind, ``kind=ceiling``, or be ``*`` for all rows; one ending in ``$`` is a whole id.

    Raises:
        UnknownKey: a prefix that no row has.
    """
    chosen: list[Mapping[str, Any]] = []
    for prefix in (p.strip() for p in prefixes.split(",")):
        if prefix.startswith("kind="):
            found = [r for r in run.rows if r["kind"] == prefix.removeprefix("kind=")]
        elif prefix.startswith("claim="):
            found = [r for r in run.rows if r["claim"] == prefix.removeprefix("claim=")]
        elif prefix.endswith("$"):
            found = [r for r in run.rows if r["id"] == prefix[:-1]]
        else:
            found = [r for r in run.rows if prefix == "*" or r["id"].startswith(prefix)]
        if not found:
            raise UnknownKey(f"{prefix}: expected the beginning of a prediction of {run.experiment}, got none such")
        chosen += [r for r in found if r not in chosen]
    return chosen


def _result(run: Run, rest: str) -> str:
    if rest in RUN_FIELDS:
        return RUN_FIELDS[rest](run)
    head, _, tail = rest.partition(".")
    if head == "count":  # count.<verdict>, count.<kind>.<verdict>, count.all
        *kind, name = tail.split(".")
        rows = [r for r in run.rows if not kind or r["kind"] == kind[0]]
        if name in tex.VERDICTS or name == "all":
            return tex.number(sum(name in ("all", r["verdict"]) for r in rows))
        raise UnknownKey(f"{run.experiment}.{rest}: expected count[.kind].holds|violated|undecided|all")
    if head == "tally":  # tally.<prefixes>
        return tex.tally(rows_like(run, tail))
    if head == "setting":  # setting.<kind of cell>.<name>...
        selector, *path = _split(tail)
        values = [dig(r["cell"], path) for r in select(run, selector)]
        return ", ".join(dict.fromkeys(tex.plain(v) for v in values))
    if head == "metric":  # metric.<kind of cell>.<name>....<statistic>
        selector, *path, statistic = _split(tail)
        return _summary(cell_rates(select(run, selector), path), statistic)
    if head == "over":  # over.<prefixes>.<statistic> of the rows' means
        prefixes, _, statistic = tail.rpartition(".")
        return _summary([tex.mean(tex.rates(r)) for r in rows_like(run, prefixes)], statistic)
    name, _, field = rest.rpartition(".")
    for row in run.rows:
        if row["id"] == name and field in ROW_FIELDS:
            return ROW_FIELDS[field](row)
    raise UnknownKey(f"{run.experiment}.{rest}: expected a key of build/paper/keys.txt")


def _split(text: str) -> list[str]:
    """Split at dots outside brackets."""
    return re.split(r"\.(?![^\[]*\])", text)


# ---------------------------------------------------------------- registry and verification


def rung(material: Material, claim: str) -> dict[str, str]:
    """The rungs of a claim: stated, coded, checked, proved, measured -> yes, part, no (not checked), fail or none."""
    from theory.verify.status import worst

    layers = material.verification["claims"][claim]
    marks = {"pass": "yes", "fail": "fail", "not_checked": "no", "none_planned": "none"}
    proved = marks[layers["formal"]["status"]]
    return {
        "stated": "yes",
        "coded": "yes",  # a verification with a dangling reference is not written
        "checked": marks[worst(layers[layer]["status"] for layer in ("symbolic", "numeric"))],
        "proved": "part" if proved == "yes" and layers["formal"]["part"] == "part" else proved,
        "measured": marks[layers["empirical"]["status"]],
    }


def _registry(material: Material) -> dict[str, str]:
    claims, environment = material.claims, material.verification["environment"]
    rungs = {c: rung(material, c) for c in claims}
    found = {
        "claims.count": len(claims),
        **{f"claims.{kind}s": sum(c.kind == kind for c in claims.values())
           for kind in ("theorem", "construction", "hypothesis")},
        "claims.checked": sum(r["checked"] == "yes" for r in rungs.values()),
        "claims.proved": sum(r["proved"] == "yes" for r in rungs.values()),
        "claims.proved_in_part": sum(r["proved"] == "part" for r in rungs.values()),
        "claims.measured": sum(r["measured"] == "yes" for r in rungs.values()),
        "checks.count": len({x for c in claims.values() for x in (*c.checks, *checks_of(c.id))}),
        "theorems.count": sum(len(c.theorems) for c in claims.values()),
        "theorems.closed": sum(p.assumptions == CLOSED for p in material.statements.values()),
    }  # fmt: skip
    words = {key: tex.number(value) for key, value in found.items()}
    words |= {f"version.{name}": tex.escape(str(v)) for name, v in environment["packages"].items()}
    words |= {
        "version.python": tex.escape(environment["python"]),
        "version.coq": tex.escape((environment["coq"] or "none").split()[-1]),
        "verification.seconds": tex.number(environment["seconds"], 2),
        "verification.commit": tex.escape((environment["commit"] or "unknown")[:7]),
    }
    for claim, layers in material.verification["claims"].items():
        for layer in ("numeric", "symbolic"):
            figure = layers[layer]["figure"]
            if figure:
                words.setdefault(f"check.{claim}.value", tex.number(figure["value"]))
    for claim in claims.values():
        words[f"claim.{claim.id}.theorems"] = tex.number(len(claim.theorems))
    return words


def _judging() -> dict[str, str]:
    """How verdicts are reached, as the judge itself has it."""
    from empirical.engine.judge import HEADLINE_WORLDS, Prediction, judge

    def level(worlds: int) -> float:
        spread = [0.4 + 0.01 * i for i in range(worlds)]
        return judge([Prediction("p", "c", "control", "at_least", 0.0, 0.0, spread, "")])[0].level

    return {
        "judge.worlds": tex.number(HEADLINE_WORLDS),
        "judge.level": tex.percent(level(HEADLINE_WORLDS)),
        "judge.level_few": tex.percent(level(HEADLINE_WORLDS - 1)),
    }


class Values:
    """Looks keys up."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.words = _registry(material) | _judging()
        runs = [run for found in material.runs.values() for run in found[:1]]
        everything = [row for run in runs for row in run.rows]
        self.words |= {
            "results.tally": tex.tally(everything),
            "results.finished": tex.number(sum(bool(material.runs.get(e)) for e in EXPERIMENTS)),
            "results.experiments": tex.number(len(EXPERIMENTS)),
            "results.records": tex.number(sum(len(run.records) for run in runs)),
            "results.sealed": tex.number(sum(sealed(r) for run in runs for r in run.records)),
            "results.sealing": ", ".join(tex.code(run.experiment) for run in runs if any(map(sealed, run.records))),
            "results.profiles": tex.escape(" and ".join(sorted({run.profile for run in runs}))),
            **{f"results.{v}": tex.number(sum(r["verdict"] == v for r in everything)) for v in tex.VERDICTS},
        }

    def __call__(self, key: str) -> str:
        """TeX for a key.

        Raises:
            UnknownKey: there is no such key.
        """
        if key in self.words:
            return self.words[key]
        head, _, rest = key.partition(".")
        if head in FUNCTIONS:
            return _evaluate(head, rest)
        if head in self.material.runs or head in self.material.unfinished:
            if rest == "status":
                return "finished" if self.material.run(head) else tex.escape(self.material.unfinished[head])
            run = self.material.run(head)
            return PENDING if run is None else _result(run, rest)
        raise UnknownKey(f"{key}: expected a key of build/paper/keys.txt")

    def listed(self) -> Iterator[tuple[str, str]]:
        """(key, present value) of every key without arguments, then one example of each function."""
        yield from self.words.items()
        for name, (_, example) in FUNCTIONS.items():
            yield f"{name}.{example}", self(f"{name}.{example}")
        for experiment in (*self.material.runs, *self.material.unfinished):
            yield f"{experiment}.status", self(f"{experiment}.status")
            run = self.material.run(experiment)
            if run is None:
                continue
            for field in RUN_FIELDS:
                yield f"{experiment}.{field}", self(f"{experiment}.{field}")
            for kind in ("exact", "ceiling", "hypothesis", "control"):
                if any(r["kind"] == kind for r in run.rows):
                    for name in ("all", *tex.VERDICTS):
                        yield f"{experiment}.count.{kind}.{name}", self(f"{experiment}.count.{kind}.{name}")
            shown = set()
            for record in run.records:
                kind = kind_of(record["cell"])
                if kind not in shown:
                    shown.add(kind)
                    for name in record["cell"]:
                        yield f"{experiment}.setting.{kind}.{name}", self(f"{experiment}.setting.{kind}.{name}")
            for row in run.rows:
                for field in ROW_FIELDS:
                    yield f"{experiment}.{row['id']}.{field}", ROW_FIELDS[field](row)
