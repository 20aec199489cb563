"""The prompt that calls begin with is kept on disk: loaded at a start, and never with a caller's words in it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import free_port
from tests.support.waiting import wait_for
from tests.voice.local_llm.desk import assistant_tools
from tests.voice.local_llm.test_live_model import model_home
from voicectl.voice.engines.local_llm import kept_prompt
from voicectl.voice.engines.local_llm.adapter import LocalLLM, WarmUp
from voicectl.voice.engines.local_llm.examples_assistant import INSTRUCTIONS
from voicectl.voice.engines.local_llm.server import model_file

MODEL = Path("model-q4.gguf")
COLD = WarmUp(seconds=12.0, tokens_read=900, tokens_cached=0)


class Engine:
    """The two requests of the engine that matter here, over HTTP."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.holds = folder, COLD.tokens_read + 1
        self.asked: list[tuple[str, str]] = []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["filename"]
                action = self.path.removeprefix("/slots/0?action=")
                engine.asked.append((action, name))
                if action == "save":
                    (engine.folder / name).write_bytes(b"state")
                said = json.dumps({"n_saved": engine.holds, "n_restored": engine.holds}).encode()
                self.send_response(200 if self.headers["Authorization"] == "Bearer key" else 401)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(kept_prompt.folder(tmp_path))
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


async def keep(engine: Engine, took: WarmUp, home: Path) -> list[str]:
    """What is in the folder after a warm-up."""
    model = LocalLLM(f"http://127.0.0.1:{engine.port}", "key")
    await kept_prompt.keep(model, took, home, MODEL)
    await model.aclose()
    return [f.name for f in engine.folder.iterdir()]


@pytest.mark.unit
async def test_what_a_cold_warm_up_read_is_kept_and_loaded_at_the_next_start(engine: Engine, tmp_path: Path) -> None:
    name = kept_prompt.name_for(MODEL)
    (engine.folder / "earlier-model.bin").touch()

    kept_prompt.restore(tmp_path, MODEL, engine.port, "key")
    assert engine.asked == [], "there was nothing to load"
    assert list(engine.folder.iterdir()) == [], "what belongs to another model is gone"
    assert await keep(engine, COLD, tmp_path) == [name]
    kept_prompt.restore(tmp_path, MODEL, engine.port, "key")

    assert engine.asked == [("save", f"{name}.tmp"), ("restore", name)]


@pytest.mark.unit
async def test_nothing_is_kept_that_a_call_has_added_to(engine: Engine, tmp_path: Path) -> None:
    engine.holds = COLD.tokens_read + 30

    assert await keep(engine, COLD, tmp_path) == []


@pytest.mark.unit
async def test_a_warm_up_that_read_next_to_nothing_is_not_kept_again(engine: Engine, tmp_path: Path) -> None:
    await keep(engine, WarmUp(seconds=0.1, tokens_read=1, tokens_cached=899), tmp_path)

    assert engine.asked == []


@pytest.mark.unit
async def test_an_engine_that_refuses_or_is_gone_hinders_nobody(engine: Engine, tmp_path: Path) -> None:
    stranger = LocalLLM(f"http://127.0.0.1:{engine.port}", "wrong")
    await kept_prompt.keep(stranger, COLD, tmp_path, MODEL)
    await stranger.aclose()
    assert list(engine.folder.iterdir()) == []

    (engine.folder / kept_prompt.name_for(MODEL)).touch()
    kept_prompt.restore(tmp_path, MODEL, engine.port, "wrong")
    kept_prompt.restore(tmp_path, MODEL, free_port(), "key")


def says(log: Path, words: str) -> str:
    """What the log has instead; "" when it has the words."""
    text = log.read_text()
    return "" if words in text else f"no {words!r} in: {text}"


@contextmanager
def real_model(home: Path) -> Iterator[tuple[LocalLLM, Path]]:
    """`voicectl run llm`, and where it logs; it is killed at the end."""
    port, key, log = free_port(), secrets.token_hex(8), home / f"{secrets.token_hex(3)}.log"
    environment = {
        **os.environ,
        "VOICE_HOME": str(home),
        "VOICE_LOCAL_LLM_URL": f"http://127.0.0.1:{port}",
        "VOICE_LOCAL_LLM_KEY": key,
    }
    with log.open("wb") as out:
        argv = [sys.executable, "-m", "voicectl.cli.main", "run", "llm"]
        child = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        wait_for(lambda: says(log, "local model is served"), 60)
        yield LocalLLM(f"http://127.0.0.1:{port}", key), log
    finally:
        child.kill()
        child.wait()


@pytest.mark.live
@pytest.mark.alone
@pytest.mark.timeout(180)
def test_the_real_model_started_again_has_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(model_home() / "models")

    async def read(model: LocalLLM) -> WarmUp:
        took = await model.warm_up(INSTRUCTIONS, assistant_tools())
        await kept_prompt.keep(model, took, tmp_path, model_file(tmp_path))
        await model.aclose()
        return took

    with real_model(tmp_path) as (model, _):
        cold = asyncio.run(read(model))
    with real_model(tmp_path) as (model, log):
        wait_for(lambda: says(log, "kept prompt is loaded"), 20)
        warm = asyncio.run(read(model))

    print(f"cold {cold}, started again {warm}")
    assert cold.tokens_cached == 0
    assert warm.tokens_read < kept_prompt.WORTH_TOKENS
    assert warm.tokens_cached > cold.tokens_read - kept_prompt.WORTH_TOKENS
