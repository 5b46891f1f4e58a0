"""A file of SQL, statement by statement, each with the line it starts on."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

TOKEN = re.compile(
    r"""
      (?P<comment> --[^\n]* )
    | (?P<block>   /\* )
    | (?P<string>  [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' )
    | (?P<quoted>  "(?:[^"]|"")*" )
    | (?P<dollar>  \$(?:[^\W\d]\w*)?\$ )
    | (?P<word>    [^\W\d][\w$]* )
    | (?P<mark>    [;()] )
    """,
    re.VERBOSE | re.DOTALL,
)
COMMENT_EDGE = re.compile(r"/\*|\*/")
LEAD = re.compile(r"(?:\s|--[^\n]*|/\*.*?\*/)*", re.DOTALL)


@dataclass(frozen=True)
class Statement:
    """One statement without its semicolon, and the line of the file it starts on."""

    text: str
    line: int

    @property
    def code(self) -> str:
        """The statement without the comments that lead it."""
        return LEAD.sub("", self.text, count=1)

    def line_at(self, position: int | None) -> int:
        """Return the file's line of a character, counted from 1; None is the code's."""
        if position is None:
            position = len(self.text) - len(self.code) + 1
        return self.line + self.text.count("\n", 0, position - 1)


def split(script: str) -> Iterator[Statement]:
    """Yield a script's statements, each with the comments that lead it.

    So does the Supabase CLI, which takes a comment at the end for a statement too.
    Semicolons count where Postgres counts them: outside of strings, comments,
    parentheses and bodies, `begin atomic … end` included.
    """
    start = 0
    for end in (*_ends(script), len(script)):
        text = script[start:end]
        first = start + len(text) - len(text.lstrip())
        statement = Statement(text.strip(), 1 + script.count("\n", 0, first))
        if statement.text:
            yield statement
        start = end + 1


def _ends(script: str) -> Iterator[int]:
    """Yield the places of the semicolons that end a statement."""
    place, parentheses, bodies = 0, 0, 0
    before, routine = "", False
    while token := TOKEN.search(script, place):
        place = token.end()
        if token["block"]:
            place = _comment_end(script, place)
        elif token["dollar"]:
            closing = script.find(token["dollar"], place)
            place = len(script) if closing < 0 else closing + len(token["dollar"])
        elif token["word"]:
            word = token["word"].lower()
            routine = routine or word in ("function", "procedure")
            bodies += _body_step(word, before, bodies, routine)
            before = word
        elif token["mark"] == "(":
            parentheses += 1
        elif token["mark"] == ")":
            parentheses = max(0, parentheses - 1)
        elif token["mark"] == ";" and not parentheses and not bodies:
            before, routine = "", False
            yield token.start()


def _body_step(word: str, before: str, bodies: int, routine: bool) -> int:
    if routine and before == "begin" and word == "atomic":
        return 1
    if bodies and word == "case":
        return 1
    return -1 if bodies and word == "end" else 0


def _comment_end(script: str, place: int) -> int:
    depth = 1
    while depth and (edge := COMMENT_EDGE.search(script, place)):
        depth += 1 if edge.group() == "/*" else -1
        place = edge.end()
    return len(script) if depth else place
