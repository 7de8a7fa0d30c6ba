"""The two command lines: what they print and write, and the one line that bad input, a package or the disk gets."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import empirical.__main__
import empirical.cli
from empirical.adapters.files import CONFIG, SAFE
from empirical.cli import main
from tests.empirical.adapters.folders import changed, configured, times
from tests.empirical.conftest import files_of_at_most, status_of
from theory.claims import load
from theory.console import guarded, install_hint

ROOT = Path(__file__).resolve().parents[2]


def test_the_command_writes_reports_and_prints_tables(save_adapter, tmp_path, capsys):
    a, b = save_adapter("a", seed=1), save_adapter("[red]b", seed=2)
    made = ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html"), "--modules"]
    assert main(["audit", str(a), str(b), "--weights", "0.5", "0.5", *made]) == 0
    out = capsys.readouterr().out
    assert "[red]b" in out
    assert "exact at rank 8" in out
    assert "layers.1.mlp.down_proj" in out
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["options"]["weights"] == [0.5, 0.5]
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["audit", str(b), *made]) == 0  # reports of before are replaced
    capsys.readouterr()
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["options"]["weights"] == [1.0]
    for force in ([], ["--force"]):
        to = ["-o", str(tmp_path / "c"), "--json", str(tmp_path / "m.json"), *force]
        assert main(["merge", str(a), str(b), *to, "--weights", "0.5", "0.5"]) == 0
        assert "14 modules, rank 8, scale 1, float32" in capsys.readouterr().out
    assert json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["output"] == "c"


def test_merge_fold_and_export_from_the_command_line(save_adapter, save_base, tmp_path, capsys):
    a, b = save_adapter("a", seed=1, targets=["q_proj"]), save_adapter("b", seed=2, r=2)
    base, weights = str(save_base()), ["--weights", "1,-1e-1"]
    capsys.readouterr()
    assert main(["merge", str(a), str(b), "-o", str(tmp_path / "c"), "--compact", *weights]) == 0
    assert "rank 2 to 6" in capsys.readouterr().out
    assert main(["merge", str(a), str(b), "-o", str(tmp_path / "c"), "--force"]) == 0  # replaced, and not compact
    assert "rank 6, scale 1" in capsys.readouterr().out
    assert main(["fold", str(a), str(b), "--base", base, "-o", str(tmp_path / "d"), *weights]) == 0
    out = capsys.readouterr().out
    assert "d: base + 1 x a + -0.1 x b" in out
    assert "14 weights in 1 files, float32, each rounded once" in out
    assert main(["export", str(tmp_path / "c"), "--base", base, "-o", str(tmp_path / "c.gguf")]) == 0
    assert "c.gguf: c for llama.cpp (llama, 14 modules, alpha 6, float32)" in capsys.readouterr().out
    assert main(["export", str(a), "--to", "onnx", "-o", str(tmp_path / "x")]) == 2
    assert main(["fold", str(a), "--base", str(tmp_path / "none"), "-o", str(tmp_path / "x")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 2
    assert not (tmp_path / "x").exists()


def test_many_adapters_give_one_screen(save_adapter, tmp_path, capsys):
    for i in range(12):  # number 10 is number 3 again, and number 11 is dead
        strength = times(0.0 if i == 11 else 1.0)
        save_adapter(f"pool/task{i:02d}", seed=3 if i == 10 else i, targets=["q_proj"], fill=strength)
    capsys.readouterr()
    report = tmp_path / "r.json"
    assert main(["audit", str(tmp_path / "pool"), "--json", str(report)]) == 0  # the folder stands for all in it
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 60
    assert "12 adapters, 2 modules, rank 4" in out
    assert "2 share more than half of what they read beyond chance: task03, task10" in out
    text = " ".join(out.split())
    assert "An update of zero, which changes nothing: task11; one update twice: task03 = task10." in text
    assert len(json.loads(report.read_text(encoding="utf-8"))["total"]["pairs"]) == 66
    dead = str(tmp_path / "pool" / "task11")
    assert main(["audit", dead]) == 0
    assert "The sum is zero: there is nothing to merge." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (["--weights", "1", "2"], "weights"), (["--rank", "0"], "rank"), (["--density", "0"], "density"),
        (["--probe", "x"], "probe"), (["--json", "no/such/folder/x.json"], "output"), (["--seed", "-1"], "seed"),
        (["--json", "same", "--html", "./same"], "--html"), (["--density", "x"], "density"),
        (["--nonsense"], "nonsense"), (["--weights", "1e-200"], "weights"),
    ],
)  # fmt: skip
def test_bad_arguments_get_one_line_and_exit_two(extra, named, save_adapter, capsys):
    assert status_of(main, ["audit", str(save_adapter("a", targets=["q_proj"])), *extra]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert named in captured.err


def test_explain_and_version(capsys):
    assert main(["explain", "merge_rank"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("merge_rank: ")
    assert "proofs/merging.v" in out
    assert main(["explain"]) == 0
    assert [x.split()[0] for x in capsys.readouterr().out.splitlines()] == list(load())
    assert main(["explain", "nonsense"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("line", [empirical.cli, empirical.__main__])
def test_every_command_has_its_function(line, capsys):
    for command in line.ACTIONS:
        assert status_of(line.main, [command, "--help"]) == 0
    assert status_of(line.main, ["--help"]) == 0
    listed = capsys.readouterr().out.rpartition("COMMAND\n")[2]
    named = {x.split()[0] for x in listed.splitlines() if x.startswith("    ") and x[4:5].strip()}
    assert named == set(line.ACTIONS)


def without(packages: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line where these packages cannot be imported."""
    code = f"import sys; sys.modules |= dict.fromkeys({packages.split()}); from empirical.cli import main; "
    return subprocess.run(
        [sys.executable, "-c", code + "sys.exit(main(sys.argv[1:]))", *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip


def test_what_needs_more_names_the_extra():
    adapters = "torch peft transformers safetensors pydantic"
    for command in (["audit", "a"], ["merge", "a", "-o", "c"]):
        done = without(adapters, *command)
        assert done.returncode == 2
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"lora-limits: {command[0]}: expected the package ")
        assert line.endswith(", got none; install it with: pip install 'lora-limits[adapters]'")
    for command in (["--version"], ["explain", "merge_rank"], ["--help"]):
        assert without(adapters, *command).returncode == 0
    assert [install_hint(x).partition("[")[2] for x in ("ray", "torch")] == ["cluster]'", "adapters]'"]


def test_an_import_of_our_own_that_fails_is_no_missing_package():
    def act() -> int:
        raise ModuleNotFoundError("none", name="empirical.adapters.gone")

    with pytest.raises(ModuleNotFoundError):
        guarded("lora-limits", "audit", act)


def test_what_the_operating_system_refuses_is_one_line_and_nothing_else(save_adapter, save_base, tmp_path, capsys):
    a, base = str(save_adapter("a", targets=["q_proj"])), str(save_base())
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    before, long = sorted(tmp_path.iterdir()), "x" * 300
    merge, fold, export = ["merge", a], ["fold", a, "--base", base], ["export", a, "--base", base]

    def refused(command: list[str], option: str, output: str) -> None:
        assert main([*command, option, str(tmp_path / output)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1, captured.err
        assert sorted(tmp_path.iterdir()) == before

    for output in (long, "loop", "loop/x", "file", "file/x", "no/where", "/dev/null/x", "/proc/x", "."):
        for command in (merge, fold, export):
            refused(command, "-o", output)
    weights = [tmp_path / name for name in (f"a/{SAFE}", f"a/{CONFIG}", "base/model.safetensors", "base/config.json")]
    held = [path.read_bytes() for path in weights]
    for path in weights:
        refused([*export, "--force"], "-o", str(path))
    for output in ("/dev/full", long, "loop", "file/x", "/proc/x", "base", "file", *map(str, weights)):
        refused([*merge, "-o", str(tmp_path / "c")], "--json", output)  # not the merge either
        refused(["audit", a], "--json", output)
        refused(["audit", a], "--html", output)
    for size in (100, 2000):  # not even the header; the header and no more
        for command, option in ((merge, "-o"), (fold, "-o"), (export, "-o"), ([*export, "--force"], "-o")):
            with files_of_at_most(size):
                refused(command, option, "c")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
    assert [path.read_bytes() for path in weights] == held


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MemoryError(), 2, "lora-limits: merge: the operating system says: no memory left"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "no memory left"),
        (PermissionError(13, "Permission denied", "c"), 2, "says: Permission denied: c"),
        (RuntimeError("shapes differ"), 70, "Traceback"), (KeyError("a"), 70, "Traceback"),
        (SystemExit(), 143, ""),
    ],
)  # fmt: skip
def test_what_ends_a_merge_in_the_middle_leaves_nothing_and_is_no_failed_merge(
    error, status, said, save_adapter, tmp_path, monkeypatch, capsys
):
    from empirical.adapters import merge

    a = str(save_adapter("a", targets=["q_proj"]))

    def ends(folder: Path, *_: Any) -> None:
        (folder / "half").write_text("written", encoding="utf-8")
        if isinstance(error, SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)  # as a batch system does when the time is over
            time.sleep(60)
        raise error

    monkeypatch.setattr(merge, "stream_adapter", ends)
    before = signal.getsignal(signal.SIGTERM)
    assert status_of(main, ["merge", a, "-o", str(tmp_path / "c")]) == status
    assert signal.getsignal(signal.SIGTERM) == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert status == 70 or len(captured.err.splitlines()) == bool(said)


