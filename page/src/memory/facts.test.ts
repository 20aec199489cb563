import { expect, test } from "vitest";
import { newIds, originOf, parseFacts, type Fact } from "./facts";

const fact = (id: string, rest: Partial<Fact> = {}): Fact => ({ id, text: id, because: null, source: "tool", ...rest });

test("a message of facts is read; what is no fact in it is dropped", () => {
  const message = JSON.stringify({
    facts: [fact("1", { because: "I like teal." }), { id: 2, text: "number" }, { id: "3" }, null, "text"],
  });

  expect(parseFacts(message)).toEqual([
    fact("1", { because: "I like teal." }),
    { id: "2", text: "number", because: null, source: "" },
  ]);
});

test("what is no message of facts changes nothing", () => {
  for (const message of ["", "{", "null", "[]", '{"facts":{}}']) expect(parseFacts(message)).toBeNull();
});

test("only what is learnt during the call is new", () => {
  expect(newIds(null, [fact("1")])).toEqual([]);
  expect(newIds([fact("1")], [fact("1"), fact("2")])).toEqual(["2"]);
});

test("a fact that nobody said has an origin in words", () => {
  expect(originOf("operator")).not.toBe(originOf("memory_step"));
  expect(originOf("something newer")).toBe("Known from before");
});
