"""Probe questions: margins of the base, of single adapters, of their sum and mean, and what a mean can hold."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from empirical.adapters.base import PACKAGED, owns, quiet
from empirical.adapters.checkpoint import brief
from empirical.adapters.files import Adapter
from empirical.adapters.identity import with_parts
from empirical.adapters.inputs import vocabulary
from empirical.adapters.report import Advised, Answered, Probe, Probes
from empirical.training.bases import load_tokenizer, lora_layers
from theory.merging import best_weights, dilution_limit, interference_bound
from theory.numerics import require


def read_probes(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """(prompt, answer) per line, separated by a tab; blank lines and lines that start with # are passed over.

    Raises:
        ValueError: unreadable, a line without exactly one tab, or no line at all.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # editors put a mark before the first line
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"probe: expected a readable text file, got {type(error).__name__}: {path}") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        fits = len(fields) == 2 and all(f.strip() for f in fields)
        require(fits, f"probe: line {number}", "prompt, tab, answer", repr(line[:60]))
        found.append((fields[0], fields[1]))
    require(bool(found), "probe", "at least one line", "none")
    return found


#: strongest tokens of the base and of each adapter that count as rivals
RIVALS = 20


def ask(
    model: Any, base: Any, adapters: Sequence[Adapter], weights: Sequence[float], path: str | os.PathLike[str]
) -> Probes:
    """Ask every probe of the base, of every adapter alone, of the weighted sum and of the uniform mean.

    A margin is the logit of the answer's first token minus the best rival's, after the prompt. ``mean_limit`` is the
    largest number of adapters of which a uniform mean still answers, from the deficits of the base and the gains of the
    adapter with the largest margin (claim dilution); None where the base answers by itself. ``disturbance`` is, for
    every other adapter, the most that it can do at the keys of this very prompt, relative to what the best adapter
    does there, mean over shared modules (claim interference); None for the best one and without such modules.
    ``added_margin`` is the sum's margin if what each adapter adds to the logits by itself added up.
    ``advised`` are the weights that would be best if logits were linear in the merge (claim optimal_weights), and what
    they answer.
    """
    questions = read_probes(path)
    said = type(model).__name__
    fits = model.can_generate() and not model.config.is_encoder_decoder
    require(fits, "probe", "a base that says what follows a text (a causal language model)", said)
    try:
        with quiet():
            tokenizer = load_tokenizer(None if str(base) == PACKAGED else str(base))
    except Exception as error:  # every way in which loading can fail
        raise ValueError(f"probe: expected a base with a tokenizer, got {type(error).__name__} for {base}") from error
    names = [f"part{i}" for i in range(len(adapters))]
    for adapter in adapters:
        for key in adapter.copies:  # which peft would put in place of the base's
            got = "another (trained, or the vocabulary resized)"
            require(owns(model, adapter, key), f"probe: {adapter.name}: {key}", "the base's own weight", got)
    try:
        wrapped = with_parts(model, adapters, names)
    except ValueError as error:
        raise ValueError(
            f"probe: expected adapters that peft loads (lora-limits merge mends one), got {error}"
        ) from error
    named = lora_layers(wrapped)
    layers = list(named.values())
    scales = [dict(layer.scaling) for layer in layers]

    def logits(tokens: torch.Tensor, strengths: Sequence[float]) -> torch.Tensor:
        for layer, scale in zip(layers, scales, strict=True):
            for name, strength in zip(names, strengths, strict=True):
                if name in scale:
                    layer.scaling[name] = scale[name] * strength
        try:
            with torch.no_grad():
                found: torch.Tensor = wrapped(input_ids=tokens).logits[0, -1].double()
        except (RuntimeError, IndexError, ValueError, TypeError) as error:  # longer than its positions, say
            raise ValueError(f"probe: expected prompts that the base can be run on, got {brief(error)}") from error
        require(bool(torch.isfinite(found).all()), "probe", "finite logits", "nan or inf")
        return found

    wrapped.base_model.set_adapter(names)
    count, known = len(adapters), vocabulary(model)
    single = [[1.0 if i == j else 0.0 for j in range(count)] for i in range(count)]
    lines, asked, leads = [], [], []
    for prompt, answer in questions:
        tokens, token = _encode(tokenizer, prompt, answer)
        most = max(token, int(tokens.max()))
        require(most < known, "probe", f"a tokenizer of the base's {known} tokens", f"token {most} in {prompt!r}")
        plain = logits(tokens, [0.0] * count)
        alone = [logits(tokens, s) for s in single]
        margins = [_margin(x, token) for x in alone]
        asked.append((tokens, token))
        leads += _leads([plain, *alone], token)
        owner = max(range(count), key=margins.__getitem__)
        gain, deficit, limit = _dilution(plain, alone[owner], token)
        added = plain + sum(w * (own - plain) for w, own in zip(weights, alone, strict=True))
        with _keys(named) as keys:
            logits(tokens, single[owner])
        lines.append(
            Probe(
                prompt=prompt,
                answer=answer,
                token=tokenizer.decode([token]),
                base_margin=_margin(plain, token),
                margins=tuple(margins),
                sum_margin=_margin(logits(tokens, weights), token),
                added_margin=_margin(added, token),
                mean_margin=_margin(logits(tokens, [1.0 / count] * count), token),
                best=owner,
                deficit=deficit,
                gain=gain,
                mean_limit=limit,
                disturbance=tuple(None if j == owner else _disturbance(adapters, owner, j, keys) for j in range(count)),
            )
        )
    answered = Answered(
        base=sum(x.base_margin > 0 for x in lines),
        best_single=sum(max(x.margins) > 0 for x in lines),
        sum=sum(x.sum_margin > 0 for x in lines),
        added=sum(x.added_margin > 0 for x in lines),
        mean=sum(x.mean_margin > 0 for x in lines),
    )
    if count == 1:
        return Probes(tuple(lines), answered, None)
    best = best_weights(leads)
    shares = tuple(float(w) for w in best.weights)
    right = sum(_margin(logits(tokens, shares), token) > 0 for tokens, token in asked)
    return Probes(tuple(lines), answered, Advised(shares, float(best.lead), float(best.ceiling), right))


