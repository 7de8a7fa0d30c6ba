"""Every number and word that the text takes from theory, verification and results, by key.

A key is what stands in ``\\val{...}``; :meth:`Values.listed` gives them all with their present values. A function of
the registry that gives a number is a key with its arguments: ``additive_ceiling.200.5``. Keys of an experiment that is
not finished give the words "not finished", so that text can be written before the run.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from empirical.engine.catalogue import JUDGED
from empirical.engine.judge import Row, informative
from empirical.engine.predictions import KINDS
from empirical.engine.records import Record
from empirical.engine.show import spans
from empirical.engine.ways import SHARES
from empirical.ladder import checks_of
from paper import words
from paper.evidence import Evidence, Run
from paper.replications import counts, replications
from paper.words import PENDING, VERDICTS, Code, Number, Phrase, Verdict, joined
from theory.claims import Claim, resolve
from theory.provenance import short
from theory.verify.formal import CLOSED


class UnknownKey(KeyError):
    """No value has this name; the message says what would have."""

    def __str__(self) -> str:
        return str(self.args[0])


# ---------------------------------------------------------------- theory


def functions(claims: Mapping[str, Claim]) -> dict[str, Callable[..., Any]]:
    """Name -> function, of all that the registry names as code and that give a number."""
    found = {reference.rpartition(":")[2]: resolve(reference) for claim in claims.values() for reference in claim.code}
    numbers = ("int", "float", "Fraction")
    return {name: f for name, f in found.items()
            if inspect.isfunction(f) and inspect.signature(f).return_annotation in numbers}  # fmt: skip


def _evaluate(name: str, function: Callable[..., Any], arguments: str) -> Number:
    def argument(text: str) -> int | float:
        value = Fraction(text)
        return int(value) if value.denominator == 1 else float(value)

    try:
        return Number(function(*(argument(a) for a in arguments.split("."))))
    except (ValueError, TypeError, ZeroDivisionError) as error:
        expected = ".".join(f"<{a}>" for a in inspect.signature(function).parameters)
        raise UnknownKey(f"{name}.{arguments}: expected {name}.{expected}, got: {error}") from error


# ---------------------------------------------------------------- results


def kind_of(cell: Mapping[str, Any]) -> str:
    """The kind of a cell: its `kind` or `part`; "cell" where all cells of an experiment are alike."""
    return str(cell.get("kind", cell.get("part", "cell")))


def select(run: Run, selector: str) -> list[Record[Any, Any]]:
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


def cell_rates(records: Sequence[Record[Any, Any]], path: Sequence[str]) -> list[float]:
    """The rate under `path` in every record that has it and asked something; `scores` may be added up."""
    found = []
    for record in records:
        try:
            metrics = {"scores": getattr(record.metrics, "scores", None)} | record["metrics"]
            found.append(words.rate(dig(metrics, path)))
        except (UnknownKey, TypeError):
            continue
    return [value for value in found if not math.isnan(value)]


def sealed(record: Record[Any, Any]) -> bool:
    """Whether a cell sealed what single experts say, in a file of its own or, earlier, beside its SHA-256."""

    def beside(value: Any) -> bool:
        return isinstance(value, Mapping) and (set(value) == {"value", "sha256"} or any(map(beside, value.values())))

    return record.raw.get("sealed") is not None or beside(record["metrics"])


STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {"mean": words.mean, "least": min, "greatest": max}


def _summary(values: Sequence[float], statistic: str) -> Number:
    if not values:
        raise UnknownKey(f"{statistic}: expected at least one value, got none")
    if statistic not in STATISTICS:
        raise UnknownKey(f"{statistic}: expected {', '.join(STATISTICS)}")
    return Number(STATISTICS[statistic](values))


ROW_FIELDS: dict[str, Callable[[Row], Phrase]] = {
    "mean": lambda row: Number(words.mean(words.rates(row))),
    "least": lambda row: Number(min(words.rates(row))),
    "greatest": lambda row: Number(max(words.rates(row))),
    "interval": words.bounds,
    "level": lambda row: words.percent(row["level"], 4),
    "predicted": lambda row: Number(words.target(row)),
    "margin": lambda row: Number(row["margin"]),
    "verdict": lambda row: Verdict(row["verdict"]),
    "worlds": lambda row: len(words.rates(row)),
    "outcome": words.outcome,
}

RUN_FIELDS: dict[str, Callable[[Run], Phrase]] = {
    "tally": lambda run: words.tally(run.rows),
    "cells": lambda run: len(run.records),
    "worlds": lambda run: max(len(words.rates(r)) for r in run.rows if r["kind"] != "exact"),
    "profile": lambda run: run.profile,
    "seeds": lambda run: spans(run.seeds),
    "device": lambda run: ", ".join(sorted({r["device"] for r in run.records})),
    "commit": lambda run: run.commits,
    "minutes": lambda run: Number(math.fsum(r["seconds"] for r in run.records) / 60, 2),
}


def rows_like(run: Run, prefixes: str) -> list[Row]:
    """Judged rows whose id starts with one of the prefixes (separated by commas), in the order of the prefixes.

    A prefix may be narrowed, ``kind=ceiling`` or ``claim=dilution``, or be ``*`` for all rows; one ending in ``$`` is a
    whole id.

    Raises:
        UnknownKey: a prefix that no row has.
    """
    chosen: list[Row] = []
    for prefix in (p.strip() for p in prefixes.split(",")):
        field, narrowed, value = prefix.partition("=")
        if narrowed and field in ("kind", "claim"):
            found = [r for r in run.rows if value == (r["kind"] if field == "kind" else r["claim"])]
        elif prefix.endswith("$"):
            found = [r for r in run.rows if r["id"] == prefix[:-1]]
        else:
            found = [r for r in run.rows if prefix == "*" or r["id"].startswith(prefix)]
        if not found:
            raise UnknownKey(f"{prefix}: expected the beginning of a prediction of {run.experiment}, got none such")
        chosen += [r for r in found if r not in chosen]
    return chosen


def _result(run: Run, rest: str) -> Phrase:
    name, _, field = rest.rpartition(".")
    for row in run.rows:
        if row["id"] == name and field in ROW_FIELDS:
            return ROW_FIELDS[field](row)
    if rest in RUN_FIELDS:
        return RUN_FIELDS[rest](run)
    head, _, tail = rest.partition(".")
    if head == "count":  # count.<verdict>, count.<kind>.<verdict>, count.all
        *kind, name = tail.split(".")
        rows = [r for r in run.rows if not kind or r["kind"] == kind[0]]
        if name in VERDICTS or name == "all":
            return sum(name in ("all", r["verdict"]) for r in rows)
        raise UnknownKey(f"{run.experiment}.{rest}: expected count[.kind].holds|violated|undecided|all")
    if head == "tally":  # tally.<prefixes>
        return words.subset(rows_like(run, tail))
    if head == "methods":  # methods.<prefixes>: for which methods the rows hold
        return words.methods(rows_like(run, tail))
    if head == "setting":  # setting.<kind of cell>.<name>...
        selector, *path = _split(tail)
        return joined(dict.fromkeys(words.setting(dig(r["cell"], path)) for r in select(run, selector)))
    if head == "metric":  # metric.<kind of cell>.<name>....<statistic>
        selector, *path, statistic = _split(tail)
        return _summary(cell_rates(select(run, selector), path), statistic)
    if head == "way":  # way.<method>[<experts>].<share> of a table of methods
        return _way(run, tail)
    if head == "above":  # above.<kind of cell>.[<prefixes>].<name>....: see _above
        selector, prefixes, *path = _split(tail)
        return sum(_above(select(run, selector), row, path) for row in rows_like(run, prefixes.strip("[]")))
    if head == "over":  # over.<prefixes>.<statistic> of the rows' means
        prefixes, _, statistic = tail.rpartition(".")
        return _summary([words.mean(words.rates(r)) for r in rows_like(run, prefixes)], statistic)
    raise UnknownKey(f"{run.experiment}.{rest}: expected a key of build/paper/keys.txt")


def _above(records: Sequence[Record[Any, Any]], row: Row, path: Sequence[str]) -> bool:
    """Whether the way that a row speaks of, ``*`` in the path, passes the row's bound elsewhere.

    Of several last names (``A+B``) at each. Where it does not, staying under the bound says nothing of what is asked.
    """
    *names, last = (row["about"] if name == "*" else name for name in path)
    found = [cell_rates(records, [*names, cell]) for cell in last.split("+")]
    if not all(found):
        raise UnknownKey(f"{'.'.join(path)}: expected values of {row['about']}, got none")
    return all(words.mean(rates) > words.target(row) for rates in found)


def _way(run: Run, asked: str) -> Number:
    """The mean of a method's share, ``lora_soups[all+all, free text].first``."""
    match = re.fullmatch(rf"(.+)\[(.+)\]\.({'|'.join(SHARES)})", asked)
    found = [way for way in run.ways if match and (way.method, way.on) == (match[1], match[2])]
    shares = [getattr(way, match[3]) for way in found] if match else []
    if len(shares) != 1 or shares[0] is None:
        raise UnknownKey(f"{asked}: expected method[experts].share of one line of the methods of {run.name}")
    return Number(shares[0].mean)


