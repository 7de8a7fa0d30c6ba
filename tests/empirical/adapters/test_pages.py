"""What the pages show for a command is what it prints: every word and heading; numbers are those of other adapters."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from empirical.adapters.base import quiet
from empirical.adapters.files import SAFE
from empirical.cli import _parser, main

ROOT = Path(__file__).resolve().parents[3]
PAGES = ("README.md", "docs/audit.md")
#: numbers, and names of modules: those of the page's adapters are not ours
_OURS = re.compile(r"[-+]?\b\d[\d.]*(?:e[-+]?\d+)?\b%?|\bmodel(?:\.\w+)+")


def examples() -> Iterator[tuple[str, str]]:
    """(arguments, what is shown below them) of every command that a page shows with its output."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, shown = example.partition("\n")
                yield command.removeprefix("lora-limits "), shown


EXAMPLES = list(examples())


def masked(text: str) -> str:
    return " ".join(_OURS.sub("#", text).split())


def missing(shown: str, printed: str) -> list[str]:
    """Pieces of the page, between dots or blank lines, that are not printed in this order."""
    rest, lost = masked(printed), []
    for piece in filter(None, map(masked, re.split(r"\.\.\.|\n\n", shown))):
        before, found, after = rest.partition(piece)
        lost += [] if found else [piece]
        rest = after if found else before
    return lost


@pytest.fixture
def scratch(save_adapter, tiny_base, tmp_path, monkeypatch):
    """A folder with everything that the examples name, of a tiny base."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    save_adapter("people", seed=1, r=8, targets=["q_proj", "v_proj"])
    save_adapter("cities", seed=2, r=4, targets=["q_proj", "v_proj"])
    first: dict[str, torch.Tensor] = {}
    for i in range(12):  # five of them read the same
        folder = save_adapter(f"POOL/task-{i:02d}", seed=10 + i, r=8, targets=["q_proj"])
        tensors = load_file(folder / SAFE)
        first = first or tensors
        save_file({k: first[k] if "lora_A" in k and i < 5 else v for k, v in tensors.items()}, str(folder / SAFE))
    (tmp_path / "questions.txt").write_text("w1 w2\tw3\nw4 w5\tw6\n", encoding="utf-8")
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(61)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(str(tmp_path / "base"))
    with quiet():
        tiny_base("llama", torch.bfloat16).save_pretrained(tmp_path / "base", max_shard_size="10KB")
    monkeypatch.setattr("empirical.adapters.base.load_base", lambda _: tiny_base("llama"))
    monkeypatch.setattr(
        "empirical.adapters.probes.load_tokenizer", lambda _: AutoTokenizer.from_pretrained(tmp_path / "base")
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_pages_show_what_the_commands_print(scratch, capsys):
    assert [shlex.split(given)[0] for given, _ in EXAMPLES] == ["audit", "merge", "audit", "explain", "fold", "export"]
    capsys.readouterr()
    for given, shown in EXAMPLES:
        assert main(shlex.split(given)) == 0, given
        printed = capsys.readouterr().out
        if "--probe" in given:  # the answer depends on the adapters: which questions have one does too, but for these
            answer, _, shown = shown.partition("\n\n")
            asked = re.findall(r"^(\w+) {2,}", answer, re.MULTILINE)
            assert asked == [
                w for w in re.findall(r"^(\w+) {2,}", printed.partition("\n\n")[0], re.MULTILINE) if w in asked
            ]
        assert missing(shown, printed) == [], given


def test_what_the_pages_tell_people_to_type_is_understood():
    told = [
        line for page in PAGES for line in re.findall(r"^lora-limits (\w+.*)$", (ROOT / page).read_text(), re.MULTILINE)
    ]
    assert len(told) > 10
    for line in told:
        assert _parser().parse_args(shlex.split(re.split(r" {2,}", line)[0])).command == line.split()[0]
    with pytest.raises(SystemExit):
        _parser().parse_args(["audit", "A", "--nonsense"])


def test_a_word_that_is_not_printed_is_noticed():
    printed = "a: 1 x b\n  14 weights in 3 files, float32\n  off by 2.1e-07 (model.layers.0.q, the closest)\n"
    assert missing("a: 0.5 x b\n  32 weights in 8 files, float32\n...\n (model.x.y, the closest)", printed) == []
    assert missing("a: 1 x b\n  14 weights in 3 shards", printed) == ["a: # x b # weights in # shards"]
    assert missing("float32\n...\na: 1 x b", printed) == ["a: # x b"]
