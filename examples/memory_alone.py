"""Memory without LiveKit, Letta or a server: one SQLite file, for any program that talks with people.

    uv run python examples/memory_alone.py

The second conversation begins where the first one ended.
"""

import sys

from voicectl.memory import Memory

with Memory(sys.argv[1] if len(sys.argv) > 1 else "memory.db") as memory:
    with memory.call("user:ada") as call:
        call.said("user", "Hello, my name is Ada. I keep bees.")
        call.said("assistant", "Good to know, Ada.")
        call.remember("keeps bees")

    print(memory.known("user:ada").text)  # for the prompt of the next conversation
    print(memory.search("user:ada", "what did I say about bees?")[0].said)
