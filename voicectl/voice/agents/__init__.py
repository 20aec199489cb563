"""Desks: what a customer chooses to talk to. One agent, or a team with hand-offs; declared once in desks.py."""
