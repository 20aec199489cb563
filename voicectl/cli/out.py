"""The one way out: results on stdout, everything else on stderr. One JSON document where --json is given.

Every document carries `schema_version`; it changes when a name or a meaning in one of them does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

SCHEMA_VERSION = 1


def say(text: str) -> None:
    """A line for the person who waits: progress, hints, problems. Goes to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def text(content: str) -> None:
    """A result that is text."""
    sys.stdout.write(content + ("" if content.endswith("\n") else "\n"))


def document(content: Mapping[str, Any]) -> None:
    """A result as one JSON document."""
    sys.stdout.write(json.dumps({"schema_version": SCHEMA_VERSION, **content}, ensure_ascii=False, indent=1) + "\n")


def table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool = False, name: str = "rows"
) -> None:
    """Rows as a table for people, or as JSON.

    Args:
        rows: One mapping a row.
        columns: Which values, in order; also the headings.
        as_json: JSON instead.
        name: Under which key the rows stand in the JSON document.
    """
    if as_json:
        document({name: [dict(r) for r in rows]})
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*("" if row.get(c) is None else str(row.get(c)) for c in columns))
    # Where nobody looks there is no width to keep: a folded path or command cannot be searched for or pasted.
    width = None if sys.stdout.isatty() else 10_000
    Console(highlight=False, soft_wrap=False, width=width).print(grid)
