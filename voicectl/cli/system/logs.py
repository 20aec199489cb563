"""How a process of ours writes its log: lines on stderr, which supervisord puts into VOICE_HOME/logs and rotates.

One line an event: time, level, logger, the event's fixed text, then its fields as name=value. Promise: no secret of the
settings and no token stands in a line. Not here: reading logs (log_files.py).
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable
from datetime import datetime

from pydantic import SecretStr

from voicectl.memory.config import load
from voicectl.voice.config import VoiceSettings

# What LogRecord has anyway; everything else on a record is a field that somebody gave.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+")
SHORTEST_MASKED = 8  # a shorter "secret" would blacken ordinary words


class Lines(logging.Formatter):
    """Formats one record as one line; an exception's stack follows on lines of its own.

    Args:
        secrets: Values that must not appear.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = sorted({s for s in secrets if len(s) >= SHORTEST_MASKED}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        when = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        given = {k: v for k, v in vars(record).items() if k not in STANDARD and not k.startswith("_")}
        fields = "".join(f" {k}={_shown(v)}" for k, v in given.items())
        line = f"{when} {record.levelname} {record.name} {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        elif record.exc_text:
            line += "\n" + record.exc_text
        return self.masked(line)

    def masked(self, line: str) -> str:
        """The line without secrets and tokens."""
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return TOKEN.sub("***", line)


def _shown(value: object) -> str:
    text = str(value)
    return text if re.fullmatch(r"[\w.:/+@-]+", text) else json.dumps(text, ensure_ascii=False)


def to_stderr(level: int = logging.INFO) -> None:
    """Send this process's logging to stderr in our form, replacing what libraries set up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(_secrets()))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)
    for chatty in ("httpx", "httpcore", "asyncio", "hpack", "aiohttp.access", "faster_whisper", "alembic"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)


def _secrets() -> list[str]:
    """The secrets of the settings in force. What a library is given here it may also print."""
    settings = load(VoiceSettings)
    values = [getattr(settings, name) for name in VoiceSettings.model_fields]
    return [v.get_secret_value() for v in values if isinstance(v, SecretStr)]
