"""`python -m tests.kubernetes.values_table`: writes the chart's values with their comments into docs/kubernetes.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
VALUES: Final = ROOT / "deploy" / "helm" / "tidemill" / "values.yaml"
PAGE: Final = ROOT / "docs" / "kubernetes.md"
BEGIN: Final = "<!-- values: made from values.yaml by `python -m tests.kubernetes.values_table` -->\n"
END: Final = "<!-- end of values -->\n"
_KEY: Final = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z]\w*):(?: (?P<value>.*))?$")


def rows(text: str) -> Iterator[tuple[str, str, str]]:
    """(name, default, meaning) of every value that is described or has a default of its own."""
    path: list[str] = []
    words: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            words.append(stripped[1:].strip())
            continue
        found = _KEY.match(line)
        if found is None:
            words = []
            continue
        path[len(found["indent"]) // 2 :] = [found["name"]]
        meaning, words = " ".join(words), []
        if meaning or found["value"] is not None:
            yield ".".join(path), found["value"] or "", meaning


def table() -> str:
    """The table in Markdown."""
    lines = ["| value | default | meaning |", "| --- | --- | --- |"]
    for name, default, meaning in rows(VALUES.read_text()):
        if meaning or not name.endswith((".requests", ".limits")):
            lines.append(f"| `{name}` | {f'`{default}`' if default else ''} | {_escaped(meaning)} |")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def page() -> str:
    """docs/kubernetes.md with the table as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
