"""Random inputs for any transformers model: tokens, images, audio, or what its encoder and decoder take."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from theory.numerics import one_of

TOKENS = 8
#: samples of sound, enough for a few frames of the usual convolutional front ends
SAMPLES = 4000
FRAMES = 64


def vocabulary(model: Any) -> int:
    """Number of tokens that the model knows."""
    config = model.config.get_text_config()
    return int(getattr(config, "vocab_size", 0) or model.get_input_embeddings().weight.shape[0])


def _tokens(model: Any, draw: torch.Generator) -> torch.Tensor:
    return torch.randint(vocabulary(model), (1, TOKENS), generator=draw)


def _pixels(model: Any, draw: torch.Generator) -> torch.Tensor:
    own = model.config
    config = getattr(own, "vision_config", None) or getattr(own, "encoder", None) or own
    size = getattr(config, "image_size", 224)
    high, wide = (size, size) if isinstance(size, int) else size
    frames = [config.num_frames] if getattr(config, "num_frames", None) else []  # of a film
    return torch.randn(1, *frames, getattr(config, "num_channels", 3), high, wide, generator=draw)


def _features(model: Any, draw: torch.Generator) -> torch.Tensor:
    config = model.config
    bands = getattr(config, "num_mel_bins", None)
    if hasattr(config, "max_source_positions") and bands:  # Whisper takes spectrograms of one length only
        return torch.randn(1, bands, 2 * config.max_source_positions, generator=draw)
    width = bands or getattr(config, "input_feat_per_channel", None) or config.feature_projection_input_dim
    return torch.randn(1, FRAMES, width, generator=draw)


def _sound(model: Any, draw: torch.Generator) -> torch.Tensor:
    return torch.randn(1, SAMPLES, generator=draw)


def _series(model: Any, draw: torch.Generator) -> torch.Tensor:
    config = model.config
    return torch.randn(1, config.context_length, getattr(config, "num_input_channels", 1), generator=draw)


_MAKERS: dict[str, Callable[[Any, torch.Generator], torch.Tensor]] = {
    "input_ids": _tokens,
    "pixel_values": _pixels,
    "input_features": _features,
    "input_values": _sound,
    "past_values": _series,
}


def candidates(model: Any, draw: torch.Generator) -> Iterator[dict[str, torch.Tensor]]:
    """Inputs that the model may take, the plainest first; a model of images and text may want both.

    Raises:
        ValueError: nothing is known that it takes.
    """
    main = getattr(model, "main_input_name", "input_ids")
    one_of(main, "input", tuple(_MAKERS))
    first = {main: _MAKERS[main](model, draw)}
    if getattr(model.config, "is_encoder_decoder", False):
        first["decoder_input_ids"] = _tokens(model, draw)
    yield first
    for other in sorted({"input_ids", "pixel_values"} - {main}):
        with contextlib.suppress(AttributeError, NotImplementedError):  # it has no words, or no images
            yield first | {other: _MAKERS[other](model, draw)}


def towers(model: Any) -> list[Any]:
    """Parts of a model that take another input than the whole: the vision tower of a model of images and text."""
    from transformers import PreTrainedModel

    main = getattr(model, "main_input_name", "input_ids")
    found: list[Any] = []
    for part in model.modules():
        own = getattr(part, "main_input_name", main)
        inside = any(part is m for tower in found for m in tower.modules())
        if isinstance(part, PreTrainedModel) and own != main and own in _MAKERS and not inside:
            found.append(part)
    return found


def spelled_out(model: Any) -> Any:
    """The model with attention and experts in plain operations, which exist in every format."""
    for setting in ("set_attn_implementation", "set_experts_implementation"):
        with contextlib.suppress(Exception):  # a model without a choice
            getattr(model, setting)("eager")
    return model


def outputs(result: Any) -> torch.Tensor:
    """What a model computed, positions x values: its logits, or the first floating-point tensor that it returns."""
    values = list(result.values()) if hasattr(result, "values") else [result]
    logits = getattr(result, "logits", None)
    tensors = [v for v in [logits, *values] if isinstance(v, torch.Tensor) and v.dtype.is_floating_point and v.dim()]
    return tensors[0].reshape(-1, tensors[0].shape[-1])