#: what is odd about the input -> (what makes it so of a good adapter, options, what the line must name)
ODD: dict[str, tuple[Callable[[Path], Any], list[str], str]] = {
    "missing": (shutil.rmtree, [], "an adapter folder or a hub id"),
    "empty": (lambda a: [p.unlink() for p in a.iterdir()], [], "adapter_config.json in the folder, got none; it is"),
    "no configuration": (lambda a: (a / CONFIG).unlink(), [], "none; it holds README.md, adapter_model.safetensors"),
    "no weights": (lambda a: (a / SAFE).unlink(), [], "neither; it holds README.md, adapter_config.json"),
    "configuration cut off": (lambda a: (a / CONFIG).write_text("{"), [], "readable JSON"),
    "configuration is a folder": (lambda a: ((a / CONFIG).unlink(), (a / CONFIG).mkdir()), [], "adapter_config.json"),
    "weights cut off": (lambda a: (a / SAFE).write_bytes((a / SAFE).read_bytes()[:-9]), [], "a whole adapter_model"),
    "weights of no length": (lambda a: (a / SAFE).write_bytes(b""), [], "a whole adapter_model"),
    "nan": (lambda a: changed(a, lambda _, x: x * float("nan")), [], "finite entries, got nan or inf"),
    "a file": (lambda a: (shutil.rmtree(a), a.write_text("x")), [], "an adapter folder, got a file"),
    "weights": (lambda a: None, ["--weights", "1,2,3"], "weights: expected "),
    "a weight of nan": (lambda a: None, ["--weights", "nan,nan"], "weights: expected a finite number, got nan"),
    "another base": (lambda a: configured(a, base_model_name_or_path="other/base"), [], "one base_model_name_or_path"),
}  # fmt: skip


