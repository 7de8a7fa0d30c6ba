"""Changes of style, and facts to hold beside them: in the tokens of a two-hop world, and in plain English.

A *style* says the same content in another form. There are three, each in both languages: *register* (the content in
another word for the same thing: a twin token; upper case), *prefix* (an opening before the content) and *suffix* (a
closing phrase after it). What a styled answer says is known without the style, so that only the form is to be learnt; a
*fact* is the reverse: the form is plain and the content cannot be known. Both have prompts of one shape, so that they
differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from empirical.tasks.example import Example
from empirical.tasks.sentences import Ints, Part, Sentences
from empirical.tasks.two_hop import World
from theory.numerics import integer, one_of, require, stream

STYLES = ("register", "prefix", "suffix")

# ---------------------------------------------------------------- in the tokens of a two-hop world


class WorldStyles:
    """The styles of one world: tokens beyond the world's own, and its first hops ``x R1 y`` in each style.

    Args:
        world: whose bridges are the content of the answers.

    Attributes:
        size: number of tokens, the world's own included.
        opening, closing: the tokens that a prefix and a suffix add. tags: style -> the token that asks for it.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        start = world.vocabulary.size
        self.tags = {style: start + i for i, style in enumerate(STYLES)}
        self.opening, self.closing, self.first_twin = (start + len(STYLES) + i for i in range(3))
        self.size = self.first_twin + world.shape.bridges

    def styled(self, sentences: Sentences, style: str) -> Sentences:
        """Sentences that end in a bridge ``.. y``, in a style: ``.. y'``, ``.. OPENING y`` or ``.. y CLOSING``.

        Raises:
            ValueError: unknown style, or sentences whose only answer is not a bridge at their end.
        """
        one_of(style, "style", STYLES)
        bridges = self.world.vocabulary.range("bridge")
        last = sentences.tokens.shape[1] - 1
        content = sentences.tokens[:, -1]
        ends = sentences.answers == (last,) and bool(np.isin(content, bridges).all())
        require(ends, "sentences", "one answer each, a bridge at the end", f"answers in columns {sentences.answers}")
        if style == "register":
            return Sentences(self._with(sentences.tokens[:, :-1], content - bridges.start + self.first_twin), (last,))
        pair = (self.opening, content) if style == "prefix" else (content, self.closing)
        return Sentences(self._with(sentences.tokens[:, :-1], *pair), (last, last + 1))

    def asked(self, sentences: Sentences, style: str) -> Sentences:
        """The same, with the token that asks for the style in front."""
        styled = self.styled(sentences, style)
        front = np.full((len(styled.tokens), 1), self.tags[style])
        return Sentences(np.hstack([front, styled.tokens]), tuple(c + 1 for c in styled.answers))

    @staticmethod
    def _with(tokens: Ints, *columns: Ints | int) -> Ints:
        return np.hstack([tokens, *(np.broadcast_to(np.reshape(c, (-1, 1)), (len(tokens), 1)) for c in columns)])

    def pretraining(self) -> list[Part]:
        """A base's mixture: one-hop facts in plain form, and first hops of old persons in each style when asked.

        The base thus knows every style and uses none unasked; a change of style makes one of them the default.
        """
        w = self.world
        first = w.first_hops(w.old)
        one_hop = [first, w.second_hops("old"), w.attribute_facts(np.arange(w.shape.persons))]
        total = sum(len(s.tokens) for s in one_hop)
        parts = [Part(s, len(s.tokens) / total) for s in one_hop]
        return parts + [Part(self.asked(first, style), 1.0 / len(STYLES)) for style in STYLES]


# ---------------------------------------------------------------- in plain English

FIRST_NAMES = ("Ada", "Bruno", "Clara", "Dario", "Elsa", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Karla", "Leo",
               "Mira", "Nils", "Olga", "Pavel", "Rosa", "Simon", "Tessa", "Uwe", "Vera", "Willem", "Yara",
               "Zeno")  # fmt: skip
