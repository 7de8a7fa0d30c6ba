"""The static page: whole, the same bytes twice, and used in a browser at the width of a desktop and of a phone."""

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lxml.html
import pytest

pytest.importorskip("plotly")
pytest.importorskip("latex2mathml")

from axe_playwright_python.sync_playwright import Axe
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from empirical.engine.judge import Row
from empirical.ladder import checks_of
from paper import evidence, figures, overview, plots, render, site, tables, words
from paper.evidence import Evidence, EvidenceError, Run
from paper.mathml import MarkupError, math, text
from theory.additive import additive_ceiling
from theory.claims import Sentence, load
from theory.facts import margin_rank_floor
from theory.merging import dilution_limit
from theory.provenance import ROOT

CHROMIUM = shutil.which("chromium")
WIDTHS = {"desktop": 1280, "phone": 390}
#: for a machine on which much else runs, in ms
PATIENCE = 300_000


def row(**changes: Any) -> Row:
    """A judged prediction."""
    found: Any = {
        "id": "planted", "claim": "margin_rank", "experiment": "one_layer", "kind": "ceiling",
        "relation": "at_most", "predicted": 0.5, "margin": 0.0, "worlds": [[1, 4], [3, 4]], "interval": [0.1, 0.9],
        "level": 0.95, "mean": 0.5, "verdict": "undecided", "alone": "undecided", "p": 0.5, "family": "margin_rank",
        "about": "", "alternative": None, "power": None, "declared": "0" * 16,
        "predicted_hash": "0" * 16, "explained": None,
        "says": "planted: 1 < 2 & so on", "devices": ["a device"],
    }  # fmt: skip
    found.update(changes)
    return found


@pytest.fixture(scope="module")
def made(gathered: Evidence) -> Evidence:
    """One real run, judged, with two planted rows; everything else is not finished."""
    run = gathered.runs["one_layer"][0]
    rows = [*run.rows, row(id="lost", verdict="violated", says="planted and lost"), row(),
            row(id="found", kind="hypothesis", verdict="violated", explained="planted and explained")]  # fmt: skip
    others = [name for name in gathered.runs if name != "one_layer"]
    unfinished = {**gathered.unfinished, **dict.fromkeys(others, "no results yet"), "coverage": "3 of 4 cells have run"}
    return dataclasses.replace(
        gathered, runs={"one_layer": [dataclasses.replace(run, rows=rows)]}, unfinished=unfinished
    )


