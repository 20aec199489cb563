"""How the store gets into Letta and what people change there gets back: the parts of the syncer.

states (what a batch and a call can be, crash points) · transcript (rows to messages) · ledger (SQL on what we know of
Letta) · mirror (one customer's turns) · blocks (one customer's profile) · link (what operators are told).
Not here: who is synced when (syncer.py), HTTP (backends/letta.py).
"""
