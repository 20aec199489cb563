"""Full text over what was said: SQLite's FTS5, PostgreSQL's tsvector; kept level by triggers in the same transaction.

A row of the index also holds whose it is as a word, so that asking for one customer's words touches no more of the
index than that customer's part, however common the words are.
"""

import sqlite3

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Only 20,000 characters of a turn are indexed: PostgreSQL refuses a tsvector of 1 MB, and with it the turn.
# Marks (Mn, Mc) are parts of words: without them Bengali vowels would cut a word in pieces. No column sizes: nothing is
# ranked by them. `call` and `seq` lead back to the turn; rows have ids of their own, because VACUUM renumbers `turns`.
SQLITE = (
    "CREATE VIRTUAL TABLE turn_index USING fts5(whose, call, said, seq UNINDEXED, columnsize=0, "
    "tokenize=\"unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'\")",
    "INSERT INTO turn_index (whose, call, said, seq) "
    "SELECT 'k' || lower(hex(calls.customer)), turns.call_id, substr(turns.text, 1, 20000), turns.seq "
    "FROM turns JOIN calls ON calls.id = turns.call_id WHERE turns.role IN ('user', 'assistant') "
    "ORDER BY turns.at_ms, turns.call_id, turns.seq",
    "CREATE TRIGGER turn_index_said AFTER INSERT ON turns WHEN new.role IN ('user', 'assistant') BEGIN "
    "INSERT INTO turn_index (whose, call, said, seq) "
    "SELECT 'k' || lower(hex(customer)), new.call_id, substr(new.text, 1, 20000), new.seq "
    "FROM calls WHERE id = new.call_id; END",
    # Turns go only with their call; by the call's id they are found at once.
    "CREATE TRIGGER turn_index_gone AFTER DELETE ON calls BEGIN "
    "DELETE FROM turn_index WHERE turn_index MATCH 'call:\"' || replace(old.id, '\"', '') || '\"' "
    "AND call = old.id; END",
)
SECURE = "INSERT INTO turn_index (turn_index, rank) VALUES ('secure-delete', 1)"

# The parser would take `and/or` for a path and `a@b.c` for an address, one word each: what is no letter becomes a
# space, joiners (200c, 200d) too, which are no letters to SQLite. Without fastupdate, whose list of new rows each
# search would read and somebody's turn would have to clear up.
NO_LETTERS = "!\"#$&''()*+,-./:;<=>?@[\\]^_`{|}~…‘’“”–—।¿¡«»、。\u200c\u200d"
POSTGRESQL = (
    "ALTER TABLE turns ADD COLUMN words tsvector",
    f"""
CREATE FUNCTION turn_words(customer text, said text) RETURNS tsvector LANGUAGE sql STABLE AS $$
SELECT array_to_tsvector(ARRAY['k' || encode(convert_to(customer, 'UTF8'), 'hex')]) || strip(to_tsvector(
    'pg_catalog.simple', translate(left(said, 20000), '{NO_LETTERS}', repeat(' ', {len(NO_LETTERS) - 1}))
))
$$""",
    """
CREATE FUNCTION turn_words_said() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.role IN ('user', 'assistant') THEN
        NEW.words := (SELECT turn_words(calls.customer, NEW.text) FROM calls WHERE calls.id = NEW.call_id);
    END IF;
    RETURN NEW;
END
$$""",
    "UPDATE turns SET words = turn_words(calls.customer, turns.text) FROM calls "
    "WHERE calls.id = turns.call_id AND turns.role IN ('user', 'assistant')",
    "CREATE INDEX ix_turns_words ON turns USING gin (words) WITH (fastupdate = off)",
    "CREATE TRIGGER turn_words_said BEFORE INSERT OR UPDATE OF text ON turns "
    "FOR EACH ROW EXECUTE FUNCTION turn_words_said()",
)


def upgrade() -> None:
    connection: sa.Connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        # From 3.42 on the index itself drops the words of deleted rows; before, it is rebuilt (memory/traces.py).
        secure = (SECURE,) if sqlite3.sqlite_version_info >= (3, 42) else ()
        statements = (SQLITE[0], *secure, *SQLITE[1:])
    else:
        statements = POSTGRESQL
    for statement in statements:
        connection.exec_driver_sql(statement)
