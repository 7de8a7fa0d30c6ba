"""What the text may ask for: values, claims, tables and figures, set by the macros of ``templates/requests.tex.j2``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from empirical.engine.catalogue import JUDGED
from paper import figures, render, tables, words
from paper.evidence import Evidence, Run
from paper.figures import Figure
from paper.keys import UnknownKey, Values, rows_like
from paper.manuscript import sections
from paper.replications import CAME, counts, replications, unlike
from paper.words import Phrase, TeX
from theory.claims import topics

#: macro -> (number of arguments, function of them)
Requests = dict[str, tuple[int, Callable[..., Phrase]]]
#: abbreviations of sources in the registry -> key of the bibliography
SOURCES = {"[Z]": "zeng2024expressive", "[C]": "chen2025pause", "[H]": "hu2021lora", "[T]": "tang2025svd"}


def cited(source: str) -> Phrase:
    """The registry's word on where a claim comes from, with citations."""
    found = render.tex([TeX(p) if p.startswith("$") else p for p in re.split(r"(\$[^$]*\$)", source)])
    for short, key in SOURCES.items():
        found = found.replace(short, rf"\citet{{{key}}}")
    return found


def requests(evidence: Evidence, values: Values, drawn: Mapping[str, Sequence[Figure]]) -> Requests:
    """Everything that the text may ask for. The functions raise KeyError for what there is not.

    Args:
        drawn: experiment -> its figures.
    """
    from empirical.engine.figures import plots
    from empirical.engine.ways import SHARES

    macros: Any = render.template("requests.tex").module
    standings = tables.standings(evidence)

    def standing(claim: str) -> tables.Standing:
        if claim not in standings:
            raise UnknownKey(f"{claim}: expected an id of claims.toml, got none such")
        return standings[claim]

    def known(name: str) -> Run | None:
        experiment, dot, profile = name.partition(".")
        if experiment not in (*evidence.runs, *evidence.unfinished) or (dot and profile not in JUDGED):
            raise UnknownKey(f"{name}: expected an experiment, or with a dot one of its profiles, got none such")
        return evidence.run(name)

    def of_run(make: Callable[..., Phrase], otherwise: Phrase) -> Callable[..., Phrase]:
        def made(experiment: str, *arguments: str) -> Phrase:
            run = known(experiment)
            return otherwise if run is None else make(run, *arguments)

        return made

    def figref(name: str) -> Phrase:
        if name not in {plot.name for plot in plots()}:
            raise UnknownKey(f"{name}: expected the name of a figure, got none such")
        return macros.figref(name, any(figure.name == name for found in drawn.values() for figure in found))

    def ways(run: Run) -> Phrase:
        found = tables.methods(evidence).get(run.experiment, ())
        return macros.ways(found, [s for s in SHARES if any(s in table.shares for table in found)])

    pending = macros.pending()
    return {
        "val": (1, values),
        "claim": (1, lambda c: macros.claim(standing(c), cited(standing(c).claim.source))),
        "claimref": (1, lambda c: macros.claimref(standing(c))),
        "status": (1, lambda e: "" if known(e) else macros.unfinished(e, evidence.unfinished[e])),
        "finished": (1, of_run(lambda run: macros.keep(), macros.drop())),
        "judged": (2, of_run(lambda run, prefixes: macros.judged(rows_like(run, prefixes)), pending)),
        "summary": (1, of_run(lambda run: macros.summary(run, tables.groups(run.rows), standings), pending)),
        "violations": (1, of_run(lambda run: macros.violations(run.rows), pending)),
        "scores": (5, of_run(lambda run, *asked: macros.scores(tables.scores(run, *asked)), pending)),
        "ways": (1, of_run(ways, pending)),
        "spread": (1, of_run(lambda run: macros.spread(tables.spread(run)), pending)),
        "figures": (1, of_run(lambda run: macros.figures(drawn.get(run.experiment, ())), "")),
        "figref": (1, figref),
    }


def parts(evidence: Evidence) -> dict[str, str]:
    """Files that the paper inputs: stem -> what is in it."""
    about: dict[str, object] = {
        **tables.ladder(evidence), "evidence": evidence, "groups": tables.groups, "settings": tables.settings,
        "environments": tables.environments(evidence), "declarations": tables.declarations(evidence),
        "found": replications(evidence), "unlike": unlike(evidence), "counts": counts, "came": CAME,
        "number": words.Number, "provenance": figures.provenance, "words": words,
    }  # fmt: skip
    stems = ("ladder", "graph", "judged", "declared", "replications", "statements", "settings", "environments")
    found = {stem: render.template(f"{stem}.tex").render(about) for stem in stems}
    order = list(dict.fromkeys((*evidence.runs, *evidence.unfinished)))
    for stem, files in (("topics", topics(evidence.claims)), ("experiments", sections(order))):
        found[stem] = "".join(f"\\input{{{file}}}\n" for file in files)
    return found
