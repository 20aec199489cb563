"""One null model an installation, served by whichever of its syncers is there (null_model.py is the server itself)."""

from __future__ import annotations

import logging
import threading

from voicectl.memory import null_model
from voicectl.memory.config import MemorySettings, read_state, write_state

log = logging.getLogger(__name__)

NULL_PORT_KEY = "null_model_port"  # in state.json


def serve_null_model(settings: MemorySettings) -> null_model.NullModel | None:
    """Serve the null model at the installation's port; None when another syncer serves it.

    The port is the one in state.json, so that it stays the same; it is chosen here the first time.
    """
    port = read_state(settings.home).get(NULL_PORT_KEY)
    if isinstance(port, int):
        try:
            return null_model.NullModel(port)
        except null_model.PortInUse:
            if null_model.answers(port):
                return None
            log.warning("the null model's port is taken by somebody else; choosing another", extra={"port": port})
    model = null_model.NullModel()
    write_state(settings.home, **{NULL_PORT_KEY: model.port})
    return model


class NullModelKeeper:
    """Keeps a null model at the installation's port: ours, or ours again when the syncer that served it has gone.

    Args:
        settings: The settings.
        every_s: How often another syncer's null model is asked whether it is still there, in seconds.
    """

    def __init__(self, settings: MemorySettings, every_s: float = 5.0) -> None:
        self._every_s = every_s
        self._settings = settings
        self._closing = threading.Event()
        self._model = serve_null_model(settings)
        if self._model is not None:
            self._model.__enter__()
        port = self._model.port if self._model else int(read_state(settings.home)[NULL_PORT_KEY])
        self.url = null_model.url_of(port)
        self._port = port
        self._thread = threading.Thread(target=self._watch, name="null-model-keeper", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while self._model is None and not self._closing.wait(self._every_s):
            if null_model.answers(self._port):
                continue
            try:
                self._model = null_model.NullModel(self._port)
            except null_model.PortInUse:
                continue  # somebody was quicker; asked again in a moment
            self._model.__enter__()

    def close(self) -> None:
        """Stop serving."""
        self._closing.set()
        self._thread.join()
        if self._model is not None:
            self._model.__exit__()
