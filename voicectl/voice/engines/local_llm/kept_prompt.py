"""The prompt that calls begin with, kept on disk as the model read it: a restart loads 30 MB and reads nothing again.

One file a model and engine under VOICE_HOME/cache/prompts. It holds the static prompt alone: it is written right after
the worker's warm-up, and dropped when the engine had more in memory than that warm-up, such as a caller's words.
Not here: the warm-up (adapter.py), who orders it (engines/__init__.py).
"""

from __future__ import annotations

import http.client
import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the server's process has no LiveKit in it
    from voicectl.voice.engines.local_llm.adapter import LocalLLM, WarmUp

log = logging.getLogger(__name__)

WORTH_TOKENS = 100  # fewer are read in half a second
RESTORE_S = 10.0
OVER = 1  # the token that a warm-up generates


def folder(home: Path) -> Path:
    """Where the engine may read and write, made when it is not there."""
    made = home / "cache" / "prompts"
    made.mkdir(parents=True, exist_ok=True, mode=0o700)
    return made


def name_for(model: Path) -> str:
    """The file's name. Another model or another engine would not understand what is in it."""
    return f"{model.stem}-{version('xllamacpp')}.bin"


def restore(home: Path, model: Path, port: int, key: str) -> None:
    """Have a server that has just started load the kept prompt; without one, or with a broken one, nothing happens."""
    at, name = folder(home), name_for(model)
    for other in at.iterdir():
        if other.name != name:
            other.unlink(missing_ok=True)  # of an earlier model, or half written
    if not (at / name).exists():
        return
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=RESTORE_S)
    try:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("POST", "/slots/0?action=restore", json.dumps({"filename": name}), headers)
        answer = connection.getresponse()
        words = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as e:
        log.warning("the kept prompt was not loaded; it is read again", extra={"why": repr(e)})
        return
    finally:
        connection.close()
    if answer.status == 200:
        log.info("the kept prompt is loaded", extra={"tokens": json.loads(words).get("n_restored")})
    else:
        log.warning("the kept prompt was not loaded; it is read again", extra={"why": words[:200]})


async def keep(model: LocalLLM, took: WarmUp, home: Path, file: Path) -> None:
    """Keep what a warm-up read, when it read enough to be worth it. A failure is logged; the next start reads again.

    Args:
        model: The model that was warmed up.
        took: What the warm-up cost.
        home: VOICE_HOME of its server.
        file: The model's file.
    """
    from livekit.agents import APIError

    if took.tokens_read < WORTH_TOKENS:
        return
    at, name = folder(home), name_for(file)
    draft = at / f"{name}.tmp"
    try:
        tokens = await model.wire.save(draft.name)
        if tokens > took.tokens_read + took.tokens_cached + OVER:
            log.warning("the prompt is not kept: a call was on", extra={"tokens": tokens})
        else:
            draft.chmod(0o600)
            draft.replace(at / name)
            log.info("the prompt is kept", extra={"tokens": tokens})
    except (APIError, OSError) as e:
        log.warning("the prompt is not kept; the next start reads it again", extra={"why": str(e)})
    finally:
        draft.unlink(missing_ok=True)
