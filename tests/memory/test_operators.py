"""Where each line came from, whose word stands, and how a person takes one back, edits and searches."""

from __future__ import annotations

import importlib.util
import random

import pytest

from voicectl.memory import admin, calls, edit, history, profile
from voicectl.memory.errors import CustomerUnknown, OperationUnknown, Refused
from voicectl.memory.profile import Block, Origin, Source
from voicectl.memory.recorder import Role, Turn, write_turn
from voicectl.memory.store.engine import MIGRATIONS, Store
from voicectl.memory.store.schema import profile_ops

pytestmark = pytest.mark.unit

WHO = "user:1"
TOOL = Origin(Source.TOOL)
OPERATOR = Origin(Source.OPERATOR)
PEOPLE = [Source.OPERATOR, Source.ADE, Source.IMPORT]
CALL = [Source.TOOL, Source.RULE, Source.PAGE]
STEP = [Source.MEMORY_STEP]


def texts(store: Store, block: Block = Block.PROFILE) -> list[str]:
    return [line.text for line in profile.lines(store, WHO) if line.block == block]


def call_of(store: Store, room: str = "r", said: str = "") -> calls.Call:
    call = calls.open_call(store, customer=WHO, room=room, desk="assistant", fence=1)
    if said:
        with store.write() as connection:
            write_turn(connection, call, Turn("item_1", Role.USER, said, 1))
    return call


def pairs(first: list[Source], second: list[Source]) -> list[tuple[Source, Source]]:
    return [(a, b) for a in first for b in second]


STRONGER_FIRST = pairs(PEOPLE, CALL) + pairs(PEOPLE, STEP) + pairs(CALL, STEP)
SAME_CLASS = pairs(PEOPLE, PEOPLE) + pairs(CALL, CALL) + pairs(STEP, STEP)


def of(first: Source, second: Source) -> str:
    """A customer for each pair: a database for each would take minutes."""
    return f"user:{first}-{second}"


def test_the_weaker_word_on_the_same_line_loses_and_stays_in_the_log(store: Store) -> None:
    for first, second in STRONGER_FIRST:
        who = of(first, second)
        stands = profile.put(store, who, "favourite colour is teal", Origin(first))

        assert profile.put(store, who, "favourite colour is red", Origin(second)) == stands, who

        assert [x.text for x in profile.lines(store, who)] == ["favourite colour is teal"], who
        loser = history.history(store, who)[-1]
        assert (loser.line, loser.source, loser.overruled_by) == ("favourite colour is red", second, stands)


def test_the_stronger_word_wins_and_of_equals_the_later_one(store: Store) -> None:
    for first, second in [*((b, a) for a, b in STRONGER_FIRST), *SAME_CLASS]:
        who = of(first, second)
        profile.put(store, who, "favourite colour is teal", Origin(first))

        profile.put(store, who, "favourite colour is red", Origin(second))

        assert [x.text for x in profile.lines(store, who)] == ["favourite colour is red"], who
        assert [v.overruled_by for v in history.history(store, who)] == [None, None], who


def test_the_weaker_cannot_take_a_line_away(store: Store) -> None:
    for first, second in pairs(PEOPLE, [Source.TOOL, Source.RULE]) + pairs(PEOPLE + CALL, STEP):
        who = of(first, second)
        op_id = profile.put(store, who, "likes teal", Origin(first))

        with pytest.raises(Refused, match="stands above"):
            profile.remove(store, who, op_id, Origin(second))

        assert [x.text for x in profile.lines(store, who)] == ["likes teal"], who
        assert history.history(store, who)[-1].overruled_by == op_id


def test_who_may_take_a_line_away_of_their_own_class_or_below(store: Store) -> None:
    for first, second in [*((b, a) for a, b in STRONGER_FIRST), *SAME_CLASS]:
        who = of(first, second)
        op_id = profile.put(store, who, "likes teal", Origin(first))

        assert profile.remove(store, who, op_id, Origin(second)) == "likes teal", who
        assert profile.lines(store, who) == []


