"""Never silence: how soon a customer hears words when the language model refuses, is silent, or stalls.

    python bench/failing_model.py --turns 10

Spoken calls through a real LiveKit server with the local ear and voice and a scripted model. Printed per behaviour:
seconds from the end of the customer's speech to the first audible frame, and whether the next turn was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.installation import CACHE, Installation  # noqa: E402
from tests.support.llm_stub import LLMStub, Reply, by_keyword  # noqa: E402
from voicectl.voice.caller import Caller  # noqa: E402
from voicectl.voice.speech import Ear, Voice  # noqa: E402

BEHAVIOURS = ("refuse", "no first byte", "stall")
LIMIT_S = 3.0


async def measure(installation: Installation, stub: LLMStub, behaviour: str, turns: int) -> dict[str, object]:
    """One call with a failing turn and a good one after it, `turns` times."""
    broken = Reply("one two three four five six seven", behaviour=behaviour)
    stub.script = by_keyword({"weather": broken, "thank": Reply("You are very welcome.")})
    ear, voice = Ear(CACHE / "home"), Voice(CACHE / "home", "af_heart")
    waited, answered = [], 0
    url, token = installation.token(f"user:bench-{behaviour.replace(' ', '-')}")
    async with Caller(url, token, voice=voice, ear=ear) as caller:
        await caller.hear()
        for _ in range(turns):
            await caller.say("How is the weather?")
            waited.append((await caller.listen(start_s=12, end_silence_s=2.5)).first_audible_s)
            await caller.say("Thank you.")
            text, _heard = await caller.hear()
            answered += "welcome" in text.lower()
    return {
        "first words after s": {"median": round(statistics.median(waited), 2), "max": round(max(waited), 2)},
        f"within {LIMIT_S:g} s": f"{sum(w <= LIMIT_S for w in waited)}/{turns}",
        "next turn answered": f"{answered}/{turns}",
    }


def main() -> int:
    """Run it; 1 when words were late or the next turn failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=10, help="failing turns per behaviour")
    turns = parser.parse_args().turns
    with (
        tempfile.TemporaryDirectory() as folder,
        LLMStub(by_keyword({})) as stub,
        Installation(Path(folder) / "home", stub.url) as installation,
    ):
        figures = {b: asyncio.run(measure(installation, stub, b, turns)) for b in BEHAVIOURS}
    print(json.dumps(figures, indent=2))
    whole = f"{turns}/{turns}"
    return 0 if all(f[f"within {LIMIT_S:g} s"] == f["next turn answered"] == whole for f in figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
