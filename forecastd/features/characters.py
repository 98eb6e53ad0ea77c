"""Characters as numbers: an alphabet gives each character a code, from 1.

As the "Characters" encoder of the Wolfram Language is documented, apart from its syntax.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from forecastd.errors import DataError

START, END = "\x02", "\x03"
"""What stands before the first character of a text and after the last where an alphabet has them:
the control characters that are called start and end of text."""

GROUPS = {
    "default": "\t\n" + "".join(map(chr, range(32, 127))),
    "letter": string.ascii_letters,
    "digit": string.digits,
    "word": string.ascii_letters + string.digits,
    "punctuation": string.punctuation,
    "whitespace": " \t\n",
    "start": START,
    "end": END,
}
"""Groups of characters by name, of ASCII as documented. "default": tab, newline, and 32 to 126."""

NEXT = "next"


@dataclass(frozen=True)
class Item:
    """Characters and their codes.

    characters: in order; None: any that no other item has. code: one for all of them; "next": the
    next that is free, one for all of them; None: the next that are free, one for each.
    """

    characters: str | None
    code: int | Literal["next"] | None = None


class Alphabet:
    """Codes of characters.

    characters: those that were given a code, in the order of the codes. codes: by character. other:
    the code of any other character; None: there is none. size: the largest code.
    """

    def __init__(self, items: Iterable[Item], ignore_case: bool = False) -> None:
        """Number the items in order; a character keeps the code that it gets first.

        ignore_case: a letter is its small one. Raises ValueError where there is no character.
        """
        self.ignore_case = ignore_case
        self.codes: dict[str, int] = {}
        self.other: int | None = None
        self.size = 0
        for item in items:
            self._add(item)
        if not self.codes and self.other is None:
            message = "the alphabet has no character"
            raise ValueError(message)
        self.characters = "".join(sorted(self.codes, key=lambda character: self.codes[character]))
        if ignore_case:
            large = {letter.upper(): code for letter, code in self.codes.items()}
            self.codes |= {letter: code for letter, code in large.items() if len(letter) == 1}

    def encode(self, text: str) -> list[int]:
        """Return the code of each character, of start and end as well where they have one.

        Raises DataError on a character without a code.
        """
        start, end = (c if c in self.codes else "" for c in (START, END))
        return [self._code(character) for character in start + text + end]

    def decode(self, codes: Iterable[int | Sequence[float]]) -> str:
        """Return the text of codes, or of a score for each code, whose largest counts.

        What several characters share is the first of them; what is another is "_"; start and end
        are left out. Raises DataError on a code that no character has.
        """
        first: dict[int, str] = {}
        for character in self.characters:
            first.setdefault(self.codes[character], "" if character in (START, END) else character)
        if self.other is not None:
            first.setdefault(self.other, "_")
        text = []
        for given in codes:
            code = given if isinstance(given, int) else _largest(given)
            if code not in first:
                message = f"no character of the alphabet has the code {code}"
                raise DataError(message)
            text.append(first[code])
        return "".join(text)

    def _add(self, item: Item) -> None:
        free = self.size + 1
        shared = free if item.code == NEXT else item.code
        if item.characters is None:
            self.other = free if shared is None else int(shared)
            self.size = max(self.size, self.other)
            return
        text = item.characters.lower() if self.ignore_case else item.characters
        for character in dict.fromkeys(text):
            if character not in self.codes:
                self.codes[character] = self.size + 1 if shared is None else int(shared)
                self.size = max(self.size, self.codes[character])

    def _code(self, character: str) -> int:
        code = self.codes.get(character, self.other)
        if code is None:
            message = f"the character {character!r} is not in the alphabet"
            raise DataError(message, hint='add an item with the group "other" for all others')
        return code


def _largest(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=lambda place: scores[place]) + 1