@pytest.fixture
def beside(save_adapter, save_base):
    """A folder with a base and an adapter, good, that names one."""
    configured(save_adapter("good", seed=1, targets=["q_proj"]), base_model_name_or_path="some/base")
    return save_base().parent


@pytest.mark.parametrize("odd", ODD)
def test_odd_input_is_one_line_for_every_verb(odd, beside, save_adapter, capsys):
    change, options, named = ODD[odd]
    change(save_adapter("a", targets=["q_proj"]))
    good, a, base = (str(beside / n) for n in ("good", "a", "base"))
    before = sorted(beside.iterdir())
    commands = {
        "audit": [good, a],
        "merge": [good, a],
        "fold": [good, a, "--base", base],
        "export": [a, "--base", base],
    }
    if "weights" in " ".join(options) or odd == "another base":
        del commands["export"]  # it takes one adapter and no weights
    capsys.readouterr()
    for verb, given in commands.items():
        made = [] if verb == "audit" else ["-o", str(beside / "made")]
        assert main([verb, *given, *options, *made]) == 2, verb
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1, captured.err
        assert named in captured.err, verb
        assert sorted(beside.iterdir()) == before


def test_what_holds_something_else_is_kept_whatever_it_is_called(save_adapter, save_base, tmp_path, capsys):
    """A page, a table and an input of the user, where a report or a merge was to go."""
    a, base = str(save_adapter("a", targets=["q_proj"])), save_base()
    shutil.copy(Path(a) / CONFIG, base / CONFIG)  # adapters of a base often lie in its folder
    mine = {"page": "<!doctype html>\n<html lang='en'>mine", "table": '{\n "schema": "mine"}'}
    for name, text in mine.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    page, table, c = (str(tmp_path / n) for n in ("page", "table", "c"))
    for command in (
        ["audit", a, "--html", page], ["audit", a, "--json", table], ["merge", a, "-o", c, "--json", table],
        ["merge", a, "-o", c, "--json", c], ["merge", a, "-o", c, "--json", f"{c}/r.json"],
        ["merge", a, "--base", str(base), "-o", str(base), "--force"],
    ):  # fmt: skip
        assert main(command) == 2, command
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1, captured.err
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "base", "page", "table"]
    assert (base / "model.safetensors").is_file()
    assert {name: (tmp_path / name).read_text(encoding="utf-8") for name in mine} == mine


