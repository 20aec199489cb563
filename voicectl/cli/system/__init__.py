"""What an installation is made of: its folder, its processes, what it installs, and how all that is checked.

Everything here is driven by one table of processes (processes.py). No speech, no calls: those are voice's.
"""
