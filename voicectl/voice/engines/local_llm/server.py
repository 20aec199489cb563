"""The local model's server: one process in the foreground that speaks the OpenAI protocol on loopback.

The settings are the measured ones (reference: local_llm.md); the process ends within
two seconds of SIGTERM or SIGINT, while it still loads the model as soon as that is done (some 4 s).
Not here: who starts it (cli/system), what is sent to it (adapter.py), where the file comes from (voicectl models).
"""

from __future__ import annotations

import logging
import os
import platform
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from voicectl.memory.errors import SettingError
from voicectl.voice.config import VoiceSettings
from voicectl.voice.engines.local_llm import kept_prompt
from voicectl.voice.engines.local_llm.errors import CpuTooOld, ModelMissing

log = logging.getLogger(__name__)

MODEL = "qwen2.5-coder-1.5b"
CONTEXT_TOKENS = 8192
THREADS = 2  # measured on 2 cores; more threads than cores halve the speed
CACHE_MIB = 1024  # prompts kept outside the one slot (28 kB a token): hand-offs cost 0.2 s. The default is 8192 MiB


def model_file(home: Path) -> Path:
    """The model's file under VOICE_HOME.

    Raises:
        ModelMissing: The folder holds no .gguf file, or several.
    """
    folder = home / "models" / MODEL
    found = sorted(folder.glob("*.gguf"))
    if len(found) != 1:
        raise ModelMissing(folder, len(found))
    return found[0]


def check_cpu(cpuinfo: Callable[[], str] | None = None) -> None:
    """Refuse a processor on which the engine would die with an illegal instruction.

    Args:
        cpuinfo: Reads the processor's description; None: Linux' /proc/cpuinfo, nothing elsewhere.

    Raises:
        CpuTooOld: An x86 processor without AVX2.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return
    text = (cpuinfo or _cpuinfo)()
    if text and "avx2" not in text.lower().split():
        raise CpuTooOld("avx2")


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""  # no Linux; the engine's own start then tells


def address(settings: VoiceSettings) -> tuple[str, int]:
    """Host and port to listen on, from VOICE_LOCAL_LLM_URL.

    Raises:
        SettingError: The address is unset, not on loopback or without a port.
    """
    url = settings.local_llm_url or ""
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost") or not parts.port:
        raise SettingError("VOICE_LOCAL_LLM_URL", url, "an address like http://127.0.0.1:8080", "Run: voicectl up")
    return "127.0.0.1", parts.port


def parameters(model: Path, host: str, port: int, key: str, prompts: Path) -> Any:
    """The engine's parameters as measured; `prompts` is the only folder in which it may keep what it has read."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 1
    params.n_batch = 512
    params.n_ubatch = 512
    params.cpuparams.n_threads = THREADS
    params.cpuparams_batch.n_threads = THREADS
    params.cache_prompt = True
    params.cache_ram_mib = CACHE_MIB
    params.use_jinja = True
    params.warmup = True
    params.hostnames = [host]
    params.port = port
    params.api_keys = [key]
    params.endpoint_slots = False  # it would show callers' prompts
    params.slot_save_path = f"{prompts}/"
    params.verbosity = 0
    return params


def serve(settings: VoiceSettings) -> None:
    """Serve the model until SIGTERM or SIGINT; returns after a clean stop.

    Raises:
        ModelMissing: The model file is not under VOICE_HOME.
        CpuTooOld: The processor lacks AVX2.
        SettingError: VOICE_LOCAL_LLM_URL or VOICE_LOCAL_LLM_KEY is unset or unusable.
    """
    check_cpu()
    model = model_file(settings.home)
    host, port = address(settings)
    if settings.local_llm_key is None:
        raise SettingError("VOICE_LOCAL_LLM_KEY", "", "a key for the local model's server", "Run: voicectl up")
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    # Blocked before the engine makes its threads, which inherit the mask: so only sigwait below sees the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    import xllamacpp

    key = settings.local_llm_key.get_secret_value()
    server = xllamacpp.Server(parameters(model, host, port, key, kept_prompt.folder(settings.home)))
    log.info("local model is served", extra={"url": server.listening_address, "model": model.name})
    kept_prompt.restore(settings.home, model, port, key)
    got = signal.sigwait(stop_signals)
    log.info("local model stops", extra={"signal": signal.Signals(got).name})
    logging.shutdown()
    # The engine's destructor waits for a running generation; nothing here outlives the process.
    os._exit(0)


__all__ = ["CONTEXT_TOKENS", "MODEL", "address", "check_cpu", "model_file", "parameters", "serve"]
