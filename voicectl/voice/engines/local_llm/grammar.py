"""The grammar of one turn: what the model may write now, as GBNF.

It is built from the tools, the cues of the sentence and the ids that are possible in this call, and is never part of
the prompt, so the prompt's cache survives. Every answer begins with a decision: `@none()` and then speech, or
`@tool("argument")`.
Not here: the prompt (prompt.py), sending it (adapter.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from voicectl.voice.engines.local_llm.cues import Cue, Turn, as_fact, as_told, cues, says_goodbye
from voicectl.voice.engines.local_llm.guard import grounded
from voicectl.voice.engines.local_llm.text import content_words, norm, squash, stem, stems
from voicectl.voice.engines.local_llm.tools import Choice, Id, Kind, Name, Phone, Text, ToolSpec, Value

NONE = "@none()"
# A capital first keeps the model out of code; the excluded characters keep markup from being read aloud.
SPEECH = r'"@none()\n" [A-Z] [^"\\\x00-\x1f{}<>*#_`|@\[\]]{1,240}'
STRING = r'"\"" [^"\\\x00-\x1f{}@|]{0,120} "\""'
LONGEST_FACT_WORDS = 25  # a longer sentence is a story; the model picks what to keep
SPEECH_ONLY = f"root ::= {SPEECH}\n"
_NUMBER = {"integer": '"-"? [0-9]{1,9}', "number": '"-"? [0-9]{1,9} ("." [0-9]{1,4})?', "boolean": '"true" | "false"'}


@dataclass(frozen=True)
class Plan:
    """What may happen in a turn. `call` is set where code decided and no model is asked."""

    grammar: str = SPEECH_ONLY
    call: tuple[str, dict[str, object]] | None = None
    tools: tuple[ToolSpec, ...] = ()
    cues: frozenset[Cue] = frozenset()


def plan(turn: Turn, tools: Iterable[ToolSpec], choice: str = "auto") -> Plan:
    """What may happen in this turn.

    Args:
        turn: What the turn is decided on.
        tools: The agent's tools.
        choice: auto; none: speak; required: call something; any other word: call that tool.
    """
    seen = cues(turn)
    if turn.result is not None or choice == "none":
        return Plan(cues=seen)  # a reply to a result never calls again, so no chain starts by accident
    specs = tuple(tools)
    if choice == "auto" and says_goodbye(turn.sentence):
        closing = next((t for t in specs if Cue.CLOSING in t.hints.only_on and not t.args), None)
        if closing is not None:
            return Plan(call=(closing.name, {}), cues=seen)
    named = choice not in ("auto", "required")
    open_now = {
        t: rule
        for t in specs
        if (t.name == choice if named else _open(t, seen)) and (rule := _call_rule(t, turn)) is not None
    }
    must = {
        t: r for t, r in open_now.items() if t.hints.must_on & seen or (_names_id(t, turn) and Cue.NEGATION not in seen)
    }
    if must:
        open_now = must
        if (call := _by_code(next(iter(must)), turn, seen)) is not None and len(must) == 1:
            return Plan(call=call, cues=seen)
    if not open_now:
        return Plan(cues=seen)
    speaks = not must and choice == "auto"
    return Plan(grammar=_gbnf(open_now.values(), speaks=speaks), tools=tuple(open_now), cues=seen)


def _by_code(tool: ToolSpec, turn: Turn, seen: frozenset[Cue]) -> tuple[str, dict[str, object]] | None:
    """A call that needs no model: the tool is due and takes nothing but what the caller just told."""
    if Cue.TELLS not in seen or [k for k in tool.args.values() if not (isinstance(k, Text) and k.said)]:
        return None
    fact = as_fact(as_told(turn.sentence))
    if len(tool.args) != 1 or not content_words(fact) or len(fact.split()) > LONGEST_FACT_WORDS:
        return None
    return tool.name, dict.fromkeys(tool.args, fact)


def only(tool: ToolSpec, turn: Turn) -> Plan:
    """A plan that leaves nothing but a call of this tool; speech where it cannot be called now."""
    rule = _call_rule(tool, turn)
    return Plan() if rule is None else Plan(grammar=_gbnf([rule], speaks=False), tools=(tool,), cues=cues(turn))


def _gbnf(calls: Iterable[str], *, speaks: bool) -> str:
    return (
        f"root ::= tool{' | speech' if speaks else ''}\n"
        f"tool ::= {' | '.join(calls)}\n"
        f"speech ::= {SPEECH}\n"
        f"str ::= {STRING}\n"
        'strs ::= "[" (str (", " str){0,5})? "]"\n'
    )


def _open(tool: ToolSpec, seen: frozenset[Cue]) -> bool:
    hints = tool.hints
    return not hints.never_on & seen and (not hints.only_on or bool(hints.only_on & seen))


def _names_id(tool: ToolSpec, turn: Turn) -> bool:
    """Whether the sentence spells an id that this tool takes: then plain speech would be an invention."""
    return any(isinstance(k, Id) and ids_in(turn.sentence, k.prefix) for k in tool.args.values())


def _call_rule(tool: ToolSpec, turn: Turn) -> str | None:
    """The tool's alternative in the grammar; None when an argument has no possible value now."""
    parts = []
    for kind in tool.args.values():
        rule = _arg_rule(kind, turn)
        if rule is None:
            return None
        parts.append(rule)
    return f'"@{tool.name}(" ' + ' ", " '.join(parts) + (' ")"' if parts else '")"')


