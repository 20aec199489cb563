"""Bench of the small local model behind its adapter: does it remember, answer, and keep callers apart; how fast.

Run: `python bench/local_llm.py [--home VOICE_HOME] [--port 18811] [--cases FILE.jsonl] [--json]`. It starts the server
as a child process and stops it. The pairs below are frozen: they were written before the first run and occur in no
prompt or example. One pair = call 1 (the caller tells the fact), call 2 (the fact in the caller block, the caller
asks), and the same question from a caller of whom nothing but a name is known.
Not here: speech, rooms, the store; `voicectl call` and the live tests measure the whole.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from livekit.agents import function_tool
from livekit.agents.beta.tools import EndCallTool
from livekit.agents.llm import ChatContext, FunctionCall, FunctionCallOutput, FunctionToolCall, Tool, ToolContext
from livekit.agents.types import APIConnectOptions

from voicectl.memory.config import checkout
from voicectl.voice.engines.local_llm.adapter import LocalLLM
from voicectl.voice.engines.local_llm.examples_assistant import END_CALL, FORGET_FACT, INSTRUCTIONS, RECALL, REMEMBER
from voicectl.voice.engines.local_llm.text import squash
from voicectl.voice.engines.local_llm.tools import hint

NOBODY = "Nothing is known about the caller yet."
OPTIONS = APIConnectOptions(max_retry=0, timeout=60)


@dataclass(frozen=True)
class Pair:
    """A caller, a fact told in call 1, the question of call 2, and words (a|b) of which one must be heard."""

    name: str
    told: str
    asked: str
    heard: str


PAIRS = (
    Pair("Priya", "My favourite fruit is papaya.", "What is my favourite fruit?", "papaya"),
    Pair(
        "Tomas",
        "Please remember that my brother's birthday is on the 9th of June.",
        "When is my brother's birthday?",
        "june",
    ),
    Pair("Aiko", "I live in Aberdeen.", "Where do I live?", "aberdeen"),
    Pair("Nadia", "I'm allergic to peanuts.", "What am I allergic to?", "peanut"),
    Pair("Bruno", "My dog is called Biscuit.", "What is my dog called?", "biscuit"),
    Pair("Lena", "My favourite colour is turquoise.", "Do you know what my favourite colour is?", "turquoise"),
    Pair("Samir", "I work as a plumber.", "What is my job?", "plumb"),
    Pair("Greta", "I play the trumpet.", "Which instrument do I play?", "trumpet"),
    Pair("Kofi", "Can you note down that my gate code is 4 4 7 1?", "What is my gate code?", "4471|4 4 7 1"),
    Pair("Hana", "My daughter's name is Marisol.", "What is my daughter's name?", "marisol"),
    Pair("Pavel", "I drive a green van.", "What do I drive?", "van"),
    Pair("Ines", "My favourite film is Casablanca.", "Which film do I like best?", "casablanca"),
    Pair("Omar", "Don't forget that I take my tea with honey.", "How do I take my tea?", "honey"),
    Pair("Freya", "My dentist appointment is on Thursday.", "When is my dentist appointment?", "thursday"),
    Pair("Diego", "I'm learning Portuguese.", "Which language am I learning?", "portuguese"),
    Pair("Mei", "My favourite football team is Ajax.", "What's my favourite team?", "ajax"),
    Pair("Oleg", "My boat is named Seagull.", "what was the name of my boat", "seagull"),
    Pair("Salma", "I was born in Casablanca, and I collect old maps.", "What do I collect?", "map"),
    Pair("Erik", "so um my wife's favourite flower is the tulip", "Which flower does my wife like?", "tulip"),
    Pair("Chidi", "keep in mind that I'm a vegetarian", "Do I eat meat?", "vegetarian|don't eat|do not eat"),
)


@function_tool
async def remember(fact: str) -> str:
    """Keep a fact about the caller."""
    return f"saved: {fact}"


@function_tool
async def forget_fact(fact: str) -> str:
    """Forget a fact about the caller."""
    return f'forgotten: "{fact}"'


@function_tool
async def recall(query: str) -> str:
    """Search what was said in earlier calls."""
    return f"nothing found about {query}"


def assistant_tools() -> list[Tool]:
    """The assistant desk's tools with their hints."""
    end = hint(EndCallTool(end_instructions=None), END_CALL)
    return ToolContext([hint(remember, REMEMBER), hint(forget_fact, FORGET_FACT), hint(recall, RECALL), end]).flatten()


