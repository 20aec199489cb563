"""All processes of an installation: those that calls need, then Letta and the syncer, which nobody waits for.

Apart from processes.py because Letta's rows are made of that module's parts. Not here: what each row says.
"""

from __future__ import annotations

from pathlib import Path

from voicectl.cli.system import letta, processes
from voicectl.cli.system.home import Home
from voicectl.cli.system.processes import Part
from voicectl.voice.config import VoiceSettings


def table(
    settings: VoiceSettings,
    home: Home,
    livekit_server: Path | None,
    *,
    start_letta: bool = True,
    wait_letta: bool = False,
) -> list[Part]:
    """The processes of this installation, in the order in which they start.

    Args:
        settings: With every port and key chosen.
        home: The installation.
        livekit_server: Program to run as LiveKit server; None when another server is used.
        start_letta: Run a Letta server of ours and the syncer, if the settings want a mirror.
        wait_letta: Count as ready only with them.
    """
    rows = processes.table(settings, home, livekit_server)
    if start_letta or not letta.is_ours(settings):
        rows += letta.parts(settings, home, start_letta=start_letta, wait=wait_letta)
    return rows
