"""Pages whose tables benchmarks write: each between the marks <!-- name --> and <!-- /name -->."""

import re
from pathlib import Path


def write_marked(page: Path, texts: dict[str, str]) -> None:
    """Replaces what lies between the marks of each name; the rest of the page stays.

    Raises:
        ValueError: The page lacks the marks.
    """
    content = page.read_text()
    for name, text in texts.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not marked.search(content):
            raise ValueError(f"{page} has no marks <!-- {name} --> and <!-- /{name} -->")
        content = marked.sub(lambda match, text=text: f"{match[1]}{text}\n{match[2]}", content)
    page.write_text(content)
