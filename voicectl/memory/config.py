"""Settings: where each value comes from, in one order, for every process of an installation.

Order, first wins: arguments, the process environment, the `.env` file of the checkout, `VOICE_HOME/state.json` (what
`voicectl up` chose: ports, generated keys), the default. Nothing else in this project reads the environment.
Not here: what the voice loop can be told (voice/config.py); how values are shown (`voicectl config explain`).
"""

from __future__ import annotations

import difflib
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from voicectl.memory.errors import SettingError

OUR_PREFIXES = ("VOICE_", "MEMORY_")
PLACEHOLDERS = ("changeme", "your-", "<", "xxx", "replace-me", "todo")

S = TypeVar("S", bound="Settings")


def checkout() -> Path:
    """The folder that holds this checkout, or the working directory when we were installed as a wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").exists() else Path.cwd()


def dotenv_path() -> Path:
    """The one dotenv file that is read: `VOICE_ENV_FILE`, else `.env` beside the checkout's README."""
    return Path(os.environ.get("VOICE_ENV_FILE", "") or checkout() / ".env")


def _home() -> Path:
    """`VOICE_HOME` as environment or dotenv give it, else `.voice` in the checkout."""
    named = os.environ.get("VOICE_HOME") or _read_dotenv().get("voice_home")
    return _placed(Path(named or ".voice"))


def _placed(home: Path) -> Path:
    """A relative VOICE_HOME lies in the checkout, wherever voicectl is called from: one name, one installation."""
    return checkout() / home.expanduser()


def _dotenv(model: type[BaseSettings], *, case_sensitive: bool | None = None) -> DotEnvSettingsSource:
    path = dotenv_path()
    try:
        return DotEnvSettingsSource(model, env_file=path, case_sensitive=case_sensitive)
    except UnicodeDecodeError as e:
        raise SettingError(str(path), "not UTF-8", "a text file in UTF-8", f"Save it as UTF-8: {path}") from e


def _read_dotenv() -> dict[str, str | None]:
    return dict(_dotenv(Settings, case_sensitive=False).env_vars)


def state_path(home: Path) -> Path:
    """Where an installation keeps what it chose or generated for itself."""
    return home / "state.json"


def read_state(home: Path) -> dict[str, Any]:
    """What this installation chose for itself; empty before the first `voicectl up`.

    Raises:
        SettingError: The file is there and is not a JSON object.
    """
    path = state_path(home)
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except NotADirectoryError as e:
        raise SettingError("VOICE_HOME", str(home), "a folder, or a place for one") from e
    except (OSError, ValueError) as e:
        raise SettingError(str(path), "unreadable", f"a JSON object ({e})", f"Remove it: rm {path}") from e
    if not isinstance(data, dict):
        raise SettingError(str(path), type(data).__name__, "a JSON object", f"Remove it: rm {path}")
    return data


def write_state(home: Path, **values: Any) -> None:
    """Merge values into the installation's state file, mode 0600, replaced in one step. None removes a value."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = {k: v for k, v in {**read_state(home), **values}.items() if v is not None}
    path = state_path(home)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, stat.S_IRUSR | stat.S_IWUSR), "w") as f:
        json.dump(data, f, indent=1, sort_keys=True)
        f.flush()
        os.fsync(f.fileno())
    draft.replace(path)


class StateSource(PydanticBaseSettingsSource):
    """`VOICE_HOME/state.json` as a settings source, keyed by environment name in lower case."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """One field's value; unused, the whole file is read in `__call__`."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """All values of the file that name a field of ours."""
        state = read_state(_home())
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            for env in env_names(name, field):
                if env.lower() in state:
                    found[env] = state[env.lower()]
                    break
        return found


class Filled(PydanticBaseSettingsSource):
    """A source without its empty values: `OPENAI_API_KEY=` is no key, as everywhere else.

    Args:
        source: The source.
    """

    def __init__(self, source: PydanticBaseSettingsSource) -> None:
        super().__init__(source.settings_cls)
        self._source = source

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The source's own."""
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        """What the source says, except where it says nothing."""
        kept = kept_empty(self.settings_cls)
        return {n: v for n, v in self._source().items() if v != "" or n in kept}


