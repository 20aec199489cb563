"""The bytes that deleting leaves in the files of our own Letta's PostgreSQL: old rows, statistics, write-ahead log.

PostgreSQL only marks deleted rows, and Letta only hides a deleted conversation and what was said in it, for which its
API has no erasure (letta.md 10). Rewriting the tables and ending the log takes seconds, during which Letta waits and
calls do not. Not here: deleting through Letta's API (memory/backends/letta.py).
"""

from __future__ import annotations

from voicectl.cli.system.letta_processes import LettaServer

# Each statement by itself: none of them may run inside a transaction.
STATEMENTS = (
    "delete from messages where is_deleted and conversation_id in (select id from conversations where is_deleted)",
    "delete from conversations where is_deleted",  # what a run or a message refers to it by becomes null
    "vacuum (full, analyze)",
    "vacuum full pg_statistic",  # samples of the old rows, in the versions that the analysis replaced
    "alter system set wal_recycle = off",  # else a file of the log is kept for its next use, with all that is in it
    "select pg_reload_conf()",
    "select pg_switch_wal()",
    "checkpoint",
    "select pg_switch_wal()",
    "checkpoint",
)


def scrub(server: LettaServer) -> None:
    """Rewrite everything and drop the old log.

    Raises:
        Failed: PostgreSQL does not run, or refused.
    """
    for statement in STATEMENTS:
        server.sql(statement)
