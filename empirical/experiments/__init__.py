"""One folder per experiment: ``settings.toml``, ``run.py``, ``predictions.py``, ``figures.py``.

A folder named in LORA_LIMITS_EXPERIMENTS is searched too: ``mine/run.py`` beside its ``mine/settings.toml``.
"""

import os

__path__ += [folder for folder in os.environ.get("LORA_LIMITS_EXPERIMENTS", "").split(os.pathsep) if folder]
