"""The parts of the paper that are generated: claims, tables, figures, appendices. Each function returns TeX."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from empirical.ladder import experiments_of
from paper import tex
from paper.material import Material, Run
from paper.values import PENDING, Values, cell_rates, dig, kind_of, provenance, rows_like, rung, select

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {"theorem": "Theorem", "construction": "Construction", "hypothesis": "Hypothesis"}
#: abbreviations of sources in the registry -> key of the bibliography
SOURCES = {"[Z]": "zeng2024expressive", "[C]": "chen2025pause", "[H]": "hu2021lora"}
#: greatest width of a figure in inches, so that its text stays legible at the width of the page
WIDEST = 8.8
#: more undecided predictions than this are not repeated in the text
MANY = 6
MARKS = {"yes": "yes", "part": "in part", "no": "not checked", "fail": r"\textbf{FAILED}", "none": "--"}


def _claim_of(material: Material, claim: str) -> Any:
    if claim not in material.claims:
        raise KeyError(f"{claim}: expected an id of claims.toml, got none such")
    return material.claims[claim]


def _source(text: str) -> str:
    found = tex.escape_prose(text)
    for short, key in SOURCES.items():
        found = found.replace(short, rf"\citet{{{key}}}")
    return found


def claim(material: Material, claim_id: str) -> str:
    """Statement, assumptions, source and evidence of one claim; the statement is the registry's."""
    entry = _claim_of(material, claim_id)
    letters = "abcdefghijklmnopqrstuvwxyz"
    assumptions = "; ".join(f"({letters[i]}) {a}" for i, a in enumerate(entry.assumptions)) or "none"
    return "\n".join([
        rf"\begin{{claim{entry.kind}}}[{entry.title}]\label{{claim:{claim_id}}}\claimid{{{tex.escape(claim_id)}}}%",
        entry.statement,
        rf"\end{{claim{entry.kind}}}",
        rf"\begin{{claimnotes}}\note{{Assumptions}} {assumptions}. \note{{Source}} {_source(entry.source)}. "
        rf"\note{{Evidence}} {_evidence(material, claim_id)}\end{{claimnotes}}",
    ])  # fmt: skip


def _evidence(material: Material, claim_id: str) -> str:
    entry, marks = material.claims[claim_id], rung(material, claim_id)
    layers = material.verification["claims"][claim_id]
    figure = layers["numeric"]["figure"] or layers["symbolic"]["figure"]
    shown = f" ({_figure(figure)})" if figure else ""
    checked = {"yes": f"checked symbolically and numerically{shown}", "no": "checks not run here", "none": "no checks",
               "fail": r"\textbf{a check FAILED}"}[marks["checked"]]  # fmt: skip
    many = len(entry.theorems)
    theorems = f"{tex.number(many)} Coq theorem{'s' if many != 1 else ''}"
    proved = {"yes": f"proved whole by {theorems}", "part": f"proved in part by {theorems}; not covered: "
              f"{tex.escape(entry.unproved)}", "no": f"{theorems}, not checked here", "none": "no formal proof planned",
              "fail": r"\textbf{the proof FAILED}"}[marks["proved"]]  # fmt: skip
    judged = [row for runs in material.runs.values() for row in runs[0].rows if row["claim"] == claim_id]
    if judged:
        measured = tex.tally(judged)
    elif experiments_of(claim_id):
        measured = "measurement not finished"
    else:
        measured = "nothing measured"
    return f"{checked}; {proved}; {measured}."


def _figure(figure: Mapping[str, Any]) -> str:
    return f"{tex.escape(figure['name'])}: {tex.number(figure['value'])} {tex.escape(figure['unit'])}"


def claimref(material: Material, claim_id: str) -> str:
    """A reference to a claim by kind and number."""
    return rf"\hyperref[claim:{claim_id}]{{{KINDS[_claim_of(material, claim_id).kind]}~\ref*{{claim:{claim_id}}}}}"


def ladder(material: Material) -> str:
    """One row per claim: kind, rungs, what the checks measured."""
    lines = []
    topic = ""
    for c in material.claims.values():
        if c.topic != topic:
            topic = c.topic
            lines.append(rf"\midrule\multicolumn{{6}}{{l}}{{\itshape {topic}}}\\")
        marks, layers = rung(material, c.id), material.verification["claims"][c.id]
        figure = layers["numeric"]["figure"] or layers["symbolic"]["figure"]
        cells = [claimref(material, c.id), tex.code(c.id), MARKS[marks["checked"]], MARKS[marks["proved"]],
                 MARKS[marks["measured"]], _figure(figure) if figure else "--"]  # fmt: skip
        lines.append(" & ".join(cells) + r"\\")
    return "\n".join([
        r"\begin{tabularx}{\textwidth}{@{}lllll>{\raggedright\arraybackslash}X@{}}", r"\toprule",
        r"claim & & checked & proved & measured & slack, or gap of what attains it\\",
        *lines, r"\bottomrule", r"\end{tabularx}",
    ])  # fmt: skip


