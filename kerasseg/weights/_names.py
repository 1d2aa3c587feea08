"""Our layers' names in others' tables: (pattern of our name, their name with {0}, {1}, ... for its groups)."""

import re
from collections.abc import Sequence


def rename(table: Sequence[tuple[str, str]], name: str, **words: str) -> str | None:
    """Returns the name that the first matching row gives, with `words` in it too; None where no row matches."""
    for pattern, theirs in table:
        if match := re.fullmatch(pattern, name):
            return theirs.format(*match.groups(), **words)
    return None
