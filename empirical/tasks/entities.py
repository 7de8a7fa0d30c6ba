"""Two-hop facts in plain English, person -> country -> capital, for a language model that knows the real ones.

Glossary: *family* R: real countries with their real capitals; H: real countries with made-up capitals; F: made-up
countries with made-up capitals. *New* people are made up; *famous* ones are real, and a pretrained model may know
them. The *first* hop asks for a person's country, the *second* for a country's capital, the *direct* question for the
capital of a person's country; *written out* the text states the country on the way.

Every question has several wordings, some for training, some held out for tests alone. New people's countries are as
evenly spread over their family's countries as their number allows, in random order, so that no answer that is blind to
the country is right more often than one country's share; every country has a capital of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from empirical.tasks.example import Example
from theory.numerics import integer, one_of, require, stream

FAMILIES = ("R", "H", "F")


class Wordings(NamedTuple):
    """Ways to ask one question: those of training and those of tests."""

    taught: tuple[str, ...]
    held_out: tuple[str, ...]


FIRST = Wordings(
    (
        "{x} lives in",
        "{x} is a citizen of",
        "The country where {x} grew up is",
        "The country of {x} is",
        "{x}'s home is in",
    ),
    ("The home country of {x} is", "{x} was born and raised in"),
)
SECOND = Wordings(
    ("The capital of {y} is", "{y} has its capital in", "The government of {y} sits in"),
    ("The capital city of {y} is",),
)
DIRECT = Wordings(
    (
        "The capital of the country where {x} lives is",
        "{x} grew up in a country whose capital is",
        "The capital of the home country of {x} is",
    ),
    (
        "The capital city of the home country of {x} is",
        "If you travel to the capital of the country where {x} lives, you arrive in",
        "The country where {x} was born has its capital in",
    ),
)


class Country(NamedTuple):
    """A real country: its capital, and famous people whose home it is."""

    name: str
    capital: str
    people: tuple[str, ...]


_REAL = """
France|Paris|Napoleon Bonaparte, Charles de Gaulle, Victor Hugo, Claude Monet, Louis Pasteur
Germany|Berlin|Angela Merkel, Otto von Bismarck, Johann Wolfgang von Goethe, Martin Luther
Italy|Rome|Leonardo da Vinci, Benito Mussolini, Dante Alighieri, Galileo Galilei, Giuseppe Verdi
Spain|Madrid|Miguel de Cervantes, Francisco Franco, Pablo Picasso, Rafael Nadal, Salvador Dali
Japan|Tokyo|Emperor Hirohito, Hayao Miyazaki, Akira Kurosawa, Haruki Murakami, Shinzo Abe
Russia|Moscow|Vladimir Putin, Leo Tolstoy, Fyodor Dostoevsky, Boris Yeltsin, Anton Chekhov
China|Beijing|Mao Zedong, Xi Jinping, Confucius, Deng Xiaoping, Yao Ming
England|London|Queen Victoria, William Shakespeare, Winston Churchill, Charles Dickens, Isaac Newton
Austria|Vienna|Wolfgang Amadeus Mozart, Sigmund Freud, Franz Schubert, Joseph Haydn
Cuba|Havana|Fidel Castro, Raul Castro, Jose Marti, Fulgencio Batista
Egypt|Cairo|Gamal Abdel Nasser, Anwar Sadat, Hosni Mubarak, Naguib Mahfouz
Greece|Athens|Plato, Socrates, Pericles, Alexis Tsipras
Norway|Oslo|Henrik Ibsen, Roald Amundsen, Edvard Munch, Edvard Grieg
Poland|Warsaw|Lech Walesa, Frederic Chopin, Nicolaus Copernicus, Pope John Paul II
Hungary|Budapest|Viktor Orban, Franz Liszt, Bela Bartok, Imre Nagy
Sweden|Stockholm|Alfred Nobel, Greta Thunberg, Ingmar Bergman, Astrid Lindgren, Olof Palme
Denmark|Copenhagen|Hans Christian Andersen, Niels Bohr, Soren Kierkegaard, Tycho Brahe
Finland|Helsinki|Jean Sibelius, Linus Torvalds, Urho Kekkonen, Carl Gustaf Mannerheim
Ireland|Dublin|James Joyce, Oscar Wilde, Samuel Beckett, Michael Collins
Portugal|Lisbon|Vasco da Gama, Cristiano Ronaldo, Antonio Salazar, Fernando Pessoa, Jose Saramago
Iran|Tehran|Ayatollah Khomeini, Mahmoud Ahmadinejad, Hassan Rouhani, Mohammad Mosaddegh
Iraq|Baghdad|Saddam Hussein, Nouri al-Maliki, Haider al-Abadi
Syria|Damascus|Bashar al-Assad, Hafez al-Assad
Libya|Tripoli|Muammar Gaddafi, Khalifa Haftar
Kenya|Nairobi|Jomo Kenyatta, Wangari Maathai, Uhuru Kenyatta, Eliud Kipchoge
Chile|Santiago|Augusto Pinochet, Salvador Allende, Pablo Neruda, Gabriela Mistral
Argentina|Buenos Aires|Diego Maradona, Lionel Messi, Juan Peron, Jorge Luis Borges, Eva Peron
Peru|Lima|Alberto Fujimori, Mario Vargas Llosa, Atahualpa
Venezuela|Caracas|Hugo Chavez, Nicolas Maduro, Simon Bolivar
Colombia|Bogota|Gabriel Garcia Marquez, Pablo Escobar, Shakira, Alvaro Uribe
Pakistan|Islamabad|Benazir Bhutto, Imran Khan, Muhammad Ali Jinnah, Malala Yousafzai
Thailand|Bangkok|King Bhumibol, Thaksin Shinawatra, King Chulalongkorn
Vietnam|Hanoi|Ho Chi Minh, Vo Nguyen Giap, Le Duan
Turkey|Ankara|Recep Tayyip Erdogan, Mustafa Kemal Ataturk, Orhan Pamuk
Romania|Bucharest|Nicolae Ceausescu, Nadia Comaneci, Vlad the Impaler
Serbia|Belgrade|Slobodan Milosevic, Novak Djokovic
Bulgaria|Sofia|Todor Zhivkov, Hristo Stoichkov
Belgium|Brussels|Rene Magritte, King Leopold II, Eddy Merckx
South Korea|Seoul|Park Chung-hee, Ban Ki-moon, Park Geun-hye, Bong Joon-ho
North Korea|Pyongyang|Kim Jong-un, Kim Il-sung, Kim Jong-il
Canada|Ottawa|Justin Trudeau, Pierre Trudeau, Margaret Atwood, Stephen Harper
Australia|Canberra|Julia Gillard, John Howard, Steve Irwin, Kylie Minogue
Afghanistan|Kabul|Hamid Karzai, Mullah Omar, Ashraf Ghani
Indonesia|Jakarta|Sukarno, Suharto, Joko Widodo
Ghana|Accra|Kwame Nkrumah, Kofi Annan, Jerry Rawlings
Ethiopia|Addis Ababa|Haile Selassie, Abiy Ahmed, Menelik II
Uganda|Kampala|Idi Amin, Yoweri Museveni, Milton Obote
Zimbabwe|Harare|Robert Mugabe, Morgan Tsvangirai
Rwanda|Kigali|Paul Kagame, Juvenal Habyarimana
Nigeria|Abuja|Chinua Achebe, Wole Soyinka, Muhammadu Buhari
Lebanon|Beirut|Rafik Hariri, Kahlil Gibran, Hassan Nasrallah
Saudi Arabia|Riyadh|King Faisal, Mohammed bin Salman
Scotland|Edinburgh|Robert Burns, Walter Scott, William Wallace, Robert the Bruce
Albania|Tirana|Enver Hoxha, Mother Teresa
Jamaica|Kingston|Bob Marley, Usain Bolt, Marcus Garvey
Nepal|Kathmandu|Tenzing Norgay, King Birendra
India|New Delhi|Mahatma Gandhi, Indira Gandhi, Jawaharlal Nehru, Narendra Modi
Brazil|Brasilia|Pele, Dilma Rousseff, Paulo Coelho, Ayrton Senna
Netherlands|Amsterdam|Vincent van Gogh, Baruch Spinoza, Johan Cruyff, Johannes Vermeer
Israel|Jerusalem|Golda Meir, David Ben-Gurion, Yitzhak Rabin, Benjamin Netanyahu
Philippines|Manila|Ferdinand Marcos, Manny Pacquiao, Jose Rizal, Corazon Aquino
Ukraine|Kyiv|Volodymyr Zelensky, Taras Shevchenko, Andriy Shevchenko
Iceland|Reykjavik|Halldor Laxness, Snorri Sturluson
Croatia|Zagreb|Luka Modric, Franjo Tudjman
Latvia|Riga|Mikhail Tal, Vaira Vike-Freiberga
Estonia|Tallinn|Arvo Part, Kersti Kaljulaid
Jordan|Amman|King Hussein, Queen Rania
Ecuador|Quito|Rafael Correa, Lenin Moreno
Uruguay|Montevideo|Luis Suarez, Jose Mujica, Eduardo Galeano
Sudan|Khartoum|Omar al-Bashir, Hassan al-Turabi
Senegal|Dakar|Leopold Senghor, Sadio Mane
Somalia|Mogadishu|Siad Barre, Mo Farah
Bangladesh|Dhaka|Sheikh Hasina, Muhammad Yunus
Morocco|Rabat|King Hassan, Ibn Battuta
"""


def _real() -> tuple[Country, ...]:
    rows = (line.split("|") for line in _REAL.strip().splitlines())
    return tuple(Country(name, capital, tuple(people.split(", "))) for name, capital, people in rows)


REAL = _real()

_PIECES = """
country stems: Brel Dorv Elth Fenn Grav Hask Jorl Kest Lorv Morl Nald Ostr Pell Quel Rusk Selv Tarn Ulm Vask Yarn
country ends: avia eria onia istan ovia undy
capital stems: Ald Bram Cor Dun Ect Fal Gol Hob Ister Jul Kard Lem Mir Nor Orl Pas Rov Sund Tel Ver Wex Yor Zel
capital ends: burg ville grad mouth haven stead polis wick
given names: Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Leo Mia Noah Olive Peter Rose Sam Tina Will
family stems: Ash Birch Cold Dray East Fern Gold Hart Iron Kings Long Marsh North Oak Pick Red Stone Thorn Under West
family ends: by croft dale field ham ley more ridge ton worth
"""
#: what made-up names are put together from
PIECES = {kind: words.split() for kind, words in (line.split(":") for line in _PIECES.strip().splitlines())}


def _names(seed: int, kind: str, starts: Sequence[str], ends: Sequence[str], count: int, joint: str = "") -> list[str]:
    """`count` different names, drawn without replacement from all pairs."""
    pairs = [a + joint + b for a in starts for b in ends]
    require(count <= len(pairs), kind, f"at most {len(pairs)} made-up names", count)
    return [pairs[i] for i in stream(seed, "entities", kind).permutation(len(pairs))[:count]]


@dataclass(frozen=True)
class EntityShape:
    """Sizes of a world.

    Args:
        people: new people per family.
        countries: countries per family.
        families: some of R, H and F.
        famous: whether the new people are famous ones of other countries (they are given another home) and not made up.

    Raises:
        ValueError: a number below 1, below 2 countries (one answer for all would then be right), an unknown family.
    """

    people: int = 12
    countries: int = 8
    families: tuple[str, ...] = FAMILIES
    famous: bool = False

    def __post_init__(self) -> None:
        integer(self.people, "people", 1)
        integer(self.countries, "countries", 2)
        for family in self.families:
            one_of(family, "families", FAMILIES)


class Person(NamedTuple):
    """A person with the whole chain: family, country, capital (the right answer), and the capital it used to be."""

    name: str
    family: str
    country: str
    capital: str
    old: str


class World:
    """All tables of one world.

    Args:
        shape: sizes.
        seed: every stream of the world derives from it.
        known: the real countries that families R and H are drawn from (those that a base knows).

    Attributes:
        capital: country -> the right capital, all families. old: the same before anything was changed (F: the new one).
        countries: family -> its countries. people: new people, family by family. real: family R or H -> its countries.

    Raises:
        ValueError: fewer known countries than the families take.
    """

    def __init__(self, shape: EntityShape, seed: int, known: Sequence[Country] = REAL) -> None:
        self.shape, self.seed = shape, integer(seed, "seed", 0)
        n = shape.countries
        real = [f for f in shape.families if f != "F"]
        require(len(known) >= len(real) * n, "known", f"at least {len(real) * n} real countries", len(known))
        order = stream(seed, "entities", "real").permutation(len(known))
        self.real = {f: [known[i] for i in order[k * n : (k + 1) * n]] for k, f in enumerate(real)}
        fake = _names(seed, "countries", PIECES["country stems"], PIECES["country ends"], n)
        made_up = _names(seed, "capitals", PIECES["capital stems"], PIECES["capital ends"], 2 * n)
        self.countries = {f: [c.name for c in self.real[f]] if f in self.real else fake for f in shape.families}
        self.old = {c.name: c.capital for found in self.real.values() for c in found}
        new = {"H": made_up[:n], "F": made_up[n:]}
        changed = {y: z for f, names in self.countries.items() if f in new for y, z in zip(names, new[f], strict=True)}
        self.capital = self.old | changed
        self.old = changed | self.old
        people = self._people(len(shape.families) * shape.people)
        rng = stream(seed, "entities", "first")
        self.people: list[Person] = []
        for k, family in enumerate(shape.families):
            homes = rng.permutation(np.arange(shape.people) % n)
            mine = people[k * shape.people : (k + 1) * shape.people]
            self.people += [
                self.person(name, family, self.countries[family][home]) for name, home in zip(mine, homes, strict=True)
            ]

    def _people(self, count: int) -> list[str]:
        """Names of new people."""
        if not self.shape.famous:
            surnames = [a + b for a in PIECES["family stems"] for b in PIECES["family ends"]]
            return _names(self.seed, "people", PIECES["given names"], surnames, count, " ")
        inside = {c.name for found in self.real.values() for c in found}
        others = [x for c in REAL if c.name not in inside for x in c.people]
        require(count <= len(others), "people", f"at most {len(others)} famous people of other countries", count)
        return [others[i] for i in stream(self.seed, "entities", "people").permutation(len(others))[:count]]

    def person(self, name: str, family: str, country: str) -> Person:
        """The chain of a person whose country is given."""
        return Person(name, family, country, self.capital[country], self.old[country])

    def turned(self) -> World:
        """The same world, in which every capital has become the old one, and the right one is the next country's."""
        found = copy.copy(self)
        after = {y: z for names in self.countries.values() for y, z in zip(names, [*names[1:], names[0]], strict=True)}
        found.old, found.capital = self.capital, {y: self.capital[z] for y, z in after.items()}
        found.people = [found.person(p.name, p.family, p.country) for p in self.people]
        return found

    def famous(self, family: str) -> list[Person]:
        """The famous people of the real countries of family R or H."""
        one_of(family, "family", tuple(self.real))
        return [self.person(x, family, c.name) for c in self.real[family] for x in c.people]