# ---------------------------------------------------------------- judged predictions


def _not_finished(material: Material, experiment: str) -> str:
    if experiment not in material.unfinished:
        raise KeyError(f"{experiment}: expected an experiment, got none such")
    return rf"\notfinished{{{tex.code(experiment)}: {tex.escape(material.unfinished[experiment])}}}"


def status(material: Material, experiment: str) -> str:
    """Nothing for a finished experiment, a framed note for one that is not."""
    return "" if material.run(experiment) else _not_finished(material, experiment)


def finished(material: Material, experiment: str) -> str:
    r"""The macro that keeps its argument if the experiment is finished, else the one that drops it."""
    status(material, experiment)
    return r"\keep" if material.run(experiment) else r"\drop"


def judged(material: Material, experiment: str, prefixes: str) -> str:
    """A table of some predictions of an experiment: said, measured, verdict."""
    run = material.run(experiment)
    if run is None:
        status(material, experiment)
        return PENDING
    return _table(rows_like(run, prefixes))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Judged predictions as a table that stays on one page."""
    lines = [
        f"{tex.escape(row['says'])} & {row['kind']} & {tex.predicted(row)} & {tex.measured(row)} & {tex.verdict(row)}"
        r"\\" for row in rows
    ]  # fmt: skip
    return "\n".join([
        r"\begin{tabularx}{\textwidth}{@{}>{\raggedright\arraybackslash}XlL{2.1cm}L{3.3cm}l@{}}", r"\toprule",
        r"prediction & kind & predicted & measured & verdict\\", r"\midrule", *lines, r"\bottomrule",
        r"\end{tabularx}",
    ])  # fmt: skip


def summary(material: Material, experiment: str) -> str:
    """A table of an experiment's predictions by claim and kind: how many hold, are violated, are undecided."""
    run = material.run(experiment)
    if run is None:
        status(material, experiment)
        return PENDING
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in run.rows:
        groups.setdefault((row["claim"], row["kind"]), []).append(row)
    lines = []
    for (claim_id, kind), rows in groups.items():
        counts = [sum(r["verdict"] == v for r in rows) for v in tex.VERDICTS]
        loud = rf"\textbf{{{tex.number(counts[1])}}}" if counts[1] else tex.number(0)
        lines.append(f"{claimref(material, claim_id)} & {tex.escape(material.claims[claim_id].title)} & {kind} & "
                     f"{tex.number(counts[0])} & {loud} & {tex.number(counts[2])}" r"\\")  # fmt: skip
    return "\n".join([
        r"\begin{tabularx}{\textwidth}{@{}lXlrrr@{}}", r"\toprule",
        r"claim & & kind & hold & violated & undecided\\", r"\midrule", *lines, r"\bottomrule", r"\end{tabularx}",
    ])  # fmt: skip


def violations(material: Material, experiment: str) -> str:
    """Every violated prediction of an experiment with its explanation, then the undecided ones, if they are few."""
    run = material.run(experiment)
    if run is None:
        status(material, experiment)
        return PENDING
    found = []
    for row in run.rows:
        if row["verdict"] == "violated":
            why = tex.escape(row["explained"]) if row["explained"] else r"\textbf{No explanation is known.}"
            found.append(rf"\violation{{{tex.escape(row['says'])}}}{{{tex.outcome(row)}}}{{{why}}}")
    undecided = [row for row in run.rows if row["verdict"] == "undecided"]
    if not found:
        found.append("No prediction of this experiment is violated.")
    if len(undecided) > MANY:
        found.append(f"{tex.number(len(undecided))} predictions are undecided, because the interval excludes neither "
                     r"answer; they are marked so in Appendix~\ref{app:judged}.")  # fmt: skip
    elif undecided:
        found.append("These are undecided, because the interval excludes neither answer:")
        found.append(rf"\resulttable{{{_table(undecided)}}}")
    return "\n\n".join(found)


