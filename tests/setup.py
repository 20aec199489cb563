"""Fetch what the tests need into a cache that outlives them: `python -m tests.setup`.

The same code as `voicectl up` uses, into an installation of its own under VOICE_TEST_CACHE (default
~/.cache/voicectl-tests), plus Letta and Chromium. A second run takes seconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.support.installation import CACHE
from tests.support.letta_server import prepare
from voicectl.cli.system import install, livekit_server
from voicectl.cli.system.home import Home
from voicectl.cli.system.progress import Progress
from voicectl.voice import models

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    home = Home(CACHE / "home")
    home.make()
    progress = Progress(lambda line: print(line, file=sys.stderr, flush=True))
    missing = [name for name in models.CATALOGUE if not models.ready(name, home.root)]
    todo = install.jobs(
        home,
        progress,
        build_livekit=livekit_server.find(home, None) is None,
        names=missing,
        build_page=install.page_is_missing(),
    )
    with ThreadPoolExecutor(1) as beside:
        letta = beside.submit(prepare)  # no test's time limit should have to cover a gigabyte
        install.run(todo, home)
        letta.result()
    given = livekit_server.find(home, None)
    assert given is not None
    ours = home.bin / "livekit-server"
    if given != ours:
        ours.parent.mkdir(parents=True, exist_ok=True)
        ours.unlink(missing_ok=True)
        ours.symlink_to(given)
    chromium()
    progress.total("the tests have what they need")


def chromium() -> None:
    """Chromium from PATH, else from Debian's packages when we may install them; never sudo."""
    if any(shutil.which(name) for name in CHROMIUM):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit("No Chromium. Install it (Debian: apt-get install chromium) or put one on PATH.")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "-qq", "update"], check=True, env=environment, stdout=subprocess.DEVNULL)
    command = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", "chromium"]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
