"""Tests mean something: with a feature switched off in a copy of the code, its test is red."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.nursery import Nursery

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutation:
    feature: str
    path: str
    old: str
    new: str
    test: str


MUTATIONS = [
    Mutation(
        "journal when the store refuses",
        "voicectl/memory/recorder.py",
        "self._journal.append(new)",
        "pass",
        "tests/memory/test_recorder.py -k locked_store",
    ),
    Mutation(
        "turns are fenced",
        "voicectl/memory/turns.py",
        'calls.c.fence == bindparam("held"), ',
        "",
        "tests/memory/test_recorder.py -k fenced_out",
    ),
    Mutation(
        "a live lease refuses a claim",
        "voicectl/memory/store/leases.py",
        "where=or_(~held, self._expired(now)),",
        "where=leases.c.fence >= 0,",
        "tests/memory/test_leases.py -k live_lease_refuses",
    ),
    Mutation(
        "the grant is compared with its nonce and fence",
        "voicectl/memory/store/leases.py",
        "return (leases.c.name == name) & (leases.c.fence == fence) & (leases.c.nonce == nonce)",
        "return leases.c.name == name",
        "tests/memory/test_leases.py -k stale_grant",
    ),
    Mutation(
        "the name rule",
        "voicectl/memory/names.py",
        '    for found in _ANNOUNCED.finditer(_TITLE.sub("", text)):',
        "    for found in _ANNOUNCED.finditer(''):",
        "tests/memory/test_names_and_identity.py -k announced",
    ),
    Mutation(
        "only what the customer said is learnt",
        "voicectl/memory/learning/grounding.py",
        "        if missing - known or words == known:",
        "        if False:",
        "tests/memory/learning/test_grounding.py -k did_not_say",
    ),
    Mutation(
        "the last words of earlier calls are recalled",
        "voicectl/memory/recall.py",
        "for r in reversed(rows)]\n    return Recalled(",
        "for r in []]\n    return Recalled(",
        "tests/memory/test_recall.py -k calls_back",
    ),
    Mutation(
        "a newer fact replaces the older",
        "voicectl/memory/profile.py",
        "    subject = subject_of(line)\n",
        "    subject = None\n",
        "tests/memory/test_profile.py -k newer_fact",
    ),
    Mutation(
        "a room of their own for each customer",
        "voicectl/voice/web/tokens.py",
        'room = f"call-{secrets.token_hex(8)}"',
        'room = "call"',
        "tests/voice/web/test_tokens.py -k rooms_and_identities",
    ),
    Mutation(
        "busy is said",
        "voicectl/voice/web/app.py",
        "if lines(rows, agent_name).full:",
        "if False:",
        "tests/voice/web/test_tokens.py -k busy",
    ),
    Mutation(
        "a dead job's journal comes before the end of its call",
        "voicectl/voice/rooms/healing.py",
        "await asyncio.to_thread(replay_left_journals, self._store, self._journals)",
        "pass",
        "tests/voice/rooms/test_abandoned.py",
    ),
    Mutation(
        "an observer must be able to write",
        "voicectl/voice/rooms/evidence.py",
        "        self._write()\n",
        "",
        "tests/voice/rooms/test_evidence.py -k reads_succeed",
    ),
    Mutation(
        "a slow language model is bridged",
        "voicectl/voice/patience.py",
        "                if not begun and filler:\n",
        "                if False:\n",
        "tests/voice/test_patience.py -k bridged_once",
    ),
    Mutation(
        "a withheld number is nobody",
        "voicectl/voice/customer.py",
        'key if key.startswith("+") else anonymous()',
        "key",
        "tests/voice/test_customer.py -k withheld",
    ),
    Mutation(
        "unknown setting names are refused",
        "voicectl/memory/config.py",
        "    if wrong:\n",
        "    if False:\n",
        "tests/memory/test_config.py -k unknown_name",
    ),
    Mutation(
        "foreign databases are refused",
        "voicectl/memory/store/engine.py",
        "        if VERSION_TABLE not in names:\n",
        "        if False:\n",
        "tests/memory/test_store.py -k foreign_tables",
    ),
]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as running:
        yield running


@pytest.fixture(scope="module")
def copy(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our code and tests in a folder of their own. Unchanged, all tests that are looked at are green in it."""
    folder = tmp_path_factory.mktemp("mutations")
    for name in ("voicectl", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "static", "live"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    words = [m.test.partition(" -k ") for m in MUTATIONS]
    files = dict.fromkeys(file for file, _, _ in words)
    chosen = " or ".join(dict.fromkeys(key or Path(file).stem for file, _, key in words))
    code, said = nursery.run(folder, [*files, "-k", chosen], keep=True)
    assert code == 0, f"red without any change:\n{said[-3000:]}"
    return folder


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.feature)
def test_switching_a_feature_off_turns_its_test_red(mutation: Mutation, nursery: Nursery, copy: Path) -> None:
    target = copy / mutation.path
    before, dated = target.read_text(), target.stat()
    assert before.count(mutation.old) == 1, f"{mutation.path} has not exactly one {mutation.old!r}"
    target.write_text(before.replace(mutation.old, mutation.new))
    os.utime(target, (dated.st_atime, dated.st_mtime + 60))  # what was compiled of it is out of date
    try:
        code, said = nursery.run(copy, ["-x", *mutation.test.split()])
    finally:
        target.write_text(before)
        os.utime(target, (dated.st_atime, dated.st_mtime))

    assert code == 1, f"still green without it, or not run:\n{said[-2500:]}"