def scores(material: Material, experiment: str, selector: str, path: str, rows: str, columns: str) -> str:
    """A table of mean rates over worlds: a row per condition under `path` (`*` for all), a column per named cell."""
    run = material.run(experiment)
    if run is None:
        status(material, experiment)
        return PENDING
    records = select(run, selector)
    names = [c.strip() for c in columns.split(",")]
    conditions = dict.fromkeys(
        name for r in records for name, value in dig(r["metrics"], [path]).items() if isinstance(value, Mapping)
    )
    wanted = list(conditions) if rows == "*" else [c.strip() for c in rows.split(",")]
    unknown = [c for c in wanted if c not in conditions]
    if unknown:
        raise KeyError(f"{unknown[0]}: expected a condition in the results of {experiment}, got none such")
    lines = []
    for condition in wanted:
        found = [cell_rates(records, [path, condition, name]) for name in names]
        if any(found):
            cells = [tex.number(round(tex.mean(f), 2)) if f else "--" for f in found]
            lines.append(f"{tex.escape(condition.replace('_', ' '))} & {' & '.join(cells)}" r"\\")
    if not lines:
        raise KeyError(f"{columns}: expected names of counts in the results of {experiment}, got none such")
    heads = " & ".join(r"\rothead{" + tex.escape(n.replace("_", " ")) + "}" for n in names)
    worlds = len(records)
    return "\n".join([
        rf"\begin{{tabular}}{{@{{}}l{'r' * len(names)}@{{}}}}", r"\toprule",
        rf"mean over {tex.number(worlds)} worlds & {heads}\\", r"\midrule", *lines, r"\bottomrule", r"\end{tabular}",
    ])  # fmt: skip


# ---------------------------------------------------------------- figures


def draw_figures(material: Material, folder: Path) -> dict[str, dict[str, str]]:
    """Draw the figures of all finished experiments as PDF into `folder`: experiment -> plot name -> caption."""
    import matplotlib

    from empirical.engine.drawing import STYLE
    from empirical.engine.figures import plots

    captions: dict[str, dict[str, str]] = {}
    style = {**STYLE, "pdf.fonttype": 42, "pdf.compression": 6}
    for plot in plots():
        run = material.run(plot.experiment)
        if run is None:
            continue
        with matplotlib.rc_context(style):
            figure = plot.draw(run.records, run.rows)
            if figure is None:
                continue
            captions.setdefault(plot.experiment, {})[plot.name] = _caption(figure, plot, run)
            _fit(figure)
            _settle(figure)
            figure.savefig(folder / f"{plot.name}.pdf", metadata={"CreationDate": None, "Producer": None})
    return captions


