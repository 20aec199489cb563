"""Which tests run in one process of several (`pytest -n`): those that share something dear; all others go anywhere.

xdist's own mark for that, `xdist_group`, has no effect under pytest 9.2: xdist 3.8 writes a test's group into its
`_nodeid`, which pytest no longer reads. So the group is told from the path. Groups with many tests begin first.
A file that is not named here is right all the same; it may only cost one more server.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

ONE, TWO = "a Letta server", "another Letta server"  # one alone would take as long as all the rest
GROUPS = {
    "tests/test_mutations.py": "a copy of the code",
    "tests/live/test_letta_mirror.py": ONE,
    "tests/live/test_forget_live.py": ONE,
    "tests/live/test_memory_step_letta.py": ONE,
    "tests/live/test_backend_contract.py": TWO,
    "tests/live/test_rebuilt.py": TWO,
}
BY_FILE = "tests/live/", "tests/voice/test_caller_live.py"  # a server, an installation, speech in real time


class Sharing(LoadScopeScheduling):
    """Tests of a group run in one process, one after the other."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return GROUPS.get(path) or (path if path.startswith(BY_FILE) else nodeid)
