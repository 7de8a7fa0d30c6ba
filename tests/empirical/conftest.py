"""Adapters on disk for the tests of the reader, the audit and the merge: made, filled and saved by peft itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def tiny_base() -> Callable[..., Any]:
    """Architecture -> a tiny random model: "llama", "gpt2" (Conv1D) or "bert" (an encoder with a masked-token head)."""

    def build(architecture: str, dtype: torch.dtype = torch.float32, tied: bool = False) -> Any:
        from empirical.checks import small_base

        if architecture != "bert":
            return small_base(architecture, dtype, tied)
        from transformers import BertConfig, BertForMaskedLM

        config = BertConfig(
            vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
            max_position_embeddings=32, initializer_range=0.2, attn_implementation="eager", tie_word_embeddings=tied,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return BertForMaskedLM(config).to(dtype).eval().requires_grad_(False)

    return build


@pytest.fixture
def save_adapter(tiny_base: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Saves one random adapter with peft and returns its folder."""

    def save(
        name: str,
        architecture: str = "llama",
        seed: int = 0,
        r: int = 4,
        alpha: float = 8.0,
        targets: Any = "all-linear",
        dtype: torch.dtype | None = None,
        embedding_copies: bool = False,
        safe: bool = True,
        fill: Callable[[Any], None] | None = None,
        **options: Any,
    ) -> Path:
        from peft import LoraConfig, get_peft_model

        from empirical.checks import randomize
        from empirical.identity import quiet

        kind = {"bert": None}.get(architecture, "CAUSAL_LM")
        config = LoraConfig(r=r, lora_alpha=alpha, target_modules=targets, task_type=kind, **options)
        with quiet():
            model: Any = get_peft_model(tiny_base(architecture), config)
            randomize(model, "default", seed)
            if fill is not None:
                fill(model)
            if dtype is not None:
                model.to(dtype)
            model.save_pretrained(str(tmp_path / name), save_embedding_layers=embedding_copies, safe_serialization=safe)
        return tmp_path / name

    return save