@pytest.fixture(scope="module")
def built(made: Evidence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "site"
    site.build(made, out)
    return out


# ---------------------------------------------------------------- TeX


def test_all_tex_of_the_registry_can_be_shown() -> None:
    for claim in load().values():
        for said in (*(s.tex for s in claim.sentences), *claim.assumptions, claim.source):
            shown = re.sub(r"<[^>]*>", "", text(said))
            assert not re.search(r"[\\$]", shown), said
            assert text(said).count("<math>") >= said.count("$") / 2


@pytest.mark.parametrize("broken", [r"what \unknown", r"$\unknown{x}$", "a $ b"])
def test_tex_that_the_page_does_not_know_is_refused(broken: str) -> None:
    with pytest.raises(MarkupError, match="expected TeX"):
        text(broken)


def test_predictions_are_text() -> None:
    assert render.html(words.predicted(row())) == "≤ 0.5"
    assert render.html(words.interval(row(interval=[None, 0.9]))) == "[−∞, 0.9]"


def test_long_formulas_can_be_broken_and_short_ones_stay_whole() -> None:
    assert math("a = b").count("<math>") == 1
    long = r"a_1 + a_2 + a_3 + a_4 + a_5 = b_1 + b_2 + b_3 + b_4 + f(x = 1) + b_6"
    assert math(long).count("<wbr>") == 1  # not inside the parenthesis


# ---------------------------------------------------------------- drawings


@pytest.mark.parametrize(
    ("relation", "margin", "band"),
    [
        ("at_most", 0.0, (0.0, 0.5)),
        ("at_least", 0.0, (0.5, 1.0)),
        ("equal", 0.1, (0.4, 0.6)),
        ("order", 0.0, (0.5, 1.0)),
    ],
)
def test_the_strip_shows_worlds_and_where_they_should_be(
    relation: str, margin: float, band: tuple[float, float]
) -> None:
    drawn = tables.strip(row(relation=relation, margin=margin))
    assert drawn is not None

    def place(share: float) -> float:
        return 8 + 224 * share

    assert drawn.worlds == pytest.approx([place(1 / 4), place(3 / 4)])
    assert drawn.band == pytest.approx([place(share) for share in band])
    assert drawn.interval == pytest.approx([place(0.1), place(0.9)])


def test_predictions_by_world_are_drawn_as_differences() -> None:
    drawn = tables.strip(row(predicted=[0.25, 0.5], interval=[-0.5, 0.75]))
    assert drawn is not None
    assert drawn.difference
    # scale from -0.5 to 0.75 with 6 % beside it: 0, where the first world lies, is at 8 + 224 * 0.575 / 1.4
    assert drawn.worlds[0] == pytest.approx(8 + 224 * 0.575 / 1.4)
    assert tables.strip(row(worlds=[[0, 0]])) is None


def figure() -> Figure:
    """Every kind of artist that a figure may have."""
    drawn = Figure()
    axis = drawn.add_subplot()
    axis.plot([1, 2, 4], [0.1, 0.2, 0.4], "k-")
    axis.plot([1, 2], [0.3, 0.5], "o", color="#0072B2", ms=6.5)
    axis.plot([1, 2], [0.2, 0.6], "o", color="#0072B2", ms=2.8)
    axis.bar([3, 5], [0.5, 0.7], 0.5, color="#D55E00", hatch="////")
    axis.fill_between([1, 2], 0, [0.1, 0.2])
    axis.errorbar([1], [0.5], [[0.1], [0.2]], fmt="none", color="black")
    axis.scatter([1, 2], [0.7, 0.8])
    axis.axhline(0.25)
    axis.axvspan(2, 3)
    axis.annotate("here", (2, 0.5), xytext=(4, 0), textcoords="offset points")
    axis.text(0, 1.2, "above: VIOLATED", transform=axis.transAxes)
    axis.set_xscale("log", base=2)
    axis.set(xlim=(1, 8), ylim=(1, 0), xlabel="rank", ylabel="share", title="a panel")
    axis.set_xticks([1, 2, 4], ["one", "two", "four"])
    drawn.suptitle("A figure")
    drawn.text(0, 0, "planted, profile cpu")
    drawn.legend(handles=[Line2D([], [], marker="o", ls="", ms=6.5, color="#0072B2", label="mean"),
                          Line2D([], [], marker="o", ls="", ms=2.8, color="#666666", label="one world")])  # fmt: skip
    return drawn


def test_a_figure_keeps_its_numbers_as_a_plot() -> None:
    found = plots.convert(figure(), "planted", "", "planted, profile")
    assert (found.title, found.provenance) == ("A figure", "planted, profile cpu")
    assert [e.label for e in found.legend] == ["mean", "one world"]
    panel = found.panels[0]
    assert panel.title == "a panel"
    assert panel.lines == [("above: VIOLATED", True)]
    curve = next(t for t in panel.data if t.get("x") == [1, 2, 4])
    assert curve["y"] == [0.1, 0.2, 0.4]
    bars = next(t for t in panel.data if t["type"] == "bar")
    assert (bars["x"], bars["y"], bars["width"]) == ([3, 5], [0.5, 0.7], [0.5, 0.5])
    named = {t["text"][0].split("<br>")[0] for t in panel.data if t.get("mode") == "markers"}
    assert {"<b>mean</b>", "<b>one world</b>"} <= named
    assert any("rank: two" in said for t in panel.data for said in t.get("text", []))
    assert {"line", "rect"} == {s["type"] for s in panel.layout["shapes"]}
    # plotly wants logarithms of ranges and of places of notes
    assert panel.layout["xaxis"]["range"] == [0, pytest.approx(0.90309, abs=1e-6)]  # six digits are written
    assert panel.layout["yaxis"]["range"] == [1, 0]
    assert panel.layout["annotations"][0]["x"] == pytest.approx(0.30103, abs=1e-6)
    assert panel.layout["xaxis"]["ticktext"] == ["one", "two", "four"]


def test_scales_slanted_names_and_heights_are_those_of_the_figure() -> None:
    drawn = Figure(figsize=(6, 10))
    upper, lower = drawn.subplots(2, 1, height_ratios=[4, 1])
    upper.plot([0, 1, 16], [1, 2, 3], "o")
    upper.axvline(1)
    upper.set_xscale("symlog", base=2, linthresh=1)
    upper.set_xlim(0, 16)
    lower.bar([0, 1], [1, 2])
    lower.set_xticks([0, 1], ["a name", "another one"], rotation=30)
    upper.set_xlabel("a label that is far too long\n(in brackets)")
    lower.set_xlabel("share of questions")
    lower.set_yticks([0], ["a row with a name that takes room"])
    drawn.text(0, 0, "planted, profile cpu")
    above, below = plots.convert(drawn, "planted", "", "planted, profile").panels
    # linear up to 1, which stands at 2, and then one doubling after the other
    assert above.data[0]["x"] == [0, 2, 6]
    assert above.data[0]["text"][2].endswith(": 16<br>3")
    (line,) = above.layout["shapes"]
    assert (line["x0"], line["x1"]) == (2, 2)
    assert above.layout["xaxis"]["range"] == [0, 6]
    named = dict(zip(above.layout["xaxis"]["tickvals"], above.layout["xaxis"]["ticktext"], strict=True))
    assert (named[0], named[2]) == ("0", "1")
    assert above.layout["xaxis"]["title"]["text"] == "a label that is far too<br>long<br>(in brackets)"
    assert below.layout["xaxis"]["title"]["text"] == "share of<br>questions"
    assert below.layout["xaxis"]["tickangle"] == -30
    assert (above.layout["height"], below.layout["height"]) == (768, 300)


def test_what_the_page_cannot_draw_is_named() -> None:
    drawn = figure()
    drawn.axes[0].add_patch(Circle((1, 1), 1))
    with pytest.raises(plots.PlotError, match=r"planted: expected lines, bars, areas and points, got Circle"):
        plots.convert(drawn, "planted", "", "planted, profile")


def test_every_figure_of_the_results_can_be_drawn(gathered: Evidence) -> None:
    shown = 0
    for run in gathered.all_runs:
        for name, drawn, says in figures.drawn(run):
            found = plots.convert(drawn, name, says, f"{run.experiment}, profile {run.profile}")
            for axis, panel in zip((a for a in drawn.axes if a.axison), found.panels, strict=True):
                wanted = sum(len(line.get_xdata()) for line in axis.lines if line.get_transform() == axis.transData)
                got = sum(len(t["x"]) for t in panel.data if t["type"] == "scatter" and "text" in t)
                assert got >= wanted, name
                assert wanted or axis.patches or axis.collections or axis.images, name
            shown += 1
    assert shown >= 3  # of one_layer and coverage at least


# ---------------------------------------------------------------- what is folded


def words_of(fold: Any) -> str:
    return " ".join(fold.find("summary").text_content().split())


def folded(verdicts: dict[str, list[str]]) -> str:
    """The predictions of experiments that came out so."""
    runs = [Run(name, "cpu", [], [row(experiment=name, verdict=v) for v in of]) for name, of in verdicts.items()]
    declarations = {run.name: SimpleNamespace(commit=f"{run.experiment}-said") for run in runs}
    return render.template("predictions.html").render(
        evidence=SimpleNamespace(all_runs=runs), place=tables.strip, declarations=declarations
    )


def test_predictions_are_folded_by_experiment_and_what_does_not_hold_is_open() -> None:
    verdicts = {"calm": ["holds", "holds"], "torn": ["holds", "undecided", "violated", "holds", "undecided"],
                "lost": ["violated"], "open": ["holds", "undecided"]}  # fmt: skip
    page = lxml.html.fromstring(folded(verdicts))
    named = {"calm": "calm, cpu 2 hold, 0 violated, 0 undecided",
             "torn": "torn, cpu 2 hold, 1 violated, 2 undecided",
             "lost": "lost, cpu 0 hold, 1 violated, 0 undecided",
             "open": "open, cpu 1 hold, 0 violated, 1 undecided"}  # fmt: skip
    seen: dict[str, list[tuple[str, bool]]] = {}
    inner = set()
    for found in page.iter("li"):
        *within, outer = found.iterancestors("details")
        is_open = all("open" in fold.attrib for fold in (*within, outer))
        seen.setdefault(words_of(outer), []).append((found.get("class").removeprefix("row "), is_open))
        inner |= {words_of(fold) for fold in within}
    # what does not hold is read at once, and before what holds; nothing is lost or shown twice
    assert seen == {
        named["calm"]: [("holds", False)] * 2,
        named["torn"]: [("undecided", True), ("violated", True), ("undecided", True), *[("holds", False)] * 2],
        named["lost"]: [("violated", True)],
        named["open"]: [("undecided", True), ("holds", False)],
    }
    assert inner == {"1 that hold", "2 that hold"}
    # a browser opens what an anchor lies in, and not the fold that has its name: links work without JavaScript
    within_one = page.xpath("//*[@id][count(ancestor::details) = 1]/@id")
    assert page.xpath("//@id") == within_one == [f"rows-{name}-cpu" for name in verdicts]


# ---------------------------------------------------------------- the page


def test_the_page_has_everything(built: Path, made: Evidence) -> None:
    assert {p.name for p in built.iterdir()} == {"calculator.js", "index.html", "plotly.min.js", "site.css", "site.js"}
    shown = (built / "index.html").read_text(encoding="utf-8")
    for claim in made.claims.values():
        assert shown.count(f'id="claim-{claim.id}"') == shown.count(f'id="node-{claim.id}"') == 1
        for theorem in claim.theorems:
            assert shown.count(f'id="theorem-{theorem}"') == 1
            file = re.search(rf'id="theorem-{theorem}".*?<code>(proofs/\w+\.v)</code>', shown, re.DOTALL)
            assert file
            assert re.search(rf"^Theorem {theorem}\b", (ROOT / file[1]).read_text(encoding="utf-8"), re.MULTILINE)
        for check in (*claim.checks, *checks_of(claim.id)):
            assert check in shown
        body = re.search(rf'<details class="claim" id="claim-{claim.id}".*?</dl></details>', shown, re.DOTALL)
        assert body
        assert f'<span class="words">{claim.proved}/{len(claim.mathematics)}</span>' in body[0]
        assert body[0].count("Not proved: ") == len(claim.mathematics) - claim.proved
    assert shown.count('<li class="row ') == len(made.runs["one_layer"][0].rows)
    assert "planted: 1 &lt; 2 &amp; so on" in shown
    for why in ("planted and explained", "No explanation is known"):
        assert shown.count(why) == 2, why  # with the experiment, and with the prediction
    assert "Not finished: 3 of 4 cells have run." in shown
    assert f"seeds {made.runs['one_layer'][0].records[0]['cell']['seed']}" in shown
    ids = re.findall(r'\bid="([^"]+)"', shown)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', shown)) <= set(ids)
    assert not re.findall(r'(?:src|href)="(?!#|data:,|site\.|calculator\.|plotly\.)[^"]*"', shown)
    plotted = json.loads(re.search(r'id="plots">(.*?)</script>', shown, re.S)[1])  # type: ignore[index]
    assert set(plotted) == set(re.findall(r'class="plot" id="([^"]+)"', shown))


def test_the_same_material_gives_the_same_bytes(built: Path, made: Evidence, tmp_path: Path) -> None:
    site.build(made, tmp_path / "again")
    for file in built.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_what_stops_the_build_leaves_the_old_page(
    made: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "site"
    out.mkdir()
    (out / "index.html").write_text("old")
    claims = {c: dataclasses.replace(claim, sentences=(Sentence(r"$\unknown$"),)) for c, claim in made.claims.items()}
    with pytest.raises(MarkupError):
        site.build(dataclasses.replace(made, claims=claims), out)
    assert (out / "index.html").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["site"]

    def missing() -> Evidence:
        raise EvidenceError("build/verification.json: expected a file, got none")

    monkeypatch.setattr(evidence, "gather", missing)
    assert site.main() == 2
    assert capsys.readouterr().err == "site: build/verification.json: expected a file, got none\n"


def contrast(a: str, b: str) -> float:
    """Contrast of two colours (#rrggbb) after WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_has_the_contrast_that_wcag_asks_for() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    style = (site.STATIC / "site.css").read_text(encoding="utf-8")
    themes = re.findall(r":root \{(.*?)\}", style, re.S)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", theme))
        for ink in ("ink", "soft", "link", "loud", "good", "open"):
            for ground in ("paper", "shade", "loud-shade"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)  # AA for text


# ---------------------------------------------------------------- in a browser


class Look:
    """A page in a browser without network, and what it did wrong."""

    def __init__(self, tab: Any, path: Path) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.tab = tab
        tab.set_default_timeout(PATIENCE)
        tab.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        tab.on("pageerror", lambda e: self.errors.append(str(e)))
        tab.on("request", lambda r: None if r.url.startswith("file:") else self.requests.append(r.url))
        tab.goto(path.as_uri(), timeout=PATIENCE)

    def width(self) -> int:
        return int(self.tab.evaluate("document.scrollingElement.scrollWidth"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, timeout=PATIENCE)
        yield found
        found.close()


@pytest.fixture(params=WIDTHS)
def tab(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    found = browser.new_page(viewport={"width": WIDTHS[request.param], "height": 844}, offline=True)
    yield found
    found.close()


def test_the_page_in_a_browser(tab: Any, built: Path, made: Evidence) -> None:
    look = Look(tab, built / "index.html")
    wide = tab.viewport_size["width"]
    assert look.width() <= wide

    drawn = tab.locator(".plot")
    plotted = tab.locator("#experiment-one_layer details > summary")
    assert not drawn.first.is_visible()
    plotted.focus()  # by keyboard
    tab.keyboard.press("Enter")
    figured = [figure for _, figure, _ in figures.drawn(made.runs["one_layer"][0])]
    assert drawn.count() == sum(axis.axison for figure in figured for axis in figure.axes) > 1
    for i in range(drawn.count()):
        drawn.nth(i).scroll_into_view_if_needed()
        drawn.nth(i).locator("svg.main-svg .scatterlayer .trace").first.wait_for(state="attached")
    assert look.width() <= wide

    compared = tables.methods(made)["one_layer"]
    chosen, last = tab.locator(".ways:visible"), compared[-1]
    assert chosen.count() == 1 < len(compared)
    tab.locator("#experts select").select_option(index=len(compared) - 1)
    assert chosen.locator("h3").inner_text() == f"one_layer: {last.experts}"
    if wide > 800:  # a method's share and its interval on one line
        parts = chosen.locator("td .soft").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect().top - e.parentNode.getBoundingClientRect().top)"
        )
        assert max(parts) < 12, "an interval below its share"
    chosen.get_by_role("button", name="two hops, uncovered").click()
    shares = [float(cell.get_attribute("data-value")) for cell in chosen.locator("tbody tr td:nth-child(4)").all()]
    assert shares == sorted((round(w.uncovered.mean, 6) for w in last.ways), reverse=True)
    assert look.width() <= wide

    claim = tab.locator("#claim-layer_order")
    assert not claim.evaluate("e => e.open")
    tab.locator("#node-layer_order").click()
    claim.locator("dl").wait_for(state="visible")
    assert claim.locator("math").first.bounding_box()["height"] > 5
    proof = claim.locator("#theorem-layer_order_last")
    proof.locator("summary").click()
    assert "forall" in proof.locator("pre").inner_text()
    tab.locator("#node-coverage_law").focus()  # by keyboard as well
    tab.keyboard.press("Enter")
    tab.locator("#claim-coverage_law dl").wait_for(state="visible")
    tab.get_by_role("button", name="Open or close all claims").click()
    assert tab.locator("details.claim[open]").count() == len(made.claims)
    assert look.width() <= wide

    rows = tab.locator("#predictions .row:visible")
    every = len(made.runs["one_layer"][0].rows)
    verdicts = [r["verdict"] for r in made.runs["one_layer"][0].rows]
    assert rows.count() == every - verdicts.count("holds") < every
    tab.locator("select[name=verdict]").select_option("holds")  # a choice opens what it finds, and its end folds it
    assert rows.count() == verdicts.count("holds")
    tab.locator("#filter button").click()
    tab.locator(f"#count:text('{every} of {every}')").wait_for()
    assert rows.count() == every - verdicts.count("holds")
    tab.locator("select[name=verdict]").select_option("violated")
    assert 2 <= rows.count() == verdicts.count("violated") < every
    tab.locator("select[name=kind]").select_option("ceiling")
    assert [r.strip() for r in rows.locator(".says > p:first-child").all_inner_texts()] == ["planted and lost"]
    assert tab.locator("#count").inner_text() == f"1 of {every} predictions"
    tab.locator("#filter button").click()
    tab.locator(f"#count:text('{every} of {every}')").wait_for()
    tab.locator("#claim-margin_rank a.filter").click()
    shown = sum(r["claim"] == "margin_rank" for r in made.runs["one_layer"][0].rows)
    assert rows.count() == shown
    tab.locator("input[name=words]").fill("PLANTED lost")
    assert rows.count() == 1
    tab.locator("#predictions details.fold > summary").first.click()
    assert rows.count() == 0
    tab.locator("#experiment-one_layer a.filter").click()  # opens the fold that it leads into
    assert rows.count() == every

    assert look.errors == []
    assert look.requests == []


def unnamed(tab: Any) -> set[str]:
    """What axe finds without a name for those who listen, and regions that share one."""
    options = {"runOnly": [f"cat.{c}" for c in ("name-role-value", "text-alternatives", "forms", "semantics")],
               "resultTypes": ["violations"]}  # fmt: skip
    return {found["id"] for found in Axe().run(tab, options=options).response["violations"]}


def test_all_that_can_be_used_has_a_name_for_those_who_listen(browser: Any, built: Path) -> None:
    tab = browser.new_page(offline=True)
    tab.goto((built / "index.html").as_uri(), timeout=PATIENCE)
    assert unnamed(tab) == set()
    planted = {
        "button-name": "<button><svg aria-hidden='true'></svg></button>", "link-name": "<a href='#x'></a>",
        "svg-img-alt": "<svg role='img'></svg>", "select-name": "<select></select>", "label": "<input>",
        "summary-name": "<details><summary> </summary></details>", "role-img-alt": "<div role='img'></div>",
        "landmark-unique": "<nav></nav><nav></nav>",
    }  # fmt: skip
    for fault, mute in planted.items():
        tab.set_content(f"<html lang='en'><title>t</title><main><h1>words</h1>{mute}</main></html>")
        assert unnamed(tab) == {fault}
    tab.close()


def test_an_anchor_opens_what_it_lies_in_without_javascript(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html>{folded({'calm': ['holds'], 'idle': ['holds']})}", encoding="utf-8")
    tab = browser.new_page(offline=True, java_script_enabled=False)
    tab.goto(f"{page.as_uri()}#rows-idle-cpu", timeout=PATIENCE)
    assert [fold.get_attribute("open") for fold in tab.locator("details.fold").all()] == [None, ""]
    tab.close()


def test_the_first_figure_says_the_numbers_of_a_row_that_is_pointed_at(
    browser: Any, gathered: Evidence, made: Evidence, tmp_path: Path
) -> None:
    run, again = gathered.runs["entities"]
    site.build(dataclasses.replace(made, runs={"entities": [run, again]}), tmp_path)
    wanted = [row.sentence(panel.title) for panel, rows in overview.answered({"entities": run}) for row in rows]
    assert wanted
    tab = browser.new_page(offline=True)
    look = Look(tab, tmp_path / "index.html")
    rows, says = tab.locator("#overview [tabindex]"), tab.locator("#overview-says")
    assert rows.evaluate_all("all => all.map(row => row.getAttribute('aria-label'))") == wanted
    assert says.inner_text().startswith("Point at a row")
    for width in (1280, 390):
        tab.set_viewport_size({"width": width, "height": 900})
        words = tab.locator("#overview svg text", has_text=re.compile(r"\S"))
        assert min(words.evaluate_all("all => all.map(word => word.getBoundingClientRect().height)")) >= 9, "too small"
        assert look.width() <= width
        beside = tab.locator("#graph .wide, #again .wide").evaluate_all(
            "all => all.map(e => e.scrollWidth - e.clientWidth)"
        )
        assert len(beside) == 2
        assert max(beside) == 0 or width == 390, "something is hidden beside the box"
        told = tab.locator("#again .again td").evaluate_all(
            "all => all.filter(e => e.innerText.length > 100).map(e => e.clientWidth)"
        )
        told += tab.locator("#again td:last-child").evaluate_all("all => all.map(e => e.clientWidth + 16)")
        assert min(told) >= 240, "a column too narrow to be read"
        rows.first.focus()
        tab.keyboard.press("Tab")
        assert says.inner_text() == wanted[1]
        rows.nth(2).hover()
        assert says.inner_text() == wanted[2]
    assert look.errors == []
    tab.close()


def test_the_calculator_says_what_the_package_says(browser: Any, built: Path) -> None:
    tab = browser.new_page(offline=True)
    look = Look(tab, built / "index.html")
    sizes = [(1, 9), (2, 7), (3, 4), (4, 3), (9, 2), (1000, 2), (5, 3), (40, 20), (200, 5), (100, 100), (1000, 1000),
             (5000, 10), (30_000, 3), (1_000_000, 10)]  # fmt: skip
    found = tab.evaluate("sizes => sizes.map(([n, m]) => limits.additiveCeiling(n, m))", sizes)
    assert found == [pytest.approx(additive_ceiling(n, m), rel=1e-6) for n, m in sizes]
    facts = [(12, 5), (10, 5), (0.3, 0.1), (1, 0), (0, 0), (-2, -1), (-2, 1), (1000, 0.5), (9, 1)]
    for convention in ("update", "factor"):
        found = tab.evaluate("([facts, f]) => facts.map(([g, d]) => limits.dilutionLimit(g, d, f))",
                             [facts, convention == "factor"])  # fmt: skip
        assert found == [dilution_limit(g, d, convention) for g, d in facts]
    codes = [(1, 0.1), (2, 0), (128, 0), (1000, 0.1), (50257, 0.1), (50257, 0.3), (10, 0.9), (10, 1), (10**6, 0.02)]
    found = tab.evaluate("codes => codes.map(([n, e]) => limits.marginRankFloor(n, e))", codes)
    assert found == [margin_rank_floor(n, e) for n, e in codes]

    tab.locator("#calculator input[name=adapters]").fill("3")
    tab.locator("#says-mean:text('it is lost')").wait_for()
    tab.locator("#calculator input[name=adapters]").fill("2")
    tab.locator("#says-mean:text('it is still answered')").wait_for()
    tab.locator("#calculator input[name=bridges]").fill("0")
    tab.locator("#says-wrong:text('bridges: expected a whole number')").wait_for()
    assert tab.locator("#says-join").inner_text() == ""
    assert look.errors == []
    tab.close()


def test_a_page_with_faults_is_noticed(browser: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text('<!doctype html><div style="width:500px">wide</div><script>nothing()</script>'
                   '<script src="https://example.invalid/x.js"></script>')  # fmt: skip
    tab = browser.new_page(viewport={"width": 390, "height": 844}, offline=True)
    look = Look(tab, bad)
    assert look.width() > 390
    assert any("nothing" in e for e in look.errors)
    assert look.requests == ["https://example.invalid/x.js"]
    tab.close()