def _arg_rule(kind: Kind, turn: Turn) -> str | None:
    if isinstance(kind, Id):
        found = possible_ids(kind.prefix, turn)
        return _alternatives(found) if found else None
    if isinstance(kind, Phone):
        return _alternatives([*phones_in(turn.caller), ""])
    if isinstance(kind, Choice):
        return _alternatives(kind.values)
    if isinstance(kind, Value):
        return "strs" if kind.json_type == "array" else f"({_NUMBER[kind.json_type]})"
    return "str"


def _alternatives(values: Iterable[str]) -> str:
    return "(" + " | ".join(_literal(json.dumps(v, ensure_ascii=False)) for v in values) + ")"


def _literal(text: str) -> str:
    r"""Text as a GBNF literal; only `\` and `"` need escaping after JSON took the control characters."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def ids_in(text: str, prefix: str) -> list[str]:
    """The ids with this prefix in a text, each once, in order."""
    return list(dict.fromkeys(re.findall(rf"\b{re.escape(prefix.upper())}\d{{1,6}}\b", text.upper())))


def phones_in(text: str) -> list[str]:
    """The runs of at least 6 digits in a text, separators dropped."""
    runs = (re.sub(r"\D", "", run) for run in re.findall(r"\d[\d\- ]{4,}\d", text))
    return list(dict.fromkeys(run for run in runs if len(run) >= 6))


def possible_ids(prefix: str, turn: Turn) -> list[str]:
    """The ids that can be meant now, nearest first: spelled now, named by product word now, seen in the call.

    Where none of these is, the customer's only one; with several nothing, so that the model asks.
    """
    if spelled := ids_in(turn.sentence, prefix):
        return spelled
    known = _known_ids(prefix, turn.facts)
    if named := [i for i, words in known.items() if _word_of(words, turn.sentence)]:
        return named
    seen = ids_in(turn.dialogue, prefix)
    seen += [i for i, words in known.items() if i not in seen and _word_of(words, turn.dialogue)]
    return seen or (list(known) if len(known) == 1 else [])


def _known_ids(prefix: str, facts: str) -> dict[str, str]:
    """`O302 wireless earbuds, O417 rice cooker` → id to words."""
    pairs = re.findall(rf"\b({re.escape(prefix.upper())}\d{{1,6}})\b[ :]*([^,.;\n]*)", facts)
    return dict(pairs)


def _word_of(words: str, text: str) -> bool:
    lowered = text.lower()
    return any(w.rstrip("s") in lowered for w in words.lower().split()[-2:] if len(w) > 2)


def parse_call(written: str, tools: Iterable[ToolSpec]) -> tuple[str, dict[str, object]] | None:
    """A call as the model wrote it, as name and arguments by name; None when it is none or cut off."""
    match = re.match(r"@?(\w+)\((.*)\)\s*$", written.strip(), re.DOTALL)
    if match is None:
        return None
    spec = next((t for t in tools if t.name == match[1]), None)
    try:
        values = json.loads(f"[{match[2]}]")
    except ValueError:
        return None
    if spec is None or len(values) != len(spec.args):
        return None
    return spec.name, dict(zip(spec.args, values, strict=True))


def repaired(arguments: Mapping[str, object], tool: ToolSpec, turn: Turn) -> dict[str, object] | None:
    """Arguments with what the caller did not say taken out: names and phones emptied, free words replaced by theirs.

    None where an argument that must be the caller's words has none: the tool must not be called.
    """
    fixed = dict(arguments)
    for name, kind in tool.args.items():
        value = fixed.get(name)
        if not isinstance(value, str):
            continue
        if isinstance(kind, Phone | Name):
            said = squash(value) in squash(turn.caller) and value.lower() not in ("i", "me", "my")
            fixed[name] = value if said else ""
        elif isinstance(kind, Text) and kind.said:
            fixed[name] = told = _said(norm(value), turn)
            if not told:
                return None
        elif isinstance(kind, Id | Text):
            fixed[name] = norm(value)
    return fixed


def _said(value: str, turn: Turn) -> str:
    """What the model wrote, unless it added words of its own or left some of the caller's out.

    Empty where neither the caller nor, grounded, the model said anything: such a call must not be made.
    """
    told = as_fact(as_told(turn.sentence))
    whole = stems(value) >= {stem(w) for w in content_words(told)}
    fits = bool(value) and grounded(value, turn.caller)
    if fits and (whole or len(told.split()) > LONGEST_FACT_WORDS):
        return value
    return told if len(content_words(told)) > 1 else value if fits else ""


def written(name: str, arguments: Mapping[str, object]) -> str:
    """A call in the model's own notation."""
    return f"@{name}(" + ", ".join(json.dumps(v, ensure_ascii=False) for v in arguments.values()) + ")"
