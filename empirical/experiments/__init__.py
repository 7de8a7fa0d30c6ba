"""One file per experiment: cells, run, predictions. Each reads top to bottom.

A folder named in LORA_LIMITS_EXPERIMENTS is searched too: ``mine.py`` beside its settings ``mine.toml``.
"""

import os

__path__ += [folder for folder in os.environ.get("LORA_LIMITS_EXPERIMENTS", "").split(os.pathsep) if folder]
