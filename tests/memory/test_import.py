"""Facts from files: all bad rows are listed, nothing is taken unless asked, each line says where it came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from voicectl.memory import history, importing, profile
from voicectl.memory.errors import Refused
from voicectl.memory.importing import Bad, Plan
from voicectl.memory.profile import Block, Origin, Source
from voicectl.memory.store.engine import Store

pytestmark = pytest.mark.unit


@pytest.fixture
def plan(tmp_path: Path):
    def make(text: str | bytes, name: str = "crm.csv") -> Plan:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return importing.read_file(path)

    return make


def texts(store: Store, customer: str) -> list[str]:
    return [f"{x.block}/{x.text}" for x in profile.lines(store, customer)]


def test_a_csv_is_checked_without_changing_anything_and_then_imported(store: Store, plan) -> None:
    profile.put(store, "user:1", "name: Rahim", Origin(Source.TOOL))
    read = plan(
        'customer,line,block\n+880 1700-000001,"likes tea, black",\n'
        "user:1,name: Karim,profile\nuser:1,VIP,operator_notes\n"
    )

    checked = importing.check(store, read)

    assert (checked.added, checked.replaced, checked.unchanged, checked.customers) == (2, 1, 0, 2)
    assert texts(store, "user:1") == ["profile/name: Rahim"]
    assert importing.apply(store, read, checked).bad == []
    assert texts(store, "user:1") == ["operator_notes/VIP", "profile/name: Karim"]
    assert texts(store, "+8801700000001") == ["profile/likes tea, black"]


def test_each_line_is_a_version_that_names_file_and_line_and_can_be_undone(store: Store, plan) -> None:
    read = plan("customer,line\nuser:1,likes tea\n")
    importing.apply(store, read, importing.check(store, read))

    (version,) = history.history(store, "user:1")

    assert (version.source, version.because) == (Source.IMPORT, "crm.csv:2")
    assert history.blame(store, "user:1")[0].sentence == "crm.csv:2"
    assert history.undo(store, "user:1", version.id) == "removed: likes tea"


def test_the_same_file_again_changes_nothing(store: Store, plan) -> None:
    read = plan("customer,line\nuser:1,likes tea\nuser:1,name: Rahim\n")
    importing.apply(store, read, importing.check(store, read))

    again = importing.apply(store, read, importing.check(store, read))

    assert (again.added, again.replaced, again.unchanged) == (0, 0, 2)
    assert len(history.history(store, "user:1")) == 2


def test_json_lines_are_read_too(store: Store, plan) -> None:
    rows = [
        {"customer": "user:1", "line": "likes tea"},
        {"customer": "user:1", "line": "VIP", "block": "operator_notes"},
    ]

    read = plan("\n".join(json.dumps(r) for r in rows) + "\n\n", "crm.jsonl")

    assert [(r.number, r.line, r.block) for r in read.rows] == [
        (1, "likes tea", Block.PROFILE),
        (2, "VIP", Block.OPERATOR_NOTES),
    ]


def test_every_bad_row_is_listed_with_its_line_and_reason(store: Store, plan) -> None:
    for number in range(13):
        profile.put(store, "user:full", f"{number} " + "x" * 290, Origin(Source.TOOL))
    read = plan(
        "customer,line,block\n"
        "user:1,good,\n"
        ",no customer,\n"
        "user:1,,\n"
        "12345678901234567890,a number that is none,\n"
        "user:1,x,nowhere\n"
        f"user:1,{'y' * 301},\n"
        "user:1,too,many,columns\n"
        '"user:1","two\nlines",\n'
        f"user:full,{'z' * 200},\n"
    )

    outcome = importing.check(store, read)

    assert [b.number for b in outcome.bad] == [3, 4, 5, 6, 7, 8, 11]
    whys = {b.number: b.why for b in outcome.bad}
    assert whys[3] == "customer is missing"
    assert "phone number" in whys[5]
    assert "nowhere" in whys[6]
    assert "301 characters" in whys[7]
    assert whys[8] == "4 columns, the header has 3"
    assert "4000 fit" in whys[11]
    assert outcome.added == 2


def test_good_rows_are_imported_without_the_bad_ones(store: Store, plan) -> None:
    read = plan("customer,line\nuser:1,good\nuser:1,\n")

    importing.apply(store, read, importing.check(store, read))

    assert texts(store, "user:1") == ["profile/good"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ('{"customer": "user:1"', "not JSON"),
        ('{"customer": "user:1", "line": 7}', "line is not a text"),
        ('{"customer": "user:1", "line": "x", "age": "3"}', "unknown field 'age'"),
    ],
)
def test_a_bad_json_line_is_listed(plan, row: str, why: str) -> None:
    (bad,) = plan('{"customer": "user:1", "line": "x"}\n' + row, "a.jsonl").bad

    assert bad.number == 2
    assert why in bad.why


def test_csv_that_breaks_off_is_listed_where_it_does(plan) -> None:
    assert plan('customer,line\nuser:1,"open').bad == [Bad(2, "not CSV: unexpected end of data")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name,phone\nx,y\n", "begins with: customer,line"),
        (b"customer,line\nuser:1,caf\xe9\n", "byte 24 is not UTF-8"),
        ("customer,line\n", "no row"),
        ("", "no row"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_whole(plan, text: str | bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        plan(text)


def test_a_byte_order_mark_of_a_spreadsheet_is_no_part_of_the_header(plan) -> None:
    assert plan("\ufeffcustomer,line\r\nuser:1,x\r\n").rows[0].line == "x"
