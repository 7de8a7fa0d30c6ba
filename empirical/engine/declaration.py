"""What an experiment declares before it runs: ``predictions.json`` beside its records, and who may run or be judged.

The file holds every prediction with the worlds that are planned, and for ceilings and hypotheses the alternative that
would refute them with the power to notice it: the probability, simulated with a fixed seed, that the planned worlds
then give "violated" at the error rate over the size of the family (Bonferroni's, which Holm's step-down never falls
below). The first 16 hex digits of its SHA-256 stand in every record that was made under it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from empirical.engine.experiment import Experiment
from empirical.engine.intervals import power
from empirical.engine.judge import ERROR
from empirical.engine.predictions import Measure, Prediction
from empirical.engine.records import PREDICTIONS, RESULTS, RecordError, canonical, short_hash, write_json
from empirical.engine.settings import as_json
from theory.numerics import require
from theory.provenance import ROOT, git, in_checkout, short, shown

SCHEMA = 1
#: probability that an alternative is noticed, below which a prediction is none
POWER = 0.8


def declaration(experiment: Experiment[Any], settings: Any, name: str, profile: str) -> dict[str, Any]:
    """What is declared, all but the power.

    Raises:
        ValueError: two predictions of one id, a group without cells, an informative prediction without an alternative
            or another kind with one, or a margin that is no smaller than what it predicts.
    """
    planned, found = experiment.planned(settings), experiment.declare(settings)
    (twice, times), *_ = Counter(p.id for p in found).most_common(1) or [("", 1)]
    require(times == 1, f"{name}: {twice}", "an id of its own", "two predictions")
    for p in found:
        where = f"{name}: {p.id}"
        require(p.group in planned, where, f"a group of {sorted(planned)}", repr(p.group))
        require((p.unless is not None) == p.informative, where,
                "an alternative where it is a ceiling or hypothesis, and only there", p.unless)  # fmt: skip
        if p.relation == "equal" and p.informative and not isinstance(p.predicted, Measure) and p.predicted:
            require(p.margin < abs(p.predicted), where, f"a margin below {abs(p.predicted):g}", p.margin)
    return {
        "schema": SCHEMA,
        "experiment": name,
        "profile": profile,
        "protocol": experiment.protocol,
        "settings": short_hash(canonical(as_json(settings))),
        "predictions": [_entry(p, planned[p.group]) for p in found],
    }


def _entry(p: Prediction, worlds: int) -> dict[str, Any]:
    predicted = {"measure": p.predicted.name} if isinstance(p.predicted, Measure) else p.predicted
    return {
        "id": p.id, "claim": p.claim, "kind": p.kind, "relation": p.relation, "predicted": predicted,
        "margin": p.margin, "of": p.of.name, "group": p.group, "worlds": worlds, "says": p.says, "about": p.about,
        "family": p.family, "alternative": as_json(vars(p.unless)) if p.unless else None,
    }  # fmt: skip


def powers(predictions: Sequence[Prediction], planned: dict[str, int]) -> list[float | None]:
    """The power of every prediction, to two decimals; None for those that have no alternative."""
    families = Counter(p.family for p in predictions if p.informative)
    found: list[float | None] = []
    for p in predictions:
        if p.unless is None:
            found.append(None)
            continue
        known = p.unless.asked is not None or p.difference or bool(p.of.step or p.of.parts)
        require(known, f"{p.id}: step", "the step of the number's own scale, in its measure", p.of.step)
        # differences from a prediction that varies by world are held against zero
        target = 0.0 if isinstance(p.predicted, Measure) else p.predicted
        error = ERROR / families[p.family]
        noticed = power(p.unless, p.relation, target, p.margin, planned[p.group], error, p.of.step)
        found.append(round(noticed, 2))
    return found


def complete(experiment: Experiment[Any], settings: Any, name: str, profile: str) -> dict[str, Any]:
    """The declaration with the power of each prediction, as it is written.

    Raises:
        ValueError: see `declaration`; or a power below `POWER`, except under the profile smoke, which only tries the
            machinery.
    """
    found = declaration(experiment, settings, name, profile)
    if profile != "smoke":
        noticed = powers(experiment.declare(settings), experiment.planned(settings))
        weak = [
            f"{entry['id']} {p:.2f}"
            for entry, p in zip(found["predictions"], noticed, strict=True)
            if p is not None and p < POWER
        ]
        require(not weak, f"{name}, {profile}", f"a power of {POWER} or more to notice each alternative (more worlds or"
                " questions, or another question)", ", ".join(weak))  # fmt: skip
        for entry, p in zip(found["predictions"], noticed, strict=True):
            entry["power"] = p
    return found


def same(said: Any, says: Any) -> bool:
    """Whether two declarations say the same: numbers to twelve digits, for a sine's last ones are the processor's."""
    if isinstance(said, dict) and isinstance(says, dict):
        return said.keys() == says.keys() and all(same(said[key], says[key]) for key in said)
    if isinstance(said, list) and isinstance(says, list):
        return len(said) == len(says) and all(map(same, said, says))
    if isinstance(said, float) and isinstance(says, float):
        return math.isclose(said, says, rel_tol=1e-12)
    return type(said) is type(says) and bool(said == says)


def read(
    experiment: Experiment[Any], settings: Any, name: str, profile: str, results: Path = RESULTS
) -> tuple[str | None, dict[str, float | None]]:
    """(hash of the declaration, prediction -> power); (None, {}) where nothing was declared.

    Raises:
        RecordError: the file is damaged, or says something else than the experiment and its settings do now.
    """
    path = results / name / profile / PREDICTIONS
    if not path.exists():
        return None, {}
    try:
        text = path.read_text(encoding="utf-8")
        found = from_json(text)
        noticed = {entry["id"]: entry.pop("power", None) for entry in found["predictions"]}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RecordError(f"{path}: expected a whole declaration, got: {error} (declare it again)") from error
    if not same(found, as_json(declaration(experiment, settings, name, profile))):
        raise RecordError(
            f"{shown(path)}: expected what the experiment and its settings say now, got another declaration "
            f"(python -m empirical declare --experiment {name} --profile {profile}, commit it, and run again)"
        )
    return short_hash(text), noticed


def required(experiment: Experiment[Any], settings: Any, name: str, profile: str, results: Path = RESULTS) -> str:
    """The hash of the declaration under which cells may run.

    The profile smoke is declared on the way. The others must be declared, and committed before they run where they lie
    among the project's own results.

    Raises:
        RecordError: the declaration is missing, not committed, or another than the experiment's.
    """
    path = results / name / profile / PREDICTIONS
    if profile == "smoke":
        write_json(path, complete(experiment, settings, name, profile))
    cure = f"python -m empirical declare --experiment {name} --profile {profile}, then commit it"
    found, _ = read(experiment, settings, name, profile, results)
    if found is None:
        raise RecordError(
            f"{shown(path)}: expected what is predicted, declared before the run, got no such file ({cure})"
        )
    if profile != "smoke" and results == RESULTS and in_checkout():
        committed = git("show", f"HEAD:{path.relative_to(ROOT).as_posix()}")
        if committed is not None and committed != path.read_text(encoding="utf-8"):
            raise RecordError(f"{shown(path)}: expected it as it is committed, got changes ({cure})")
        if committed is None and git("rev-parse", "HEAD") is not None:
            raise RecordError(f"{shown(path)}: expected it committed before the run, got a new file ({cure})")
    return found


class Declared(NamedTuple):
    """The commit that declared a run, and those whose declarations it replaced."""

    commit: str
    #: (commit, whether worlds had run under its declaration), the first one first
    replaced: Sequence[tuple[str, bool]]


def declared(said: str, ran: str, folder: Path) -> Declared | None:
    """Where the declaration of hash `said` first stands in the history of the commit `ran`; None where git does not
    know that history (no checkout, another repository, a shallow clone).

    Raises:
        RecordError: it stands nowhere: what was made at `ran` had not been declared.
    """
    where = folder.relative_to(ROOT).as_posix()
    commits = git("log", "--topo-order", "--reverse", "--format=%H", ran, "--", f"{where}/{PREDICTIONS}")
    if commits is None or (git("rev-parse", "--is-shallow-repository") or "").strip() != "false":
        return None
    before: dict[str, str] = {}
    for commit in commits.split():
        text = git("show", f"{commit}:{where}/{PREDICTIONS}")
        if text is not None and short_hash(text) == said:
            return Declared(commit, [(c, bool(git("log", "-1", "--format=%h", f"-S{old}", ran, "--", where)))
                                     for old, c in before.items()])  # fmt: skip
        if text is not None:
            before.setdefault(short_hash(text), commit)
    raise RecordError(f"{where}: expected the declaration {said} in a commit before {short(ran)}, got none there")
