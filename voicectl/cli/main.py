"""The entry of voicectl: which commands there are, and what an error becomes.

Exit codes: 0 done, 1 failed, 2 usage, 3 not running or not reachable, 4 not found, 5 refused.
Commands are one module each under commands/; heavy imports are inside them, so that --help takes no second.
"""

from __future__ import annotations

import os
import sys

import typer

from voicectl.cli.commands import (
    call,
    config,
    demo,
    desks,
    dispatch,
    doctor,
    down,
    logs,
    memory,
    models,
    restart,
    rooms,
    run,
    status,
    sync,
    uninstall,
    up,
)

app = typer.Typer(
    name="voicectl",
    help="The voice agent that remembers its callers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (up.up, down.down, restart.restart, status.status, logs.logs, doctor.doctor, call.call, demo.demo):
    app.command()(command)
app.add_typer(memory.app, name="memory")
app.add_typer(sync.app, name="sync")
app.add_typer(models.app, name="models")
app.add_typer(desks.app, name="desks")
app.add_typer(rooms.app, name="rooms")
app.command()(dispatch.dispatch)
app.add_typer(config.app, name="config")
app.command()(uninstall.uninstall)
app.add_typer(run.app, name="run", hidden=True)


def main() -> None:
    """Run voicectl; the process's exit code says how it went."""
    from voicectl.cli.faults import explained

    try:
        _refuse_no_text(sys.argv[1:])
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # `voicectl logs | head`: nobody reads any more. Closing standard output would fail once again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as e:
        answer = explained(e)
        if answer is None:
            raise
        sys.stderr.write(answer.text + "\n")
        sys.exit(answer.code)
    sys.exit(code if isinstance(code, int) else 0)


def _refuse_no_text(words: list[str]) -> None:
    """Refuse what a shell hands over in another encoding: no database, server or terminal takes the words of it.

    Raises:
        Usage: An argument is not text in UTF-8.
    """
    from voicectl.cli.errors import Usage

    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise Usage(
                f"{os.fsencode(word)!r} is not text in UTF-8.", "Write it in UTF-8, also names of files."
            ) from None


if __name__ == "__main__":
    main()