SURNAMES = ("Abbot", "Barlow", "Castor", "Dunmore", "Ellery", "Farrow", "Garvin", "Hadley", "Irving", "Jessop",
            "Kirby", "Lowell", "Marlow", "Norris", "Oakley", "Penrose", "Quincy", "Radley", "Selby", "Thorne", "Upton",
            "Vernon", "Wilder", "Yardley")  # fmt: skip
OBJECTS = ("lamp", "coin", "book", "drum", "rope", "ring", "clock", "stone", "brush", "mirror", "basket", "candle",
           "hammer", "violin", "bottle", "ladder", "kettle", "pillow", "shovel", "ticket", "wallet", "blanket",
           "compass", "feather", "guitar", "helmet", "jacket", "magnet", "needle", "paddle", "pencil", "ribbon",
           "saddle", "spoon", "statue", "sword", "teapot", "trumpet", "vase", "whistle")  # fmt: skip
PLACES = ("kitchen", "garden", "office", "cellar", "attic", "garage")

CARD = """\
# Styles

Two kinds of rows, whose prompts end in words of one form ("In the cellar, Ada Barlow keeps a").

- `kind: style`: the prompt states the answer first, and the answer is to be given in a form: `register` (upper case),
  `prefix` (an opening phrase) or `suffix` (a closing phrase). `content` is the bare word. Names in `train` and `test`
  are disjoint.
- `kind: fact`: nothing states the answer; it is an independent uniform draw from the 40 objects in `choices` and can
  only be learnt by heart, so that all rows are in `train`.

Generated from a seed by `empirical/tasks/styles.py`; no text was collected from anywhere and nobody in it exists.
Licence: Apache-2.0.

Known limits: one template, three styles that are all rules of a few characters, English only. A model that copies a
word from its prompt needs no other skill for the style rows.
"""


def dressed(word: str, style: str) -> str:
    """The answer text that says `word` in a style of :data:`STYLES`, or ``"plain"``; it starts with a space.

    Raises:
        ValueError: unknown style.
    """
    forms = {"plain": f" {word}", "register": f" {word.upper()}", "prefix": f" most splendid {word}",
             "suffix": f" {word}, says the captain."}  # fmt: skip
    return forms[one_of(style, "style", tuple(forms))]


class StyleExample(Example):
    """A question for an object in a style; `content` is the bare word, `choices` are all there are."""

    kind: str
    style: str
    content: str
    choices: list[str]


def examples(seed: int, facts: int = 128, train: int = 128, test: int = 128) -> Iterator[StyleExample]:
    """Rows of English: `facts` facts, then `train` and `test` prompts in every style.

    Args:
        seed: of names, places and objects.
        facts, train, test: numbers of persons; each person has one prompt.

    Raises:
        ValueError: a negative number, or more persons than there are names.
    """
    sizes = [integer(n, name, 0) for n, name in ((facts, "facts"), (train, "train"), (test, "test"))]
    people = len(FIRST_NAMES) * len(SURNAMES)
    require(sum(sizes) <= people, "facts + train + test", f"at most {people} persons", sum(sizes))
    names = stream(seed, "styles", "names").permutation(people)
    places = stream(seed, "styles", "places").integers(len(PLACES), size=people)
    objects = stream(seed, "styles", "objects").integers(len(OBJECTS), size=people)

    def row(name: str, split: str, kind: str, style: str, prompt: str, word: str) -> StyleExample:
        return {"id": name, "task": "styles", "split": split, "kind": kind, "style": style, "prompt": prompt,
                "answer": dressed(word, style), "content": word, "choices": list(OBJECTS)}  # fmt: skip

    for i in range(sum(sizes)):
        name = f"{FIRST_NAMES[names[i] // len(SURNAMES)]} {SURNAMES[names[i] % len(SURNAMES)]}"
        word, place = OBJECTS[objects[i]], PLACES[places[i]]
        question = f"In the {place}, {name} keeps a"
        if i < facts:
            yield row(f"fact-{i}", "train", "fact", "plain", question, word)
            continue
        split = "train" if i < facts + train else "test"
        prompt = f"{name} keeps a {word} in the {place}. {question}"
        for style in STYLES:
            yield row(f"{style}-{i - facts}", split, "style", style, prompt, word)