def test_a_customer_may_take_away_any_line_about_them(store: Store) -> None:
    op_id = profile.put(store, WHO, "likes teal", OPERATOR)

    assert profile.remove(store, WHO, op_id, Origin(Source.PAGE)) == "likes teal"


def test_a_line_that_a_person_confirms_is_theirs_from_then_on(store: Store) -> None:
    profile.put(store, WHO, "favourite colour is teal", TOOL)
    profile.put(store, WHO, "favourite colour is teal", OPERATOR)

    profile.put(store, WHO, "favourite colour is red", TOOL)

    assert texts(store) == ["favourite colour is teal"]


def test_only_people_write_the_notes(store: Store) -> None:
    with pytest.raises(Refused, match="only people"):
        profile.put(store, WHO, "VIP", TOOL, Block.OPERATOR_NOTES)

    profile.put(store, WHO, "VIP", OPERATOR, Block.OPERATOR_NOTES)
    assert texts(store, Block.OPERATOR_NOTES) == ["VIP"]


def test_the_history_names_each_change_its_source_and_its_sentence(store: Store) -> None:
    call = call_of(store, said="I love teal")
    first = profile.put(store, WHO, "colour is teal", Origin(Source.TOOL, call.id, "item_1"))
    second = profile.put(store, WHO, "colour is red", OPERATOR)
    profile.remove(store, WHO, second, OPERATOR)

    seen = history.history(store, WHO)

    assert [(v.op, v.line, v.old_line, v.source, v.because) for v in seen] == [
        ("add", "colour is teal", None, Source.TOOL, "I love teal"),
        ("replace", "colour is red", "colour is teal", Source.OPERATOR, None),
        ("remove", "colour is red", None, Source.OPERATOR, None),
    ]
    assert {v.position for v in seen} == {first}
    assert seen[0].call_id == call.id


def test_blame_names_the_call_and_the_sentence_of_each_line(store: Store) -> None:
    call = call_of(store, said="I love teal")
    op_id = profile.put(store, WHO, "colour is teal", Origin(Source.TOOL, call.id, "item_1"))
    profile.put(store, WHO, "has a dog", OPERATOR)

    by_id, by_words = history.blame(store, WHO, str(op_id)), history.blame(store, WHO, "TEAL")

    assert by_id == by_words
    assert (by_id[0].sentence, by_id[0].call_id, by_id[0].source) == ("I love teal", call.id, Source.TOOL)
    assert len(history.blame(store, WHO)) == 2
    with pytest.raises(OperationUnknown):
        history.blame(store, WHO, "no such words")


def test_undoing_an_addition_a_change_and_a_removal_is_the_inverse_on_the_present(store: Store) -> None:
    added = profile.put(store, WHO, "likes teal", TOOL)
    profile.put(store, WHO, "colour is blue", TOOL)
    changed = profile.put(store, WHO, "colour is red", TOOL)
    profile.put(store, WHO, "has a dog", TOOL)
    gone = profile.put(store, WHO, "has a cat", TOOL)
    profile.remove(store, WHO, gone, TOOL)
    removal = history.history(store, WHO)[-1].id

    assert history.undo(store, WHO, added) == "removed: likes teal"
    assert history.undo(store, WHO, changed) == "again: colour is blue"
    assert history.undo(store, WHO, removal) == "again: has a cat"

    assert texts(store) == ["colour is blue", "has a dog", "has a cat"]
    marks = {v.id: v.undone_by for v in history.history(store, WHO)}
    assert all(marks[op] for op in (added, changed, removal))


def test_an_undo_can_be_undone(store: Store) -> None:
    added = profile.put(store, WHO, "likes teal", TOOL)
    profile.put(store, WHO, "has a dog", TOOL)
    history.undo(store, WHO, added)

    history.undo(store, WHO, history.history(store, WHO)[-1].id)

    assert texts(store) == ["likes teal", "has a dog"]


