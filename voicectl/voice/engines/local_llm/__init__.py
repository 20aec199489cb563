"""The small language model on this machine, as a livekit LLM: prompt, grammar, guard, adapter, and its server.

Everything here knows this one model's habits and nothing of memory, rooms or desks.
"""