def _leads(logits: Sequence[torch.Tensor], token: int) -> list[list[float]]:
    """Per rival, what the token leads it by with each adapter alone; the base's logits come first.

    Rivals are the strongest tokens of the base and of each adapter; all others are below as many in every one of them.
    """
    strongest = torch.cat([x.topk(min(RIVALS, len(x))).indices for x in logits]).unique()
    found = torch.stack([x[token] - x[strongest[strongest != token]] for x in logits[1:]], dim=1)
    return [[float(x) for x in row] for row in found]


@contextmanager
def _keys(layers: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
    """While open, a run leaves each adapted layer's input at the last token; embeddings, fed by ids, have none."""
    found: dict[str, np.ndarray] = {}
    handles = []

    def reader(name: str) -> Any:
        def read(module: Any, inputs: tuple[Any, ...]) -> None:
            if inputs[0].is_floating_point():
                found[name] = inputs[0].detach().reshape(-1, inputs[0].shape[-1])[-1].double().numpy()

        return read

    try:
        for name, layer in layers.items():
            handles.append(layer.register_forward_pre_hook(reader(name)))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _disturbance(adapters: Sequence[Adapter], owner: int, other: int, keys: Mapping[str, np.ndarray]) -> float | None:
    """Mean over shared modules of the other's interference bound over what the owner writes, at these keys."""
    shares = []
    for name in adapters[owner].modules.keys() & adapters[other].modules.keys() & keys.keys():
        own = float(np.linalg.norm(adapters[owner].update(name).apply(keys[name])))
        if own > 0:
            shares.append(interference_bound([adapters[other].update(name)], keys[name])[0] / own)
    return sum(shares) / len(shares) if shares else None


def _encode(tokenizer: Any, prompt: str, answer: str) -> tuple[torch.Tensor, int]:
    """Tokens of the prompt, and the one that follows them where the answer is written behind it.

    A blank that is a token of its own, as before a number, belongs to the prompt. None is put before or after
    characters of scripts that are written without.

    Raises:
        ValueError: the last token of the prompt changes when the answer follows, so no token begins the answer; the
            one that does stands for all that the tokenizer does not know.
    """
    ends = prompt[-1:] + answer[:1]
    apart = any(c.isspace() or unicodedata.east_asian_width(c) in "WF" for c in ends)
    joint = prompt + ("" if apart else " ") + answer
    # a blank at the end of a prompt belongs to the token of the answer
    ids, whole = (list(tokenizer(text)["input_ids"]) for text in (prompt.rstrip(" "), joint))
    while ids and whole and ids[-1] == whole[-1] and ids[-1] in tokenizer.all_special_ids:
        ids, whole = ids[:-1], whole[:-1]  # an end of text that the tokenizer appends
    while whole[: len(ids)] == ids and len(ids) < len(whole) and not tokenizer.decode(whole[len(ids)]).strip():
        ids.append(whole[len(ids)])
    apart = 0 < len(ids) < len(whole) and whole[: len(ids)] == ids
    expected = "an answer that begins with a token of its own (end the prompt at a word or a line)"
    require(apart, "probe", expected, repr((prompt, answer)))
    token = int(whole[len(ids)])
    known = token != tokenizer.unk_token_id
    require(known, "probe", "an answer that begins with a token that the base knows", repr((prompt, answer)))
    return torch.tensor([ids]), token


def _margin(logits: torch.Tensor, token: int) -> float:
    rivals = logits.clone()
    rivals[token] = -torch.inf
    return float(logits[token] - rivals.max())


def _dilution(plain: torch.Tensor, own: torch.Tensor, token: int) -> tuple[float | None, float | None, int | None]:
    """Gain and deficit of the tightest rival, and the limit that they set; None where the base has no rival ahead."""
    deficit = plain - plain[token]
    gain = (own[token] - own) - (plain[token] - plain)
    ahead = deficit > 0
    if not bool(ahead.any()):
        return None, None, None
    ratio = torch.where(ahead, gain / torch.where(ahead, deficit, 1.0), torch.inf)
    tightest = int(ratio.argmin())
    g, d = float(gain[tightest]), float(deficit[tightest])
    return g, d, int(dilution_limit(g, d))
