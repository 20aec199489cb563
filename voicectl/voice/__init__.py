"""While a customer is on the line: the worker, the call, rooms, desks, engines, the control plane.

The only package that imports LiveKit. It starts no process (`voicectl.cli` does) and keeps nothing after the call
(`voicectl.memory` does).
"""
