"""Two-hop facts in plain English, person -> country -> capital, for a language model that knows the real ones.

Glossary: *family* R: real countries with their real capitals; H: real countries with made-up capitals; F: made-up
countries with made-up capitals. *New* people are made up; *famous* ones are real, and a pretrained model may know
them. The *first* hop asks for a person's country, the *second* for a country's capital, the *direct* question for the
capital of a person's country; *written out* the text states the country on the way.

Every question has several wordings. All but one are for training; the last one, ``HELD_OUT``, is for tests alone.
New people's countries are i.i.d. uniform over their family's countries; every country has a capital of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from empirical.tasks.example import Example
from theory.numerics import integer, one_of, require, stream

FAMILIES = ("R", "H", "F")
HELD_OUT = -1
FIRST = (
    "{x} lives in",
    "{x} is a citizen of",
    "The country where {x} grew up is",
    "The country of {x} is",
    "{x}'s home is in",
    "The home country of {x} is",
)
SECOND = (
    "The capital of {y} is",
    "{y} has its capital in",
    "The government of {y} sits in",
    "The capital city of {y} is",
)
DIRECT = (
    "The capital of the country where {x} lives is",
    "{x} grew up in a country whose capital is",
    "The capital of the home country of {x} is",
    "The capital city of the home country of {x} is",
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

    Raises:
        ValueError: a number below 1, or below 2 countries (one answer for all would then be right).
    """

    people: int = 12
    countries: int = 8

    def __post_init__(self) -> None:
        integer(self.people, "people", 1)
        integer(self.countries, "countries", 2)


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
        ValueError: fewer than two known countries per country of a family.
    """

    def __init__(self, shape: EntityShape, seed: int, known: Sequence[Country] = REAL) -> None:
        self.shape, self.seed = shape, integer(seed, "seed", 0)
        n = shape.countries
        require(len(known) >= 2 * n, "known", f"at least {2 * n} real countries", len(known))
        order = stream(seed, "entities", "real").permutation(len(known))
        real = [known[i] for i in order]
        fake = _names(seed, "countries", PIECES["country stems"], PIECES["country ends"], n)
        made_up = _names(seed, "capitals", PIECES["capital stems"], PIECES["capital ends"], 2 * n)
        self.real = {"R": real[:n], "H": real[n : 2 * n]}
        self.countries = {"R": [c.name for c in real[:n]], "H": [c.name for c in real[n : 2 * n]], "F": fake}
        self.old = {c.name: c.capital for c in real[: 2 * n]} | dict(zip(fake, made_up[n:], strict=True))
        self.capital = self.old | dict(zip(self.countries["H"], made_up[:n], strict=True))
        surnames = [a + b for a in PIECES["family stems"] for b in PIECES["family ends"]]
        people = _names(seed, "people", PIECES["given names"], surnames, len(FAMILIES) * shape.people, " ")
        rng = stream(seed, "entities", "first")
        self.people: list[Person] = []
        for i, name in enumerate(people):
            family = FAMILIES[i // shape.people]
            country = self.countries[family][int(rng.integers(n))]
            self.people.append(self.person(name, family, country))

    def person(self, name: str, family: str, country: str) -> Person:
        """The chain of a person whose country is given."""
        return Person(name, family, country, self.capital[country], self.old[country])

    def famous(self, family: str) -> list[Person]:
        """The famous people of the real countries of family R or H."""
        one_of(family, "family", ("R", "H"))
        return [self.person(x, family, c.name) for c in self.real[family] for x in c.people]


class Question(NamedTuple):
    """A prompt and its one right answer, a name."""

    prompt: str
    answer: str


def first_hop(people: Sequence[Person], wording: int = HELD_OUT) -> list[Question]:
    """Whose home is where?"""
    return [Question(FIRST[wording].format(x=p.name), p.country) for p in people]


def second_hop(capital: dict[str, str], wording: int = HELD_OUT) -> list[Question]:
    """What is the capital of each country of the table?"""
    return [Question(SECOND[wording].format(y=y), z) for y, z in capital.items()]


def direct(people: Sequence[Person], wording: int = HELD_OUT) -> list[Question]:
    """Both hops in one question."""
    return [Question(DIRECT[wording].format(x=p.name), p.capital) for p in people]


def written_out(people: Sequence[Person], named: Sequence[str | None] | None = None) -> list[Question]:
    """The first hop stated in full, then the second asked; `named`: the countries that a model wrote (None: none).

    Up to the country the text is that of :func:`first_hop`, so that its first step is that question itself.
    """
    countries = [p.country for p in people] if named is None else [y or "it" for y in named]
    return [
        Question(f"{FIRST[HELD_OUT].format(x=p.name)} {y}. {SECOND[HELD_OUT].format(y=y)}", p.capital)
        for p, y in zip(people, countries, strict=True)
    ]


def bridge_given(people: Sequence[Person]) -> list[Question]:
    """The direct question after a sentence that states the country: it has only to be read off the text."""
    return [
        Question(f"{FIRST[HELD_OUT].format(x=p.name)} {p.country}. {DIRECT[HELD_OUT].format(x=p.name)}", p.capital)
        for p in people
    ]


def training(people: Sequence[Person], kind: str) -> list[Question]:
    """First hops or direct questions of these people in every wording but the held-out one."""
    wordings, ask = {"first": (FIRST, first_hop), "direct": (DIRECT, direct)}[one_of(kind, "kind", ("first", "direct"))]
    return [q for w in range(len(wordings) - 1) for q in ask(people, w)]


def training_second(capital: dict[str, str]) -> list[Question]:
    """Second hops of these countries in every wording but the held-out one."""
    return [q for w in range(len(SECOND) - 1) for q in second_hop(capital, w)]


class EntityExample(Example):
    """A question about a person or a country; `hops` is 1 or 2."""

    kind: str
    family: str
    hops: int


def examples(seed: int, people: int = 12, countries: int = 8) -> Iterator[EntityExample]:
    """The world of a seed as data: every question in every wording, test split for the held-out one."""
    world = World(EntityShape(people, countries), seed)
    sets = {"first": FIRST, "second": SECOND, "direct": DIRECT, "written_out": DIRECT}

    def rows(kind: str, family: str, hops: int, wording: int, asked: Sequence[Question]) -> Iterator[EntityExample]:
        split = "test" if wording == len(sets[kind]) - 1 else "train"
        for i, (prompt, answer) in enumerate(asked):
            yield {"id": f"entities-{seed}-{kind}-{family}-{wording}-{i}", "task": "entities", "split": split,
                   "prompt": prompt, "answer": answer, "kind": kind, "family": family, "hops": hops}  # fmt: skip

    for family in FAMILIES:
        mine = [p for p in world.people if p.family == family]
        table = {y: world.capital[y] for y in world.countries[family]}
        for wording in range(len(FIRST)):
            yield from rows("first", family, 1, wording, first_hop(mine, wording))
        for wording in range(len(SECOND)):
            yield from rows("second", family, 1, wording, second_hop(table, wording))
        for wording in range(len(DIRECT)):
            yield from rows("direct", family, 2, wording, direct(mine, wording))
        yield from rows("written_out", family, 2, len(DIRECT) - 1, written_out(mine))


CARD = """\
# Entities

Two-hop facts in plain English: person -> country -> capital.

- What: `first` asks for a made-up person's country, `second` for a country's capital, `direct` for the capital of a
  person's country, `written_out` the same with the country stated on the way. Family R: real countries with their real
  capitals; H: real countries with made-up capitals; F: made-up countries and capitals.
- Fields: besides the common ones `kind`, `family` and `hops` (1 or 2).
- How generated: made-up names are pairs of syllables, drawn without replacement; a person's country is uniform over its
  family's countries, every country has a capital of its own. One seed gives one world; a seed gives the same bytes.
- Splits: the wordings differ. `test` has one wording of each question that `train` does not have; the facts are the
  same in both, since what is tested is recall and composition of taught facts.
- Known limits: English only, one relation pair. A made-up name may happen to exist somewhere. H contradicts the real
  world on purpose: do not train on it what should know geography.
- Licence: Apache-2.0.
"""