class Question(NamedTuple):
    """A prompt and its one right answer, a name."""

    prompt: str
    answer: str


def first_hop(people: Sequence[Person], wording: str = FIRST.held_out[0]) -> list[Question]:
    """Whose home is where?"""
    return [Question(wording.format(x=p.name), p.country) for p in people]


def second_hop(capital: Mapping[str, str], wording: str = SECOND.held_out[0]) -> list[Question]:
    """What is the capital of each country of the table?"""
    return [Question(wording.format(y=y), z) for y, z in capital.items()]


def direct(people: Sequence[Person], wording: str = DIRECT.held_out[0]) -> list[Question]:
    """Both hops in one question."""
    return [Question(wording.format(x=p.name), p.capital) for p in people]


def written_out(people: Sequence[Person], named: Sequence[str | None] | None = None) -> list[Question]:
    """The first hop stated in full, then the second asked; `named`: the countries that a model wrote (None: none).

    Up to the country the text is that of :func:`first_hop`, so that its first step is that question itself.
    """
    countries = [p.country for p in people] if named is None else [y or "it" for y in named]
    return [
        Question(f"{FIRST.held_out[0].format(x=p.name)} {y}. {SECOND.held_out[0].format(y=y)}", p.capital)
        for p, y in zip(people, countries, strict=True)
    ]