def _fit(figure: Any) -> None:
    """Narrow a figure to :data:`WIDEST`; a legend that no longer fits gets more lines, and the figure their height."""
    width, height = (float(x) for x in figure.get_size_inches())
    if width <= WIDEST:
        return
    figure.set_size_inches(WIDEST, height)
    for legend in list(figure.legends):
        handles, columns, wide = legend.legend_handles, legend._ncols, WIDEST * figure.dpi
        labels = [text.get_text() for text in legend.get_texts()]
        lines = -(-len(handles) // columns)
        while columns > 1 and legend.get_window_extent().width > wide:
            columns -= 1
            legend.remove()
            legend = figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 0), ncols=columns)
        # the height of a line of a legend in inches, as the figures have it
        extra = 0.19 * (-(-len(handles) // columns) - lines)
        left, bottom, across, _ = figure.get_layout_engine().get()["rect"]
        figure.set_size_inches(WIDEST, height + extra)
        bottom = (bottom * height + extra) / (height + extra)
        figure.get_layout_engine().set(rect=(left, bottom, across, 1 - bottom))


def _settle(figure: Any) -> None:
    """Lay a figure out once and keep the places, rounded: the solver's last digits differ from run to run."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axis in figure.axes:
        axis.set_position([round(float(x), 4) for x in axis.get_position().bounds])


def _caption(figure: Any, plot: Any, run: Run) -> str:
    """Title, description and provenance as a caption; what the caption says is taken off the figure."""
    title = figure.get_suptitle()
    if figure._suptitle is not None:
        figure._suptitle.set_visible(False)
        figure._suptitle.set_in_layout(False)
    source = ""
    for text in figure.texts:
        if text.get_text().startswith(f"{run.experiment}, profile"):
            source = text.get_text()
            text.set_visible(False)
    says = (plot.draw.__doc__ or "").strip().splitlines()
    origin = tex.escape(source.replace("  |  ", "; ")) + "." if source else provenance(run)
    return rf"\textbf{{{tex.escape(title)}.}} {tex.escape(says[0] if says else '')} \provenance{{{origin}}}"


def figures(material: Material, captions: Mapping[str, Mapping[str, str]], experiment: str) -> str:
    """All figures of an experiment."""
    if material.run(experiment) is None:
        status(material, experiment)
        return ""
    return "\n".join(rf"\resultfigure{{{name}}}{{{caption}}}" for name, caption in captions.get(experiment, {}).items())


def figref(material: Material, captions: Mapping[str, Mapping[str, str]], name: str) -> str:
    """A reference to a figure, or that it is not finished."""
    from empirical.engine.figures import plots

    if any(name in found for found in captions.values()):
        return rf"Figure~\ref{{fig:{name}}}"
    if not any(plot.name == name for plot in plots()):
        raise KeyError(f"{name}: expected the name of a figure, got none such")
    return rf"a figure ({PENDING})"


# ---------------------------------------------------------------- appendices


def all_judged(material: Material) -> str:
    """Every judged prediction of every finished run."""
    found = []
    for runs in material.runs.values():
        for run in runs:
            found.append(rf"\subsection*{{{tex.code(run.experiment)}, profile {tex.escape(run.profile)}}}")
            found.append(rf"{{\small {provenance(run)} {tex.tally(run.rows)}.}}")
            head = r"prediction & predicted & measured & level & worlds & verdict\\"
            groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
            for row in sorted(run.rows, key=lambda r: list(material.claims).index(r["claim"])):
                groups.setdefault((row["claim"], row["kind"]), []).append(row)
            lines = []
            for (claim_id, kind), rows in groups.items():
                head_of = f"{kind}: {claimref(material, claim_id)}, {tex.code(claim_id)}"
                lines.append(rf"\addlinespace\multicolumn{{6}}{{@{{}}l}}{{\itshape {head_of}}}\\*")
                for row in rows:
                    level = "--" if row["kind"] == "exact" else tex.percent(row["level"], 4)
                    lines.append(f"{tex.escape(row['says'])} & {tex.predicted(row)} & {tex.measured(row)} & {level} & "
                                 f"{tex.number(len(tex.rates(row)))} & {tex.verdict(row)}" r"\\")  # fmt: skip
            found.append("\n".join([
                r"{\footnotesize\begin{xltabular}{\textwidth}{@{}>{\raggedright\arraybackslash}XL{2.1cm}L{3.2cm}rrl@{}}",
                rf"\toprule {head}\midrule\endhead", r"\bottomrule\endfoot", *lines, r"\end{xltabular}}",
            ]))  # fmt: skip
    found += [_not_finished(material, e) for e in material.unfinished]
    return "\n\n".join(found)


def all_statements(material: Material) -> str:
    """Every registered theorem as Coq printed it, under the sentence of the claim that it covers."""
    found = []
    topic = ""
    for c in material.claims.values():
        if c.topic != topic:
            topic = c.topic
            found.append(rf"\subsection*{{{topic.capitalize()}}}")
        for theorem, covers in c.theorems.items():
            printed = material.statements[theorem]
            body = re.sub(r"^     : ", "  ", printed.statement)
            body = "\n".join(
                line.rstrip().removeprefix("     ") if i else line for i, line in enumerate(body.splitlines())
            )
            closed = "" if printed.assumptions == "Closed under the global context" else (
                rf" \textbf{{Not closed:}} {tex.escape(printed.assumptions)}")  # fmt: skip
            found.append("\n".join([
                rf"\formal{{{tex.code(theorem)}}}{{{claimref(material, c.id)}}}{{{tex.escape(covers)}{closed}}}",
                r"\begin{Coq}", body, r"\end{Coq}",
            ]))  # fmt: skip
    return "\n\n".join(found)


def all_settings(material: Material) -> str:
    """Configurations as the records' cells have them: what all cells of a kind share, and what varies."""
    found = []
    for runs in material.runs.values():
        for run in runs:
            found.append(rf"\subsection*{{{tex.code(run.experiment)}, profile {tex.escape(run.profile)}}}")
            for kind in dict.fromkeys(kind_of(r["cell"]) for r in run.records):
                mine = [r["cell"] for r in run.records if kind_of(r["cell"]) == kind]
                names = dict.fromkeys(n for c in mine for n in c if n not in ("kind", "part"))
                same, varied = [], []
                for name in names:
                    values = [c.get(name) for c in mine]
                    label = tex.escape(name.replace("_", " "))
                    if all(v == values[0] for v in values):
                        same.append(f"{label} {tex.plain(values[0])}")
                    elif name == "seed":
                        varied.append(f"seeds {tex.spans(values)}")
                    else:
                        each = list(dict.fromkeys(tex.plain(v) if v is not None else "--" for v in values))
                        varied.append(f"{label}: {' / '.join(each)}")
                found.append(rf"\setting{{{tex.escape(kind)}}}{{{tex.number(len(mine))} cells; {'; '.join(varied)}}}"
                             rf"{{{'; '.join(same)}}}")  # fmt: skip
    found += [_not_finished(material, e) for e in material.unfinished]
    return "\n\n".join(found)


def all_environments(material: Material) -> str:
    """Devices, versions, seeds, commits and times of the verification and of every run."""
    e = material.verification["environment"]
    versions = ", ".join(f"{tex.escape(n)} {tex.escape(str(v))}" for n, v in e["packages"].items())
    rows = [(
        "verification",
        f"{tex.escape(e['platform'])}, {tex.number(e['cores'])} cores; Python {tex.escape(e['python'])}, {versions}; "
        f"{tex.escape(e['coq'] or 'no Coq')}", "--",
        tex.escape((e["commit"] or "unknown")[:7]) + (" with changes" if e["dirty"] else ""),
        f"{tex.number(e['seconds'] / 60, 2)} min",
    )]  # fmt: skip
    for runs in material.runs.values():
        for run in runs:
            environments: dict[str, int] = {}
            for r in run.records:
                versions = ", ".join(f"{tex.escape(n)} {tex.escape(str(v))}"
                                     for n, v in r["environment"]["packages"].items())  # fmt: skip
                text = f"{tex.escape(r['device'])}; Python {tex.escape(r['environment']['python'])}, {versions}"
                environments[text] = environments.get(text, 0) + 1
            commits = sorted({(r["commit"] or "unknown")[:7] + (" with changes" if r["dirty"] else "")
                              for r in run.records})  # fmt: skip
            seeds = tex.spans([r["cell"]["seed"] for r in run.records if "seed" in r["cell"]])
            minutes = math.fsum(r["seconds"] for r in run.records) / 60
            rows.append((f"{tex.code(run.experiment)}, {tex.escape(run.profile)}",
                         "; ".join(f"{t} ({tex.number(k)} cells)" for t, k in environments.items()), seeds,
                         tex.escape(", ".join(commits)), f"{tex.number(minutes, 2)} min"))  # fmt: skip
    lines = [" & ".join(row) + r"\\\addlinespace" for row in rows]
    table = "\n".join([
        r"{\small\begin{xltabular}{\textwidth}{@{}L{2.6cm}>{\raggedright\arraybackslash}XL{2.2cm}L{2.2cm}r@{}}",
        r"\toprule run & device and versions & seeds & commit & time\\\midrule\endhead\bottomrule\endfoot", *lines,
        r"\end{xltabular}}",
    ])  # fmt: skip
    return "\n\n".join([table, *(_not_finished(material, x) for x in material.unfinished)])


def requests(
    material: Material, values: Values, captions: Mapping[str, Mapping[str, str]]
) -> dict[str, tuple[int, Callable[..., str]]]:
    """What the text may ask for: name of the macro -> (number of arguments, function of them)."""
    return {
        "val": (1, values),
        "claim": (1, lambda c: claim(material, c)),
        "claimref": (1, lambda c: claimref(material, c)),
        "status": (1, lambda e: status(material, e)),
        "finished": (1, lambda e: finished(material, e)),
        "judged": (2, lambda e, p: judged(material, e, p)),
        "summary": (1, lambda e: summary(material, e)),
        "violations": (1, lambda e: violations(material, e)),
        "scores": (5, lambda e, s, p, r, c: scores(material, e, s, p, r, c)),
        "figures": (1, lambda e: figures(material, captions, e)),
        "figref": (1, lambda n: figref(material, captions, n)),
    }


def whole_parts(material: Material) -> dict[str, Callable[[], str]]:
    """Files that the paper inputs: stem -> what is in it."""

    def part(make: Callable[[Material], str]) -> Callable[[], str]:
        return lambda: make(material)

    return {
        "ladder": part(ladder), "judged": part(all_judged), "statements": part(all_statements),
        "settings": part(all_settings), "environments": part(all_environments),
    }  # fmt: skip