def context(facts: str, greeting: str) -> ChatContext:
    """A call that has just begun."""
    ctx = ChatContext.empty()
    ctx.add_message(role="system", content=INSTRUCTIONS)
    if facts:
        ctx.add_message(role="system", content=facts)
    ctx.add_message(role="assistant", content=greeting)
    return ctx


@dataclass
class Answer:
    """One pass: what was said or called, and its times in seconds."""

    said: str = ""
    calls: list[FunctionToolCall] = field(default_factory=list)
    first_token_s: float | None = None
    first_sentence_s: float | None = None
    total_s: float = 0.0
    read: int = 0

    def tool(self) -> tuple[str | None, dict[str, Any]]:
        """Name and arguments of the call; None where speech was chosen."""
        return (self.calls[0].name, json.loads(self.calls[0].arguments)) if self.calls else (None, {})


async def ask(model: LocalLLM, ctx: ChatContext, tools: list[Tool]) -> Answer:
    """One pass over the context."""
    began = time.perf_counter()
    answer = Answer()
    async with model.chat(chat_ctx=ctx, tools=tools, conn_options=OPTIONS) as stream:
        async for chunk in stream:
            now = time.perf_counter() - began
            if chunk.usage:
                answer.read = chunk.usage.prompt_tokens - chunk.usage.prompt_cached_tokens
            if chunk.delta:
                answer.first_token_s = answer.first_token_s if answer.first_token_s is not None else now
                answer.calls += chunk.delta.tool_calls
                if chunk.delta.content:
                    answer.first_sentence_s = answer.first_sentence_s if answer.first_sentence_s is not None else now
                    answer.said += chunk.delta.content
    answer.total_s = time.perf_counter() - began
    return answer


async def turn(
    model: LocalLLM, ctx: ChatContext, tools: list[Tool], sentence: str, result: str = ""
) -> tuple[Answer, Answer | None]:
    """A caller's sentence and what follows: the first pass, and the reply to the tool's result if one was called."""
    ctx.add_message(role="user", content=sentence)
    first = await ask(model, ctx, tools)
    name, arguments = first.tool()
    if name is None or name == "end_call":
        ctx.add_message(role="assistant", content=first.said)
        return first, None
    call = first.calls[0]
    output = result or ("saved" if name == "remember" else "nothing found")
    ctx.items.append(FunctionCall(call_id=call.call_id, name=name, arguments=json.dumps(arguments)))
    ctx.items.append(FunctionCallOutput(call_id=call.call_id, name=name, output=output, is_error=False))
    reply = await ask(model, ctx, tools)
    ctx.add_message(role="assistant", content=reply.said)
    return first, reply


def holds(text: str, words: str) -> bool:
    """Whether one of the words (a|b) is in a text, spaces and case aside."""
    return any(squash(w) in squash(text) for w in words.split("|"))


async def run_pairs(model: LocalLLM, tools: list[Tool], figures: dict[str, Any]) -> None:
    """All pairs; fills in counts, times and what went wrong."""
    remembered = answered = leaked = denied = 0
    wrong: list[str] = []
    speech: list[float] = []
    tool_turns: list[float] = []
    for pair in PAIRS:
        first_call = context(NOBODY, "Hello, nice to meet you. How can I help you?")
        first, reply = await turn(model, first_call, tools, pair.told)
        name, arguments = first.tool()
        fact = str(arguments.get("fact", ""))
        kept = name == "remember" and holds(fact, pair.heard) and reply is not None and bool(reply.said)
        remembered += kept
        if not kept:
            wrong.append(f"told {pair.told!r} -> {name} {arguments} {first.said!r}")
        if reply is not None and reply.first_sentence_s is not None:
            tool_turns.append(first.total_s + reply.first_sentence_s)
        lines = f"About the caller:\n- name: {pair.name}\n- {fact or pair.told}"
        first, reply = await turn(model, context(lines, f"Hello {pair.name}, good to hear you."), tools, pair.asked)
        said = first.said + (reply.said if reply else "")
        answered += holds(said, pair.heard)
        if not holds(said, pair.heard):
            wrong.append(f"asked {pair.asked!r} knowing {fact!r} -> {first.tool()} {said!r}")
        if first.first_sentence_s is not None and reply is None:
            speech.append(first.first_sentence_s)
        first, reply = await turn(
            model, context(NOBODY, "Hello, nice to meet you. How can I help you?"), tools, pair.asked
        )
        said = first.said + (reply.said if reply else "")
        leaked += holds(said, pair.heard)
        denies = any(w in said.lower() for w in ("don't know", "nothing", "don't have", "can't find"))
        denied += denies
        if holds(said, pair.heard) or not denies:
            wrong.append(f"asked {pair.asked!r} knowing nothing -> {first.tool()} {said!r}")
    figures |= {
        "pairs": len(PAIRS),
        "remembered": remembered,
        "answered": answered,
        "leaked": leaked,
        "said_unknown": denied,
        "speech_first_sentence_s": round(statistics.median(speech), 2) if speech else None,
        "tool_turn_first_sentence_s": round(statistics.median(tool_turns), 2) if tool_turns else None,
        "wrong": wrong,
    }


