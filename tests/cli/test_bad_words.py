"""Words on the command line that no command can mean: told as such, whichever command it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from voicectl.cli import main

pytestmark = pytest.mark.unit
LATIN = "caf\udce9"  # what Python makes of the bytes of a shell in Latin 1


@pytest.mark.parametrize(
    "words",
    [
        ("memory", "show", LATIN),
        ("memory", "search", "tea", LATIN),
        ("memory", "set", "user:1", LATIN),
        ("memory", "import", f"/tmp/{LATIN}.csv"),
        ("desks", "remove", LATIN),
        ("desks", "policy", "assistant", "--set", LATIN),
        ("sync", "list", LATIN),
        ("call", LATIN),
        (LATIN,),
    ],
)
def test_what_is_no_text_is_refused_by_every_command(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["voicectl", *words])

    with pytest.raises(SystemExit) as ended:
        main.main()

    assert ended.value.code == 2
    assert "caf\\xe9" in capsys.readouterr().err


def test_bytes_of_a_shell_end_in_words_and_not_in_a_stack() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "voicectl.cli.main", "desks", "remove", b"\xff"], capture_output=True, check=False
    )

    assert (done.returncode, done.stderr.count(b"\n"), b"is not text in UTF-8" in done.stderr) == (2, 1, True)