def test_undo_is_refused_when_a_later_operation_touched_the_line(store: Store) -> None:
    first = profile.put(store, WHO, "colour is teal", TOOL)
    second = profile.put(store, WHO, "colour is red", TOOL)

    with pytest.raises(Refused, match=f"operation {second} .* touched the line later.*{second}"):
        history.undo(store, WHO, first)

    assert texts(store) == ["colour is red"]


def test_an_undo_that_was_taken_back_does_not_keep_the_call_from_learning(store: Store) -> None:
    call = call_of(store, "r1")
    origin = Origin(Source.TOOL, call.id)
    history.undo(store, WHO, profile.put(store, WHO, "favourite colour is teal", origin))
    history.undo(store, WHO, history.history(store, WHO)[-1].id)

    profile.put(store, WHO, "favourite colour is red", origin)  # is heard, though a person's word stands by now

    assert texts(store) == ["favourite colour is teal"]
    assert history.history(store, WHO)[-1].overruled_by is not None
    back = next(v.id for v in history.history(store, WHO) if v.op == profile.Op.ADD and v.undoes is not None)
    history.undo(store, WHO, back)
    with pytest.raises(Refused, match="undone"):
        profile.put(store, WHO, "favourite colour is red", origin)


def test_what_was_taken_back_does_not_stand_before_what_came_earlier(store: Store) -> None:
    first = profile.put(store, WHO, "colour is teal", TOOL)
    second = profile.put(store, WHO, "colour is red", TOOL)
    history.undo(store, WHO, second)
    assert texts(store) == ["colour is teal"]

    history.undo(store, WHO, first)

    assert texts(store) == []


def test_what_an_undone_undo_brought_back_can_be_undone_again(store: Store) -> None:
    added = profile.put(store, WHO, "likes teal", TOOL)
    history.undo(store, WHO, added)
    undone = history.history(store, WHO)[-1].id
    history.undo(store, WHO, undone)
    again = history.history(store, WHO)[-1].id

    assert history.undo(store, WHO, added) == "removed: likes teal"

    last = history.history(store, WHO)[-1].id
    with pytest.raises(Refused, match=f"operation {last} .* touched the line later.* first: {last}$"):
        history.undo(store, WHO, again)
    assert texts(store) == []


def undone(store: Store, op_id: int) -> bool:
    """Take one back, unless another line says otherwise by now."""
    try:
        history.undo(store, WHO, op_id)
    except Refused as e:
        if "says otherwise by now" not in e.why:
            raise
        return False
    return True


