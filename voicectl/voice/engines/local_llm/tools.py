"""What the small model is told about a tool, and how an author says more than a schema can.

`hint(tool, Hints(...))` stores the hints on the tool object itself (no registry), so they travel with it into any
agent; livekit copies them when it binds a method to its agent. A tool without hints works: its hints are made from the
schema. Other engines ignore hints.
Not here: the text of the prompt (prompt.py), what may be said or called in one turn (grammar.py, guard.py).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from livekit.agents.llm import FunctionTool, RawFunctionTool, Tool, ToolContext, Toolset
from livekit.agents.llm.tool_context import CONFIRM_DUPLICATE_PARAM
from livekit.agents.llm.utils import build_legacy_openai_schema

from voicectl.voice.engines.local_llm.cues import Cue

log = logging.getLogger(__name__)

_ATTRIBUTE = "_local_llm_hints"
_SPEC = "_local_llm_spec"
T = TypeVar("T")


@dataclass(frozen=True)
class Text:
    """Free words. `said`: they must be the caller's own; others are replaced by what the caller said."""

    said: bool = False


@dataclass(frozen=True)
class Name:
    """A person's name: empty unless the caller said it, so that the tool asks."""


@dataclass(frozen=True)
class Phone:
    """A phone number: one the caller said, or empty."""


@dataclass(frozen=True)
class Id:
    """An id such as O302: a letter prefix and digits.

    Known ones are those the dialogue and the facts about the caller name ("O302 wireless earbuds, O417 …"); without any
    the tool is left out of the turn, and the model asks.
    """

    prefix: str


@dataclass(frozen=True)
class Choice:
    """One of a few fixed words."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """A JSON value of another type, by its schema type: integer, number, boolean, or array of strings."""

    json_type: str


Kind = Text | Name | Phone | Id | Choice | Value


@dataclass(frozen=True)
class Example:
    """One moment of a made-up call. Use names and numbers that cannot occur; no real caller's words.

    Args:
        caller: What the caller says.
        reply: What is said back; after a call, what is said about its result. Empty: nothing more is said.
        call: The tool's arguments by name; None where nothing is called and `reply` is the answer (show these too:
            when *not* to call is learnt from them).
        result: What the tool returned, in one line.
    """

    caller: str
    reply: str = ""
    call: Mapping[str, object] | None = None
    result: str = ""


@dataclass(frozen=True)
class Hints:
    """What an author tells the small model about a tool. Rules are per tool and kind of argument, never per sentence.

    Args:
        when: When to call it, in one clause ("the caller asks you to remember something"). Empty: the first sentence
            of the tool's description.
        examples: Calls of this tool and, as important, sentences that look alike and must not call it.
        kinds: What an argument is, by name. Unnamed ones follow the schema.
        only_on: The tool is left out of a turn whose sentence shows none of these cues. Empty: always possible.
        never_on: The tool is left out of a turn whose sentence shows one of these cues.
        must_on: A sentence with one of these cues is answered by calling this tool.
        promises: Stems of words with which a reply would claim that this tool ran ("remember", "saved"). A reply that
            claims it without a call is thrown away and the tool is called instead.
        confirm: What is said after the tool ran, from the caller's sentence and the result, without asking the model;
            None or an empty text: the model says it.
        sole_source: Facts of this desk come only from results: numbers, states and weekdays that no result, fact or
            caller named are never spoken.
    """

    when: str = ""
    examples: tuple[Example, ...] = ()
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    only_on: frozenset[Cue] = frozenset()
    never_on: frozenset[Cue] = frozenset()
    must_on: frozenset[Cue] = frozenset()
    promises: tuple[str, ...] = ()
    confirm: Callable[[str, str], str] | None = None
    sole_source: bool = False


@dataclass(frozen=True, eq=False)
class ToolSpec:
    """A tool as prompt, grammar and guard see it. Arguments are positional and required; optional ones are left out."""

    name: str
    when: str
    args: Mapping[str, Kind]
    hints: Hints


_NONE = Hints()


def hint(tool: T, hints: Hints) -> T:
    """Attach hints to a tool and return the tool.

    Args:
        tool: A function tool, a function that will become one, or a toolset of one tool (such as EndCallTool).
        hints: What to attach; it replaces earlier hints.

    Raises:
        TypeError: A toolset holds more than one tool; attach to each of them.
    """
    if isinstance(tool, Toolset):
        inner = list(tool.tools)
        if len(inner) != 1:
            raise TypeError(
                f"toolset {tool.id} holds {len(inner)} tools, expected 1; attach hints to each of its tools"
            )
        hint(inner[0], hints)
        return tool
    setattr(tool, _ATTRIBUTE, hints)
    if (function := getattr(tool, "__wrapped__", None)) is not None:
        # livekit builds a new tool object from the function for every agent instance (FunctionTool.__get__) and copies
        # the function's attributes. A bound method takes none; such a tool is not bound again.
        with contextlib.suppress(AttributeError):
            setattr(function, _ATTRIBUTE, hints)
    return tool


def hinted(hints: Hints) -> Callable[[T], T]:
    """`hint` as a decorator, above or below `@function_tool`."""
    return lambda tool: hint(tool, hints)


def hints_of(tool: object) -> Hints:
    """The hints attached to a tool; empty ones where there are none."""
    found = getattr(tool, _ATTRIBUTE, None)
    return found if isinstance(found, Hints) else _NONE


def specs_of(tools: Iterable[Tool | Toolset]) -> tuple[ToolSpec, ...]:
    """The function tools among `tools` as specs, in order. Tools that need a nested object are left out and logged."""
    made = (_kept_spec(tool) for tool in ToolContext(list(tools)).function_tools.values())
    return tuple(spec for spec in made if spec is not None)


def _kept_spec(tool: FunctionTool[..., Any] | RawFunctionTool[..., Any]) -> ToolSpec | None:
    """The tool's spec, kept on the tool while its hints stay: reading a signature takes 1 ms, and every turn asks."""
    kept = getattr(tool, _SPEC, None)
    if kept is None or kept[0] is not hints_of(tool):
        hints = hints_of(tool)
        kept = (hints, _spec(tool, hints))
        setattr(tool, _SPEC, kept)
    spec: ToolSpec | None = kept[1]
    return spec


