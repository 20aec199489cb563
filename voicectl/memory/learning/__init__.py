"""The memory step: what is learnt of a call after it, once, by a model that is not trusted.

    step.learn(store, call_id, strategy)        one call, now: for tests and evaluations
    Learner(store, leases, settings, ...).run() all calls that are due, in the syncer's process

Read in this order: states, due, quoted, grounding, applying, step, runner. Not here: what a line is (memory/lines.py),
what the model remembers during a call (voice/memory_tools.py).
"""
