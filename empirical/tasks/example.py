"""What every task exports: one question with its answer, the row of a JSON Lines file."""

from __future__ import annotations

from typing import TypedDict


class Example(TypedDict):
    """A question and its answer; a task's own rows have fields besides.

    `id` occurs once per task and seed, `task` is the module's name, `split` that of the file.
    """

    id: str
    task: str
    split: str
    prompt: str
    answer: str