def _split(text: str) -> list[str]:
    """Split at dots outside brackets."""
    return re.split(r"\.(?![^\[]*\])", text)


# ---------------------------------------------------------------- registry and verification


def _registry(evidence: Evidence) -> dict[str, Phrase]:
    claims, environment = evidence.claims, evidence.verification["environment"]
    rungs = [evidence.rungs(c) for c in claims]
    found: dict[str, Phrase] = {
        "claims.count": len(claims),
        **{f"claims.{kind}s": sum(c.kind == kind for c in claims.values())
           for kind in ("theorem", "construction", "hypothesis")},
        **{f"claims.{rung}": sum(r[rung] == "yes" for r in rungs) for rung in ("checked", "proved", "measured")},
        "claims.proved_in_part": sum(r["proved"] == "part" for r in rungs),
        "checks.count": len({x for c in claims.values() for x in (*c.checks, *checks_of(c.id))}),
        "theorems.count": sum(len(c.theorems) for c in claims.values()),
        "theorems.closed": sum(p.assumptions == CLOSED for p in evidence.statements.values()),
        **{f"version.{name}": str(version) for name, version in environment["packages"].items()},
        "version.python": environment["python"],
        "version.coq": (environment["coq"] or "none").split()[-1],
        "verification.seconds": Number(environment["seconds"], 2),
        "verification.commit": short(environment["commit"]),
    }  # fmt: skip
    for claim in claims.values():
        figure = evidence.figure(claim.id)
        if figure:
            found[f"check.{claim.id}.value"] = Number(figure.value)
        found[f"claim.{claim.id}.theorems"] = len(claim.theorems)
    return found


