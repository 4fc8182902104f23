import { assertEquals } from "@std/assert";
import {
  type ConnectionOrigin,
  initialNominationState,
  type NominationEvent,
  stepNomination,
} from "../../lib/punch/nomination_engine.ts";

const ROLES = ["controlling", "controlled"] as const;

for (const role of ROLES) {
  Deno.test(`the ${role} side proves, agrees on and nominates the only connection`, () => {
    const machine = start(role);
    assertEquals(machine.on(opened(1)), ["prove 1"]);
    assertEquals(machine.on({ kind: "proved", id: 1 }), ["agree 1"]);
    assertEquals(machine.on({ kind: "agreed", id: 1 }), ["settle 1 nominated"]);
  });

  Deno.test(`the ${role} side takes no further connection once one is nominated`, () => {
    const machine = start(role);
    nominate(machine, 1);
    assertEquals(machine.on(opened(2)), ["settle 2 not-nominated"]);
  });

  Deno.test(`the ${role} side settles a connection whose other end is not the peer`, () => {
    const machine = start(role);
    machine.on(opened(1));
    assertEquals(machine.on(failed(1, "not-authenticated")), ["settle 1 not-authenticated"]);
  });

  Deno.test(`the ${role} side resets a connection that proves nothing in time`, () => {
    const machine = start(role);
    machine.on(opened(1));
    assertEquals(machine.on({ kind: "expired", id: 1 }), ["reset 1"]);
    assertEquals(machine.on(failed(1, "broken")), ["settle 1 not-authenticated"]);
  });

  Deno.test(`the ${role} side calls a connection broken only while it is wanted`, () => {
    const machine = start(role);
    for (const id of [1, 2, 3]) machine.on(opened(id));
    assertEquals(machine.on(failed(1, "broken")), ["settle 1 broken"]);
    machine.on({ kind: "proved", id: 2 });
    machine.on({ kind: "agreed", id: 2 });
    assertEquals(machine.on(failed(3, "broken")), ["settle 3 not-nominated"]);
  });

  Deno.test(`the ${role} side resets every open connection when it is closed, and takes no more`, () => {
    const machine = start(role);
    machine.on(opened(1));
    machine.on(opened(2));
    machine.on({ kind: "proved", id: 2 });
    assertEquals(machine.on({ kind: "closed" }), ["reset 1", "reset 2"]);
    assertEquals(machine.on({ kind: "agreed", id: 2 }), ["settle 2 not-nominated"]);
    assertEquals(machine.on(failed(1, "broken")), ["settle 1 not-nominated"]);
    assertEquals(machine.on(opened(3)), ["settle 3 not-nominated"]);
  });

  Deno.test(`the ${role} side leaves the nominated connection alone when it is closed`, () => {
    const machine = start(role);
    nominate(machine, 1);
    assertEquals(machine.on({ kind: "closed" }), []);
  });

  Deno.test(`the ${role} side makes room for new connections by evicting the oldest without a proof`, () => {
    const machine = start(role);
    machine.on(opened(0));
    if (role === "controlled") machine.on({ kind: "proved", id: 0 });
    for (let id = 1; id < 64; id++) machine.on(opened(id));
    const oldest = role === "controlled" ? 1 : 0;
    assertEquals(machine.on(opened(64)), [`reset ${oldest}`, "prove 64"]);
    assertEquals(machine.on(opened(65)), [`reset ${oldest + 1}`, "prove 65"]);
    assertEquals(machine.on(failed(oldest, "broken")), [`settle ${oldest} not-authenticated`]);
  });
}

Deno.test("the controlling side nominates one connection at a time", () => {
  const machine = start("controlling");
  for (const id of [1, 2]) machine.on(opened(id));
  assertEquals(machine.on({ kind: "proved", id: 1 }), ["agree 1"]);
  assertEquals(machine.on({ kind: "proved", id: 2 }), ["settle 2 not-nominated"]);
});

Deno.test("the controlling side nominates another connection if its nomination cannot be sent", () => {
  const machine = start("controlling");
  machine.on(opened(1));
  machine.on({ kind: "proved", id: 1 });
  assertEquals(machine.on(failed(1, "broken")), ["settle 1 broken"]);
  machine.on(opened(2));
  assertEquals(machine.on({ kind: "proved", id: 2 }), ["agree 2"]);
  assertEquals(machine.on({ kind: "agreed", id: 2 }), ["settle 2 nominated"]);
});

Deno.test("the controlled side waits on every proved connection, and takes the first nomination", () => {
  const machine = start("controlled");
  for (const id of [1, 2]) machine.on(opened(id));
  assertEquals(machine.on({ kind: "proved", id: 1 }), ["agree 1"]);
  assertEquals(machine.on({ kind: "proved", id: 2 }), ["agree 2"]);
  assertEquals(machine.on({ kind: "agreed", id: 2 }), ["settle 2 nominated"]);
  assertEquals(machine.on({ kind: "agreed", id: 1 }), ["settle 1 not-nominated"]);
});

Deno.test("a full house of proved connections takes no other", () => {
  const machine = start("controlled");
  for (let id = 0; id < 64; id++) {
    machine.on(opened(id));
    machine.on({ kind: "proved", id });
  }
  assertEquals(machine.on(opened(64)), ["settle 64 not-nominated"]);
});

for (const role of ROLES) {
  Deno.test(`the ${role} side ends none of the sockets of a spray, however many connect at once`, () => {
    const machine = start(role);
    for (let id = 0; id < 1300; id++) {
      assertEquals(machine.on(opened(id, "dialled")), [`prove ${id}`]);
    }
    assertEquals(machine.on({ kind: "proved", id: 0 }), ["agree 0"]);
    assertEquals(machine.on({ kind: "agreed", id: 0 }), ["settle 0 nominated"]);
  });

  Deno.test(`the ${role} side ends no connection from the peer's addresses for others that are elsewhere`, () => {
    const machine = start(role);
    for (let id = 0; id < 200; id++) machine.on(opened(id, "peer"));
    for (let id = 200; id < 264; id++) assertEquals(machine.on(opened(id)), [`prove ${id}`]);
    assertEquals(machine.on(opened(264)), ["reset 200", "prove 264"]);
    assertEquals(machine.on({ kind: "proved", id: 0 }), ["agree 0"]);
  });

  Deno.test(`the ${role} side bounds what claims to be the peer, twice the sockets of a spray`, () => {
    const machine = start(role);
    for (let id = 0; id < 416; id++) assertEquals(machine.on(opened(id, "peer")), [`prove ${id}`]);
    assertEquals(machine.on(opened(416, "peer")), ["reset 0", "prove 416"]);
    assertEquals(machine.on(opened(417, "dialled")), ["prove 417"]);
  });
}

interface Machine {
  /** Hands over an event; the actions in words. */
  on(event: NominationEvent): string[];
}

function start(role: (typeof ROLES)[number]): Machine {
  let state = initialNominationState(role);
  return {
    on: (event) => {
      const step = stepNomination(state, event);
      state = step.state;
      return step.actions.map((action) =>
        action.kind === "settle"
          ? `settle ${action.id} ${action.outcome}`
          : `${action.kind} ${action.id}`
      );
    },
  };
}

function nominate(machine: Machine, id: number): void {
  machine.on(opened(id));
  machine.on({ kind: "proved", id });
  machine.on({ kind: "agreed", id });
}

function opened(id: number, origin: ConnectionOrigin = "elsewhere"): NominationEvent {
  return { kind: "opened", id, origin };
}

function failed(id: number, why: "not-authenticated" | "broken"): NominationEvent {
  return { kind: "failed", id, why };
}