@pytest.mark.parametrize("seed", range(4))
def test_every_undo_is_the_inverse_and_the_one_that_is_named_to_be_undone_first_can_be(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    colours = ["teal", "red", "blue"]
    named = 0
    profile.put(store, WHO, "colour is teal", OPERATOR)
    for _ in range(60):
        seen = history.history(store, WHO)
        if chance.random() < 0.2:
            profile.put(store, WHO, f"colour is {chance.choice(colours)}", OPERATOR)
            continue
        before, chosen = texts(store), chance.choice(seen).id
        try:
            history.undo(store, WHO, chosen)
        except Refused as e:
            if "touched the line later" in e.why:
                named += undone(store, int(e.remedy.rsplit(" ", 1)[1]))
            continue
        after = texts(store)
        history.undo(store, WHO, history.history(store, WHO)[-1].id)
        assert texts(store) == before
        if chance.random() < 0.7:
            history.undo(store, WHO, chosen)
            assert texts(store) == after
    assert named


def test_undo_is_refused_twice_and_for_what_had_no_effect_and_unknown_for_others_operations(store: Store) -> None:
    op_id = profile.put(store, WHO, "colour is teal", OPERATOR)
    profile.put(store, WHO, "colour is red", TOOL)
    overruled = history.history(store, WHO)[-1].id
    other = profile.put(store, "user:2", "likes tea", TOOL)

    with pytest.raises(Refused, match="had no effect"):
        history.undo(store, WHO, overruled)
    with pytest.raises(OperationUnknown):
        history.undo(store, WHO, other)
    history.undo(store, WHO, op_id)
    with pytest.raises(Refused, match="touched the line later"):
        history.undo(store, WHO, op_id)


def test_a_removal_is_not_undone_over_a_line_that_says_otherwise_by_now(store: Store) -> None:
    op_id = profile.put(store, WHO, "colour is teal", TOOL)
    profile.remove(store, WHO, op_id, OPERATOR)
    removal = history.history(store, WHO)[-1].id
    profile.put(store, WHO, "colour is red", TOOL)

    with pytest.raises(Refused, match="says otherwise by now: colour is red"):
        history.undo(store, WHO, removal)


@pytest.mark.parametrize("again", ["likes teal", "Likes  TEAL"])
def test_an_undone_line_is_not_learnt_again_from_the_same_call_but_from_another(store: Store, again: str) -> None:
    call = call_of(store, "r1")
    history.undo(store, WHO, profile.put(store, WHO, "likes teal", Origin(Source.TOOL, call.id)))

    for source in (Source.TOOL, Source.MEMORY_STEP):
        with pytest.raises(Refused, match="undone"):
            profile.put(store, WHO, again, Origin(source, call.id))
    assert texts(store) == []

    profile.put(store, WHO, again, Origin(Source.TOOL, call_of(store, "r2").id))
    assert len(texts(store)) == 1


def test_an_undone_line_keeps_its_teacher_when_an_undo_brought_it_back(store: Store) -> None:
    call = call_of(store, said="teal is lovely")
    profile.put(store, WHO, "colour is teal", Origin(Source.TOOL, call.id, "item_1"))
    history.undo(store, WHO, profile.put(store, WHO, "colour is red", OPERATOR))

    (line,) = history.blame(store, WHO)

    assert (line.sentence, line.source) == ("teal is lovely", Source.TOOL)
    assert line.restored_by == line.id


def test_an_edit_changes_adds_and_removes_lines_as_operations_of_their_own(store: Store) -> None:
    for line in ("has a dog", "name: Rahim", "likes teal"):
        profile.put(store, WHO, line, TOOL)
    opened = edit.open_text(store, WHO)

    changed = edit.save(
        store, opened, opened.text.replace("likes teal", "likes red\nlikes jazz").replace("has a dog\n", "")
    )

    assert changed == 3
    assert sorted(texts(store)) == ["likes jazz", "likes red", "name: Rahim"]
    assert {(v.op, v.line) for v in history.history(store, WHO)[3:]} == {
        ("replace", "likes red"),
        ("add", "likes jazz"),
        ("remove", "has a dog"),
    }
    assert {v.source for v in history.history(store, WHO)[3:]} == {Source.OPERATOR}


def test_an_unchanged_text_changes_nothing(store: Store) -> None:
    profile.put(store, WHO, "likes teal", TOOL)
    opened = edit.open_text(store, WHO)

    assert edit.save(store, opened, opened.text) == 0
    assert len(history.history(store, WHO)) == 1


def test_of_two_editors_the_second_to_save_is_refused_and_the_first_stands(store: Store) -> None:
    profile.put(store, WHO, "likes teal", TOOL)
    one, two = edit.open_text(store, WHO), edit.open_text(store, WHO)
    edit.save(store, one, one.text.replace("teal", "red"))

    with pytest.raises(Refused, match="somebody changed it while you had it open"):
        edit.save(store, two, two.text.replace("teal", "blue"))

    assert texts(store) == ["likes red"]


def test_an_edit_beyond_a_blocks_limit_is_refused_whole(store: Store) -> None:
    profile.put(store, WHO, "likes teal", TOOL)
    opened = edit.open_text(store, WHO)
    many = "\n".join(f"{n} " + "x" * 290 for n in range(14))

    with pytest.raises(Refused, match="4000 fit"):
        edit.save(store, opened, opened.text.replace("likes teal", many))

    assert texts(store) == ["likes teal"]


def test_what_an_edit_removes_makes_room_for_what_it_adds(store: Store) -> None:
    for number in range(13):
        profile.put(store, WHO, f"{number} " + "x" * 290, TOOL)
    opened = edit.open_text(store, WHO)

    new = "\n".join(f"new {number} " + "y" * 286 for number in range(13))
    old = "\n".join(texts(store))
    edit.save(store, opened, opened.text.replace(old, new))

    assert len(texts(store)) == 13
    assert all(t.startswith("new") for t in texts(store))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[profile]\nx\n[last_call]\n", "heading \\[operator_notes\\] is missing"),
        ("x\n[profile]\n", "above the first"),
        ("[profil]\n", "no block \\[profil\\]"),
        ("[profile]\n[profile]\n", "twice"),
        ("[profile]\n" + "x" * 301, "line 2: the line has 301 characters"),
    ],
)
def test_a_text_that_cannot_be_meant_is_refused_with_its_line(text: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        edit.parse(text)


def test_the_migration_finds_again_which_line_each_operation_was_about(store: Store) -> None:
    for line in ("colour is teal", "has a dog", "colour is red", "name: Rahim"):
        profile.put(store, WHO, line, TOOL)
    profile.remove(store, WHO, profile.put(store, WHO, "colour is blue", TOOL), TOOL)
    profile.put(store, WHO, "colour is teal", TOOL)
    before = [v.position for v in history.history(store, WHO)]
    place = importlib.util.spec_from_file_location("m", next(MIGRATIONS.glob("versions/0005_*.py")))
    assert place is not None
    assert place.loader is not None
    migration = importlib.util.module_from_spec(place)
    place.loader.exec_module(migration)

    with store.write() as connection:
        connection.execute(profile_ops.update().values(position=None))
        migration._find_positions(connection)

    assert [v.position for v in history.history(store, WHO)] == before
    assert len(set(before)) == 4


def test_search_finds_lines_and_turns_of_all_customers_or_one(store: Store) -> None:
    call_of(store, said="My parcel is LATE")
    profile.put(store, "user:2", "late payer, 100% sure", OPERATOR, Block.OPERATOR_NOTES)

    assert [(f.customer, f.where) for f in admin.search(store, "late")] == [
        ("user:2", "operator_notes"),
        (WHO, "turn"),
    ]
    assert [f.text for f in admin.search(store, "late parcel", WHO)] == ["My parcel is LATE"]
    assert [f.customer for f in admin.search(store, "100%")] == ["user:2"]
    assert admin.search(store, "100_") == []
    with pytest.raises(CustomerUnknown):
        admin.search(store, "late", "user:3")
    for nothing in ("", "  ", "\0", "\udcff"):
        with pytest.raises(Refused, match="no word"):
            admin.search(store, nothing)


def test_a_search_of_any_length_is_answered_or_refused_with_its_length(store: Store) -> None:
    call_of(store, said="My parcel is late: " + "😀" * 10_000)

    assert [f.customer for f in admin.search(store, "😀" * 10_000)] == [WHO]
    assert [f.customer for f in admin.search(store, "par\0cel late " * 1_000)] == [WHO]
    with pytest.raises(Refused, match="10000 words of 38890 characters"):
        admin.search(store, " ".join(map(str, range(10_000))))
    with pytest.raises(Refused, match="1 words of 100000 characters"):
        admin.search(store, "x" * 100_000)


@pytest.mark.parametrize("ask", [history.history, history.blame, edit.open_text, lambda s, c: history.undo(s, c, 1)])
def test_an_unknown_customer_is_named(store: Store, ask) -> None:
    with pytest.raises(CustomerUnknown, match="user:99"):
        ask(store, "user:99")
