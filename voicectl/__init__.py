"""The voice agent that remembers its callers.

Three packages, imports point one way: `cli` (voicectl) -> `voice` (while a customer is on the line) -> `memory` (what
outlives a call). An outsider starts with `voicectl.voice.call` and `voicectl.memory`.
"""

__version__ = "0.1.0"
