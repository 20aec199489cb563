"""`voicectl doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

COLUMNS = ("check", "verdict", "text", "remedy")


def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False) -> None:
    """Check the installation and name a remedy for everything that is wrong. Example: voicectl doctor."""
    from dataclasses import asdict

    from voicectl.cli import out
    from voicectl.cli.errors import Failed
    from voicectl.cli.system import doctor as checks
    from voicectl.cli.system.converge import home_of_settings

    findings = checks.examine(checks.patient(home_of_settings()))
    out.table([asdict(f) for f in findings], COLUMNS, as_json=as_json, name="findings")
    failed = [f for f in findings if f.verdict is checks.Verdict.FAILED]
    if failed:
        raise Failed(f"{len(failed)} of {len(findings)} checks failed: {', '.join(f.check for f in failed)}.")