def test_letters_that_a_terminal_lacks_are_spelled_out(save_adapter, tmp_path, capsys):
    save_adapter("ä", targets=["q_proj"])
    for command in (["audit", "ä"], ["merge", "ä", "-o", "ö"]):
        done = subprocess.run(
            [sys.executable, "-m", "empirical.cli", *command], env=os.environ | {"PYTHONIOENCODING": "ascii"},
            cwd=tmp_path, capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        assert rb"\xe4" in done.stdout


def test_json_to_standard_output_through_a_link_and_into_a_pipe(save_adapter, tmp_path, capsys):
    a = str(save_adapter("a", targets=["q_proj"]))
    assert main(["audit", a, "--weights=-1e-1", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["options"]["weights"] == [-0.1]
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert main(["audit", a, a, "--weights", "-1e-1,.5", "--json", str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "real").read_text(encoding="utf-8"))["options"]["weights"] == [-0.1, 0.5]
    os.mkfifo(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), encoding="utf-8") as reader:
        assert main(["audit", a, "--json", str(tmp_path / "pipe")]) == 0
        assert (tmp_path / "pipe").is_fifo()
        assert json.loads(reader.read())["options"]["weights"] == [1.0]
    capsys.readouterr()
    for forms in (["-1e-1 .5"], ["-1e-1, .5"], ["-1E-1,", "+5e-1"]):
        assert main(["merge", a, a, "--weights", *forms, "-o", str(tmp_path / "c"), "--force", "--json", "-"]) == 0
        assert json.loads(capsys.readouterr().out)["weights"] == [-0.1, 0.5]
    assert status_of(main, ["audit", a, a, "--weights", "1/2,1/2"]) == 2
    assert "expected numbers as in 0.5,-0.5, got '1/2,1/2'" in capsys.readouterr().err


#: with the packages in memory once; what Python does at its end is done here for a child
ENDS_EARLY = """
import os, subprocess, sys
import peft, rich.console, torch, transformers
from empirical.cli import main
for line in sys.stdin:
    command, _, output = line.strip().partition("|")
    child = os.fork()
    if not child:
        if output == "true":
            reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
            os.dup2(reader.stdin.fileno(), 1)
            reader.wait()
            reader.stdin.close()
        elif output == "closed":
            os.close(1)
            sys.stdout = None
        else:
            os.dup2(os.open(output, os.O_WRONLY), 1)
        status = main(command.split())
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError:
            status = 120
        os._exit(status)
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr, flush=True)
"""


def test_an_output_that_ends_early_is_no_failed_merge(save_adapter, save_base, tmp_path):
    """The reader has seen enough, there is nobody to see anything, or there is no room: nothing is written then."""
    save_adapter("a", targets=["q_proj"])
    save_base()
    cases = {
        "audit a|true": (2, ""), "explain|true": (2, ""), "audit a|closed": (0, ""),
        "audit a|/dev/full": (2, "No space left"), "audit a --json -|/dev/full": (2, "No space left"),
        "merge a -o c|/dev/full": (2, "No space left"), "explain|/dev/full": (2, "No space left"),
        "fold a --base base -o d|/dev/full": (2, "No space left"),
        "export a --base base -o e|/dev/full": (2, "No space left"),
    }  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ENDS_EARLY], input="\n".join(cases), cwd=tmp_path, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip
    lines = iter(found.stderr.splitlines())
    for case, (status, said) in cases.items():
        if said:
            assert said in next(lines), case
        assert next(lines) == f"status {status}", (case, found.stderr)
    assert not list(lines)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "base"]
