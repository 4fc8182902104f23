import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { OPEN_STREAM, stepStream, type StreamEvent } from "../../lib/session/stream_engine.ts";

const WRITE_CLOSED: StreamEvent = { kind: "write-closed" };
const END_WRITTEN: StreamEvent = { kind: "end-written" };
const DATA: StreamEvent = { kind: "data-received" };
const END: StreamEvent = { kind: "end-received" };
const RESET: StreamEvent = { kind: "reset-received", code: 7 };
const CLOSED: StreamEvent = { kind: "closed", hasUnread: false };
const CLOSED_UNREAD: StreamEvent = { kind: "closed", hasUnread: true };
const OWN_RESET: StreamEvent = { kind: "reset", code: 9 };
const TIME_UP: StreamEvent = { kind: "time-up" };

for (
  const [what, events, expected] of [
    ["delivers data", [DATA, DATA], ["deliver", "deliver"]],
    ["ends each direction by itself", [WRITE_CLOSED, END_WRITTEN, DATA, END], [
      ...["write-end", "deliver", "end-reading", "over"],
    ]],
    ["is over once both ends are through, in the other order", [END, WRITE_CLOSED, END_WRITTEN], [
      ...["end-reading", "write-end", "over"],
    ]],
    ["ends its writes once", [WRITE_CLOSED, WRITE_CLOSED], ["write-end"]],
    ["waits for the other side after close()", [CLOSED, END_WRITTEN, END], [
      ...["discard", "write-end", "start-timer", "over"],
    ]],
    ["resets what goes on after close()", [CLOSED, END_WRITTEN, DATA], [
      ...["discard", "write-end", "start-timer", "write-reset 0", "over"],
    ]],
    ["sends its end before the reset that data causes", [CLOSED, DATA, END_WRITTEN], [
      ...["discard", "write-end", "start-timer", "write-reset 0", "over"],
    ]],
    ["resets unread data after its end", [CLOSED_UNREAD, END_WRITTEN], [
      ...["discard", "write-end", "start-timer", "write-reset 0", "over"],
    ]],
    ["forgets unread data of a side that has ended", [END, CLOSED_UNREAD, END_WRITTEN], [
      ...["end-reading", "discard", "write-end", "over"],
    ]],
    ["gives up a side that does not end after close()", [CLOSED, END_WRITTEN, TIME_UP], [
      ...["discard", "write-end", "start-timer", "write-reset 0", "over"],
    ]],
    ["has no deadline before close()", [WRITE_CLOSED, END_WRITTEN, TIME_UP], ["write-end"]],
    ["fails if the other side resets it", [WRITE_CLOSED, RESET], ["write-end", "fail 7", "over"]],
    ["resets with a code", [OWN_RESET, OWN_RESET, CLOSED], [
      ...["discard", "write-reset 9", "over", "discard", "discard"],
    ]],
    ["that is over forgets what was not read if it is reset", [
      END,
      WRITE_CLOSED,
      END_WRITTEN,
      OWN_RESET,
    ], [
      ...["end-reading", "write-end", "over", "discard"],
    ]],
  ] satisfies [string, StreamEvent[], string[]][]
) {
  Deno.test(`stepStream(): a stream ${what}`, () => assertEquals(run(events), expected));
}

for (const [what, event] of [["data", DATA], ["a second END", END]] as const) {
  Deno.test(`stepStream() rejects ${what} after END`, () => {
    assertThrows(() => run([END, event]), MalformedMessageError);
  });
}

Deno.test("stepStream() ends every stream once, and writes at most one END and one RESET", () => {
  const event = fc.constantFrom(
    ...[WRITE_CLOSED, DATA, END, RESET, CLOSED, CLOSED_UNREAD, OWN_RESET, TIME_UP],
  );
  fc.assert(fc.property(fc.array(event, { maxLength: 12 }), (events) => {
    let state = OPEN_STREAM;
    const seen: string[] = [];
    for (const each of [...events, OWN_RESET]) {
      let isOver = seen.includes("over");
      if (isOver) break; // its owner forgets it
      try {
        const step = stepStream(state, each);
        state = step.state;
        seen.push(...step.actions.map(({ kind }) => kind));
      } catch (error) {
        if (!(error instanceof MalformedMessageError)) throw error;
        return;
      }
      isOver = seen.includes("over");
      if (!isOver && state.sending === "ending") {
        const step = stepStream(state, END_WRITTEN);
        state = step.state;
        seen.push(...step.actions.map(({ kind }) => kind));
      }
    }
    const count = (kind: string) => seen.filter((each) => each === kind).length;
    assertEquals(count("over"), 1);
    assertEquals([count("write-end") <= 1, count("write-reset") <= 1], [true, true]);
  }));
});

function run(events: readonly StreamEvent[]): string[] {
  let state = OPEN_STREAM;
  return events.flatMap((event) => {
    const step = stepStream(state, event);
    state = step.state;
    return step.actions.map((action) =>
      "code" in action ? `${action.kind} ${action.code}` : action.kind
    );
  });
}