def _spec(tool: FunctionTool[..., Any] | RawFunctionTool[..., Any], hints: Hints) -> ToolSpec | None:
    if isinstance(tool, RawFunctionTool):
        schema: dict[str, Any] = tool.info.raw_schema
    else:
        schema = build_legacy_openai_schema(tool)["function"]
    parameters = schema.get("parameters") or {}
    properties = parameters.get("properties") or {}
    required = parameters.get("required") or []
    args: dict[str, Kind] = {}
    for name, described in properties.items():
        if name not in required or name == CONFIRM_DUPLICATE_PARAM:
            continue
        kind = hints.kinds.get(name) or _kind(described, parameters.get("$defs") or {})
        if kind is None:
            log.warning("tool left out: the small model cannot fill a nested argument", extra={"tool": tool.id})
            return None
        args[name] = kind
    return ToolSpec(tool.id, hints.when or _first_sentence(schema.get("description") or tool.id), args, hints)


def _kind(described: Mapping[str, Any], definitions: Mapping[str, Any]) -> Kind | None:
    """The kind of an argument by its JSON schema; None for nested objects."""
    if "$ref" in described:
        described = definitions.get(str(described["$ref"]).rsplit("/", 1)[-1], {})
    for variant in described.get("anyOf", ()):
        if variant.get("type") != "null":
            return _kind(variant, definitions)
    if "const" in described:
        return Choice((str(described["const"]),))
    if values := described.get("enum"):
        return Choice(tuple(str(v) for v in values)) if all(isinstance(v, str) for v in values) else None
    json_type = described.get("type", "string")
    if json_type == "string":
        return Text()
    if json_type in ("integer", "number", "boolean"):
        return Value(str(json_type))
    if json_type == "array" and (described.get("items") or {}).get("type", "string") == "string":
        return Value("array")
    return None


def _first_sentence(description: str) -> str:
    """One line of a description, short enough for a prompt that is read on every cold start."""
    line = " ".join(description.split())
    return line.partition(". ")[0].rstrip(".")[:120]
