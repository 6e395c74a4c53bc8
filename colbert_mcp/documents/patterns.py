"""gitignore-style patterns, compiled one by one, and matched as git does. Patterns are hostile until proven otherwise.

pathspec translates them to regular expressions; one with many stars would take exponential time, so those are refused.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

import pathspec
from pathspec.pattern import RegexPattern

_MAX_STARS = 4
_STARS = re.compile(r"\*+")


def compile_patterns(lines: Iterable[str]) -> list[RegexPattern]:
    """The patterns of some lines; blank lines and comments give none. Raises ValueError naming a line that is wrong."""
    return [pattern for line in lines for pattern in _compile_line(line)]


@lru_cache(maxsize=4096)
def _compile_line(line: str) -> tuple[RegexPattern, ...]:
    """The patterns of one line; the ignore files of a tree repeat each other."""
    if max(len(_STARS.findall(part)) for part in line.split("/")) > _MAX_STARS:
        raise ValueError(f"{line!r} has more than {_MAX_STARS} stars in one part")
    try:
        patterns = pathspec.GitIgnoreSpec.from_lines([line]).patterns
    except (ValueError, re.error) as error:
        raise ValueError(f"{line!r} is not a pattern") from error
    return tuple(pattern for pattern in patterns if pattern.regex is not None)


def compile_ignore_file(text: str) -> list[RegexPattern]:
    """The patterns of an ignore file; like git, a line that is wrong is passed over and the others count."""
    patterns: list[RegexPattern] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        try:
            patterns += compile_patterns([line])
        except ValueError:
            continue
    return patterns


def any_of(patterns: list[RegexPattern]) -> re.Pattern[str]:
    """One expression that matches whatever any of the patterns does: what it does not match needs no ``verdict``."""
    expressions = [pattern.regex.pattern for pattern in patterns if pattern.regex is not None]
    # Expressions joined in one may not use a group's name twice.
    return re.compile("|".join(f"(?:{expression.replace('(?P<ps_d>', '(?:')})" for expression in expressions))


def selected(patterns: list[RegexPattern], path: str) -> bool:
    """Whether the last pattern that matches the path or a folder above it takes it in (``!`` takes out)."""
    for pattern in reversed(patterns):
        if pattern.regex is not None and pattern.regex.search(path):
            return bool(pattern.include)
    return False


def verdict(patterns: list[RegexPattern], entry: str) -> bool | None:
    """What the last pattern that matches an entry itself says of it; folders end in a slash. None: nothing.

    Folders are walked from the top, as git does, so each entry is judged alone. pathspec's expressions also match what
    lies below a match; they mark the slash after it with the group ``ps_d``, or end in a slash for ``folder/**``.
    """
    for pattern in reversed(patterns):
        if pattern.regex is not None and _matches_itself(pattern.regex, entry):
            return bool(pattern.include)
    return None


def _matches_itself(regex: re.Pattern[str], entry: str) -> bool:
    if "ps_d" not in regex.groupindex:
        found = regex.search(entry)
        return found is not None and not (regex.pattern.endswith("/") and found.end() == len(entry))
    return any(found.start("ps_d") in (-1, len(entry) - 1) for found in regex.finditer(entry))
