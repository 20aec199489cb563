"""The store: schema, engine, leases, migrations. The truth of what was said and learnt; everything else is a view.

Not here: what the rows mean to a call (memory/calls.py, recorder.py) or to a profile (profile.py, recall.py).
"""

from voicectl.memory.store.engine import Store, open_store

__all__ = ["Store", "open_store"]