def _judging() -> dict[str, Phrase]:
    """How verdicts are reached, as the judge itself has it."""
    from empirical.engine.declaration import POWER
    from empirical.engine.judge import ERROR

    return {
        "judge.level": words.percent(1 - ERROR),
        "judge.error": words.percent(ERROR),
        "judge.power": words.percent(POWER),
    }


def _results(evidence: Evidence) -> dict[str, Phrase]:
    runs = evidence.first_runs
    rows = [row for run in runs for row in run.rows]
    sealing = [run for run in runs if any(map(sealed, run.records))]
    return {
        "results.tally": words.tally(rows),
        "results.finished": len(evidence.runs),
        "results.experiments": len({*evidence.runs, *evidence.unfinished}),
        "results.records": sum(len(run.records) for run in runs),
        "results.sealed": sum(sealed(r) for run in runs for r in run.records),
        "results.sealing": joined(Code(run.experiment) for run in sealing),
        "results.twice": sum(len(words.twice(run.rows)) for run in runs),
        **{f"results.{verdict}": count for verdict, count in words.counts(informative(rows)).items()},
        **{f"again.{name}": count for name, count in counts(replications(evidence)).items()},
    }


class Values:
    """Looks keys up."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.fixed = _registry(evidence) | _judging() | _results(evidence)
        self.functions = functions(evidence.claims)

    def __call__(self, key: str) -> Phrase:
        """What a key says.

        Raises:
            UnknownKey: there is no such key.
        """
        if key in self.fixed:
            return self.fixed[key]
        head, _, rest = key.partition(".")
        if head in self.functions:
            return _evaluate(head, self.functions[head], rest)
        if head in self.evidence.runs or head in self.evidence.unfinished:
            if rest == "status":
                return self.evidence.unfinished.get(head, "finished")
            profile, _, of = rest.partition(".")
            runs = self.evidence.runs.get(head, ())
            if profile in JUDGED:  # <experiment>.<profile>.<key>: of that run, whichever comes first
                runs, rest = [run for run in runs if run.profile == profile], of
            return _result(runs[0], rest) if runs else PENDING
        raise UnknownKey(f"{key}: expected a key of build/paper/keys.txt")

    def listed(self) -> Iterator[tuple[str, Phrase]]:
        """(key, present value) of every key without arguments."""
        yield from self.fixed.items()
        keys = [f"{experiment}.status" for experiment in (*self.evidence.runs, *self.evidence.unfinished)]
        for run in self.evidence.first_runs:
            there = [kind for kind in KINDS if any(r["kind"] == kind for r in run.rows)]
            kinds: dict[str, Mapping[str, Any]] = {}
            for cell in run.cells:
                kinds.setdefault(kind_of(cell), cell)
            keys += [f"{run.experiment}.{rest}" for rest in (
                *RUN_FIELDS,
                *(f"count.{kind}.{name}" for kind in there for name in ("all", *VERDICTS)),
                *(f"setting.{kind}.{name}" for kind, cell in kinds.items() for name in cell),
                *(f"{row['id']}.{field}" for row in run.rows for field in ROW_FIELDS),
            )]  # fmt: skip
        for key in keys:
            yield key, self(key)
