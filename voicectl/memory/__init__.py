"""What outlives a call: customers, calls, turns, the profile and its history, leases. No LiveKit here.

This package is usable alone, with one SQLite file. Not here: anything about rooms, audio or prompts of a desk
(`voicectl.voice`), anything that starts a process (`voicectl.cli`).
"""