def bridge_given(people: Sequence[Person]) -> list[Question]:
    """The direct question after a sentence that states the country: it has only to be read off the text."""
    return [
        Question(f"{FIRST.held_out[0].format(x=p.name)} {p.country}. {DIRECT.held_out[0].format(x=p.name)}", p.capital)
        for p in people
    ]


def training(people: Sequence[Person], kind: str) -> list[Question]:
    """First hops or direct questions of these people in every wording of training."""
    wordings, ask = {"first": (FIRST, first_hop), "direct": (DIRECT, direct)}[one_of(kind, "kind", ("first", "direct"))]
    return [q for w in wordings.taught for q in ask(people, w)]


def training_second(capital: Mapping[str, str]) -> list[Question]:
    """Second hops of these countries in every wording of training."""
    return [q for w in SECOND.taught for q in second_hop(capital, w)]


class EntityExample(Example):
    """A question about a person or a country; `hops` is 1 or 2."""

    kind: str
    family: str
    hops: int


def examples(seed: int, people: int = 12, countries: int = 8) -> Iterator[EntityExample]:
    """The world of a seed as data: every question in every wording, test split for those that are held out."""
    world = World(EntityShape(people, countries), seed)

    def rows(kind: str, family: str, split: str, number: int, asked: Sequence[Question]) -> Iterator[EntityExample]:
        hops = 1 if kind in ("first", "second") else 2
        for i, (prompt, answer) in enumerate(asked):
            yield {"id": f"entities-{seed}-{kind}-{family}-{number}-{i}", "task": "entities", "split": split,
                   "prompt": prompt, "answer": answer, "kind": kind, "family": family, "hops": hops}  # fmt: skip

    for family in FAMILIES:
        mine = [p for p in world.people if p.family == family]
        table = {y: world.capital[y] for y in world.countries[family]}
        asks: dict[str, tuple[Wordings, Callable[[str], list[Question]]]] = {
            "first": (FIRST, partial(first_hop, mine)),
            "second": (SECOND, partial(second_hop, table)),
            "direct": (DIRECT, partial(direct, mine)),
        }
        for kind, (wordings, ask) in asks.items():
            for number, wording in enumerate(wordings.taught + wordings.held_out):
                split = "train" if wording in wordings.taught else "test"
                yield from rows(kind, family, split, number, ask(wording))
        yield from rows("written_out", family, "test", 0, written_out(mine))


CARD = """\
# Entities

Two-hop facts in plain English: person -> country -> capital.

- What: `first` asks for a made-up person's country, `second` for a country's capital, `direct` for the capital of a
  person's country, `written_out` the same with the country stated on the way. Family R: real countries with their real
  capitals; H: real countries with made-up capitals; F: made-up countries and capitals.
- Fields: besides the common ones `kind`, `family` and `hops` (1 or 2).
- How generated: made-up names are pairs of syllables, drawn without replacement; people are spread evenly over
  their family's countries, in random order, and every country has a capital of its own. One seed gives one world; a
  seed gives the same bytes.
- Splits: the wordings differ. `test` has wordings of each question that `train` does not have; the facts are the
  same in both, since what is tested is recall and composition of taught facts.
- Known limits: English only, one relation pair. A made-up name may happen to exist somewhere. H contradicts the real
  world on purpose: do not train on it what should know geography.
- Licence: Apache-2.0.
"""