async def run_cases(model: LocalLLM, tools: list[Tool], cases: list[dict[str, Any]], figures: dict[str, Any]) -> None:
    """Tool choice on cases (desk, history, text, expect[{tool, args}])."""
    right, count = 0, 0
    wrong: list[str] = []
    first_token: list[float] = []
    facts = "name: Rahim Chowdhury\ncity: Dhaka\nlanguage: English\nHe is vegetarian.\nHe has a daughter named Mina."
    for case in cases:
        if case["desk"] != "assistant":
            continue
        ctx = context(facts, "Hello Rahim, good to hear you. How can I help you?")
        for item in case["history"]:
            ctx.add_message(role=item["role"], content=item["content"])
        ctx.add_message(role="user", content=case["text"])
        answer = await ask(model, ctx, tools)
        name, arguments = answer.tool()
        good = any(
            e["tool"] == name
            and all(holds(str(arguments.get(k, "")), w) for k, ws in e.get("args", {}).items() for w in ws)
            for e in case["expect"]
        )
        count, right = count + 1, right + good
        if answer.first_token_s and answer.read:
            first_token.append(answer.first_token_s)
        if not good:
            wrong.append(f"{case['text']!r} -> {name} {arguments} {answer.said!r}")
    figures |= {
        "cases": count,
        "cases_right": right,
        "cases_wrong": wrong,
        "first_token_s": round(statistics.median(first_token), 2) if first_token else None,
    }


@contextmanager
def served(home: Path, port: int, key: str) -> Iterator[subprocess.Popen[bytes]]:
    """The model's server as a child process, stopped at the end."""
    code = (
        "import sys; from pathlib import Path; from pydantic import SecretStr; "
        "from voicectl.memory.config import load; from voicectl.voice.config import VoiceSettings; "
        "from voicectl.voice.engines.local_llm.server import serve; "
        "serve(load(VoiceSettings, home=Path(sys.argv[1]), local_llm_url=sys.argv[2], "
        "local_llm_key=SecretStr(sys.argv[3])))"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(home), f"http://127.0.0.1:{port}", key])
    try:
        yield child
    finally:
        child.terminate()
        child.wait(timeout=20)


async def until_ready(child: subprocess.Popen[bytes], port: int, timeout_s: float = 60.0) -> None:
    """Wait until the server answers that it is healthy."""
    deadline = time.monotonic() + timeout_s
    async with aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(f"http://127.0.0.1:{port}/health") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass  # not listening yet
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the local model's server did not come up within {timeout_s} s (exit {child.poll()})")
            await asyncio.sleep(0.1)


async def measure(home: Path, port: int, cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Start the server, run everything, return the figures."""
    key = secrets.token_hex(8)
    figures: dict[str, Any] = {}
    with served(home, port, key) as child:
        began = time.perf_counter()
        await until_ready(child, port)
        figures["server_start_s"] = round(time.perf_counter() - began, 2)
        model = LocalLLM(f"http://127.0.0.1:{port}", key)
        tools = assistant_tools()
        try:
            figures["warm_up_cold"] = asdict(await model.warm_up(INSTRUCTIONS, tools))
            figures["warm_up_again"] = asdict(await model.warm_up(INSTRUCTIONS, tools))
            await run_pairs(model, tools, figures)
            if cases:
                await run_cases(model, tools, cases, figures)
        finally:
            await model.aclose()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, default=checkout() / ".voice")
    parser.add_argument("--port", type=int, default=18811)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    cases = [json.loads(line) for line in given.cases.read_text().splitlines()] if given.cases else []
    figures = asyncio.run(measure(given.home, given.port, cases))
    if given.json:
        print(json.dumps({"schema_version": 1, **figures}, indent=1))
        return
    for name, value in figures.items():
        print(f"{name}: {value}" if not isinstance(value, list) else "\n  ".join([f"{name}:", *value]))


if __name__ == "__main__":
    main()