class Settings(BaseSettings):
    """Base of all settings models: the order of the sources and the strictness live here.

    Attributes:
        empty_counts: Fields of which an empty value says something; elsewhere it is the same as none.
    """

    empty_counts: ClassVar[frozenset[str]] = frozenset()

    model_config = SettingsConfigDict(
        env_file_encoding="utf-8",
        extra="ignore",  # unknown names with our prefixes are refused by `unknown_names`, with a suggestion
        frozen=True,
        validate_default=False,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, environment, dotenv, state file."""
        return init_settings, Filled(env_settings), Filled(_dotenv(settings_cls)), StateSource(settings_cls)


class MemorySettings(Settings):
    """What the memory package can be told."""

    home: Path = Field(
        default_factory=_home,
        validation_alias="VOICE_HOME",
        description="Folder of all state of an installation: databases, models, logs, sockets, generated keys. "
        "A relative path lies in the checkout.",
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("MEMORY_DATABASE_URL", "DATABASE_URL"),
        description="Store for customers, calls and turns. Unset: SQLite in VOICE_HOME. "
        "postgresql://user:password@host/db for several machines.",
    )
    backend: str = Field(
        "letta",
        validation_alias="MEMORY_BACKEND",
        pattern="^(letta|embedded)$",
        description="letta: mirror every turn into a Letta server. embedded: the store only.",
    )
    letta_base_url: str | None = Field(
        None,
        validation_alias="LETTA_BASE_URL",
        description="A Letta server to use. Unset: a local one is installed and started by voicectl up.",
    )
    letta_api_key: SecretStr | None = Field(
        None, validation_alias="LETTA_API_KEY", description="Password or key of the Letta server."
    )
    hide_names: bool = Field(
        False,
        validation_alias="MEMORY_HIDE_NAMES",
        description="Keep customers' names out of what operators see in Letta's lists.",
    )
    recall_budget_tokens: int = Field(
        600,  # 743 tokens of instructions and examples (local_llm.md 1) plus this keep a cold prompt under 1,500
        ge=50,
        le=20_000,
        validation_alias="MEMORY_RECALL_BUDGET_TOKENS",
        description="How much of what we know goes into the prompt, in tokens (4 characters each).",
    )

    memory_step: str = Field(
        "auto",
        validation_alias="MEMORY_STEP",
        pattern="^(auto|extract|agent|off)$",
        description="What is learnt from a call after it. extract: the language model lists facts, we add those that "
        "are in the caller's words. agent: Letta's agent edits its blocks, same check. off: nothing. auto: extract.",
    )

    @field_validator("home")
    @classmethod
    def _home_is_absolute(cls, home: Path) -> Path:
        return _placed(home)


@dataclass(frozen=True)
class Explained:
    """One setting as `voicectl config explain` shows it."""

    env: str
    value: str
    source: str
    description: str


def env_names(name: str, field: FieldInfo) -> list[str]:
    """The environment names of a field, the preferred one first."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(c) for c in alias.choices]
    return [str(alias)] if alias else [name.upper()]


def kept_empty(model: type[BaseSettings]) -> set[str]:
    """Environment names whose empty value says something."""
    fields: frozenset[str] = getattr(model, "empty_counts", frozenset())
    return {e for n in fields for e in env_names(n, model.model_fields[n])}


def load(model: type[S], **given: Any) -> S:
    """Build settings, refusing placeholders, with errors that name the environment variable.

    Args:
        model: The settings model.
        given: Values by field name that beat every other source.

    Raises:
        SettingError: A value is not usable; it names the variable, what was found and what is expected.
    """
    try:
        settings = model(**{env_names(n, model.model_fields[n])[0]: v for n, v in given.items()})
    except ValidationError as e:
        first = e.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        names = next(
            (env_names(f, i) for f, i in model.model_fields.items() if field in (f, *env_names(f, i))), [field]
        )
        env = next((n for n in names if n in os.environ), names[0])
        raise SettingError(env, _shown(first.get("input")), str(first["msg"])) from e
    for name, field_info in model.model_fields.items():
        value = getattr(settings, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and any(text.lower().startswith(p) for p in PLACEHOLDERS):
            raise SettingError(env_names(name, field_info)[0], text[:12] + "…", "a real value, not a placeholder")
    return settings


def _shown(value: Any) -> str:
    return "***" if isinstance(value, SecretStr) else repr(value)[:60]


class UnknownNames(SettingError):
    """Environment names with our prefixes that no setting has."""

    def __init__(self, names: list[tuple[str, str | None]]) -> None:
        self.names = names
        parts = [f"{n} (did you mean {s}?)" if s else n for n, s in names]
        super().__init__(", ".join(parts), "", "a name of ours", "See: voicectl config explain")
        self.args = (f"no setting has the name {', '.join(parts)}. {self.remedy}",)


def unknown_names(models: Iterable[type[Settings]]) -> None:
    """Refuse names with our prefixes, in the environment or the dotenv file, that no setting has.

    Raises:
        UnknownNames: Each with the nearest name we know.
    """
    known = {"VOICE_ENV_FILE"} | {e for m in models for n, f in m.model_fields.items() for e in env_names(n, f)}
    seen = set(os.environ) | {k.upper() for k in _read_dotenv()}
    wrong = sorted(n for n in seen if n.startswith(OUR_PREFIXES) and n not in known)
    if wrong:
        raise UnknownNames([(n, next(iter(difflib.get_close_matches(n, known, 1)), None)) for n in wrong])


def explain(model: type[Settings], name: str | None = None) -> list[Explained]:
    """Every setting of a model with its value and the source it came from; secrets are masked."""
    settings = load(model)
    dotenv = _read_dotenv()
    state = read_state(_home())
    kept = kept_empty(model)
    rows: list[Explained] = []
    for field_name, field in model.model_fields.items():
        names = env_names(field_name, field)
        if name is not None and name.upper() not in names:
            continue
        source = "default"
        if any(n.lower() in state for n in names):
            source = str(state_path(_home()))
        if any(dotenv.get(n.lower()) or (n.lower() in dotenv and n in kept) for n in names):
            source = str(dotenv_path())
        if any(os.environ.get(n) or (n in os.environ and n in kept) for n in names):
            source = "environment"
        value = getattr(settings, field_name)
        text = "***" if isinstance(value, SecretStr) else "" if value is None else str(value)
        rows.append(Explained(names[0], text, source, field.description or ""))
    return rows
