import { assertEquals } from "@std/assert";
import { formatTransportAddress } from "../../lib/net/address.ts";
import type { RelayState } from "../../lib/peer/relay_message.ts";
import {
  initialRelayPathState,
  MAX_TRIES,
  type OpenRelay,
  type RelayPathAction,
  type RelayPathEvent,
  stepRelayPath,
} from "../../lib/peer/relay_path_engine.ts";

const RELAY: OpenRelay = {
  id: 0,
  relayed: [{ ip: "198.51.100.1", port: 5000 }],
  mappedIp: "203.0.113.1",
};
const OTHER_RELAY: OpenRelay = {
  id: 1,
  relayed: [{ ip: "198.51.100.2", port: 5000 }, { ip: "2001:db8::2", port: 5000 }],
  mappedIp: "203.0.113.1",
};

Deno.test("an open relay is published with every address that this side may dial from", () => {
  const path = new Path({ ips: ["203.0.113.7"], relays: 1 });
  assertEquals(path.on({ kind: "relay opened", relay: RELAY }), [
    "publish ips 203.0.113.7 203.0.113.1 198.51.100.1, relayed 198.51.100.1:5000",
  ]);
});

Deno.test("a side that hides publishes its relay's addresses only", () => {
  const path = new Path({ ips: ["203.0.113.7"], relays: 1, isHidden: true });
  assertEquals(path.on({ kind: "relay opened", relay: RELAY }), [
    "publish ips 198.51.100.1, relayed 198.51.100.1:5000",
  ]);
});

Deno.test("a second relay is published together with the first", () => {
  const path = new Path({ relays: 2 });
  path.on({ kind: "relay opened", relay: RELAY });
  assertEquals(path.on({ kind: "relay opened", relay: OTHER_RELAY }), [
    "publish ips 203.0.113.1 198.51.100.1 198.51.100.2 2001:db8::2, " +
    "relayed 198.51.100.1:5000 198.51.100.2:5000 [2001:db8::2]:5000",
  ]);
});

Deno.test("the last relay that fails is published, if no other is open", () => {
  const none = new Path({ relays: 2 });
  assertEquals(none.on({ kind: "relay failed" }), []);
  assertEquals(none.on({ kind: "relay failed" }), ["publish mayOffer false"]);
  const one = new Path({ relays: 2 });
  one.on({ kind: "relay opened", relay: RELAY });
  assertEquals(one.on({ kind: "relay failed" }), []);
});

Deno.test("a relay that is lost is published no more, nor that this side has one if it was the last", () => {
  const path = new Path({ relays: 2 });
  path.on({ kind: "relay opened", relay: RELAY });
  path.on({ kind: "relay opened", relay: OTHER_RELAY });
  assertEquals(path.on({ kind: "relay lost", id: 0 }), [
    "publish ips 203.0.113.1 198.51.100.2 2001:db8::2, " +
    "relayed 198.51.100.2:5000 [2001:db8::2]:5000, mayOffer true",
  ]);
  assertEquals(path.on({ kind: "relay lost", id: 1 }), [
    "publish ips , relayed , mayOffer false",
  ]);
  assertEquals(path.on(stateOf({ mayOffer: false }, { isAcknowledged: true })), ["give up"]);
});

Deno.test("the first state starts the proofs, and each relay that it names is dialled once", () => {
  const path = new Path();
  const relayed = ["198.51.100.9:7000"];
  assertEquals(path.on(stateOf({ relayed })), ["start proving aa", "dial 198.51.100.9:7000"]);
  assertEquals(path.on(stateOf({ relayed, version: 2 })), []);
  const more = [...relayed, "198.51.100.9:7001"];
  assertEquals(path.on(stateOf({ relayed: more, version: 3 })), ["dial 198.51.100.9:7001"]);
});

Deno.test("each relay lets in the addresses of its families, and dials the other side's relays a little later", () => {
  const path = new Path({ relays: 1 });
  path.on({ kind: "relay opened", relay: RELAY });
  const ips = ["203.0.113.9", "2001:db8::9"];
  assertEquals(path.on(stateOf({ ips, relayed: ["198.51.100.9:7000"] })), [
    "start proving aa",
    "dial 198.51.100.9:7000",
    "relay 0 permits 203.0.113.9",
    "relay 0 dials 198.51.100.9:7000 after 500 ms",
  ]);
});

Deno.test("a relay that opens later does what it has missed", () => {
  const path = new Path({ relays: 1 });
  path.on(stateOf({ ips: ["203.0.113.9"], relayed: ["198.51.100.9:7000"] }));
  const [, ...actions] = path.on({ kind: "relay opened", relay: RELAY });
  assertEquals(actions, [
    "relay 0 permits 203.0.113.9",
    "relay 0 dials 198.51.100.9:7000 after 500 ms",
  ]);
});

Deno.test("a side that hides dials from its own relays only, and at once", () => {
  const path = new Path({ relays: 1, isHidden: true });
  path.on({ kind: "relay opened", relay: RELAY });
  assertEquals(path.on(stateOf({ relayed: ["198.51.100.9:7000"] })), [
    "start proving aa",
    "relay 0 dials 198.51.100.9:7000",
  ]);
});

Deno.test("no more than eight addresses of each kind count, whatever the other side names over time", () => {
  const path = new Path({ relays: 1 });
  path.on({ kind: "relay opened", relay: RELAY });
  const actions: string[] = [];
  for (let version = 1; version < 30; version++) {
    const relayed = [`198.51.100.9:${version}`];
    actions.push(...path.on(stateOf({ version, ips: [`203.0.113.${version}`], relayed })));
  }
  const count = (start: string) => actions.filter((each) => each.startsWith(start)).length;
  assertEquals([count("dial "), count("relay 0 permits"), count("relay 0 dials")], [8, 8, 8]);
});

Deno.test("a dial that fails is repeated a limited number of times", () => {
  const path = new Path();
  path.on(stateOf({ relayed: ["198.51.100.9:7000"] }));
  const to = { ip: "198.51.100.9", port: 7000 };
  for (let tries = 1; tries < MAX_TRIES; tries++) {
    const actions = path.on({ kind: "dial failed", to });
    assertEquals(actions, ["dial 198.51.100.9:7000 after 400 ms"]);
  }
  assertEquals(path.on({ kind: "dial failed", to }), []);
});

Deno.test("both sides give up once both know that neither has a relay", () => {
  const none = { mayOffer: false };
  assertEquals(new Path().on(stateOf(none, { isAcknowledged: true })), ["give up"]);
  assertEquals(new Path().on(stateOf(none, { isAcknowledged: false })), ["start proving aa"]);
  assertEquals(new Path().on(stateOf({}, { isAcknowledged: true })), ["start proving aa"]);
  const opening = new Path({ relays: 1 });
  assertEquals(opening.on(stateOf(none, { isAcknowledged: true })), ["start proving aa"]);
  opening.on({ kind: "relay failed" });
  assertEquals(opening.on(stateOf(none, { isAcknowledged: true })), ["give up"]);
});

Deno.test("both sides join at the servers that both name, the shortest way first, each once", () => {
  const path = new Path({ rendezvous: { a: 10, b: 50, c: null, d: 5 } });
  const rendezvous = rendezvousOf({ c: 1, b: 5, a: 100, x: 1 });
  assertEquals(path.on(stateOf({ rendezvous })), [
    "start proving aa",
    "join b",
    "join a after 500 ms",
    "join c after 1000 ms",
  ]);
  assertEquals(path.on(stateOf({ rendezvous, version: 2 })), []);
});

Deno.test("a join that fails is repeated a limited number of times", () => {
  const path = new Path({ rendezvous: { a: 10 } });
  path.on(stateOf({ rendezvous: rendezvousOf({ a: 10 }) }));
  for (let tries = 1; tries < MAX_TRIES; tries++) {
    const actions = path.on({ kind: "join failed", id: "a", isFinal: false });
    assertEquals(actions, ["join a after 400 ms"]);
  }
  assertEquals(path.on({ kind: "join failed", id: "a", isFinal: false }), []);
});

Deno.test("a server without a relay is named no more, and without another both sides give up", () => {
  const none = { mayOffer: false, rendezvous: rendezvousOf({ a: 10 }) };
  const path = new Path({ rendezvous: { a: 10, b: 10 } });
  const joined = path.on(stateOf(none, { isAcknowledged: true }));
  assertEquals(joined, ["start proving aa", "join a"]);
  assertEquals(path.on({ kind: "join failed", id: "a", isFinal: true }), ["publish rendezvous b"]);
  assertEquals(path.on(stateOf({ ...none, version: 2 }, { isAcknowledged: true })), ["give up"]);
});

Deno.test("a server that the other side names no more is left out silently", () => {
  const path = new Path({ rendezvous: { a: 10 } });
  path.on(stateOf({ rendezvous: rendezvousOf({ a: 10 }) }));
  path.on(stateOf({ rendezvous: [], version: 2 }));
  assertEquals(path.on({ kind: "join failed", id: "a", isFinal: true }), []);
});

/** Drives the engine, and shows its actions as text. */
class Path {
  #state: ReturnType<typeof initialRelayPathState>;

  constructor({ ips = [] as string[], relays = 0, isHidden = false, rendezvous = {} } = {}) {
    this.#state = initialRelayPathState({
      ips,
      relays,
      isHidden,
      rendezvous: rendezvousOf(rendezvous),
    });
  }

  on(event: RelayPathEvent): string[] {
    const { state, actions } = stepRelayPath(this.#state, event);
    this.#state = state;
    return actions.map(show);
  }
}

/** Round trips by ID. */
function rendezvousOf(rtts: Readonly<Record<string, number | null>>): RelayState["rendezvous"] {
  return Object.entries(rtts).map(([id, rttMs]) => ({ id, rttMs }));
}

function stateOf(
  { relayed = [], ...state }: Partial<Omit<RelayState, "relayed">> & { relayed?: string[] },
  { isAcknowledged = false } = {},
): RelayPathEvent {
  const addresses = relayed.map((text) => {
    const [ip, port] = text.split(":");
    return { ip: ip!, port: Number(port) };
  });
  const defaults = {
    nonce: "aa",
    mayOffer: true,
    version: 1,
    acknowledged: 0,
    ips: [],
    rendezvous: [],
    refusalCode: null,
  };
  const theirs = { ...defaults, ...state, relayed: addresses };
  return { kind: "state", theirs, isAcknowledged };
}

function show(action: RelayPathAction): string {
  switch (action.kind) {
    case "publish":
      return `publish ${Object.entries(action.change).map(showField).join(", ")}`;
    case "start proving":
      return `start proving ${action.theirNonce}`;
    case "permit":
      return `relay ${action.relay} permits ${action.ip}`;
    case "dial":
      return `dial ${formatTransportAddress(action.to)}${after(action.afterMs)}`;
    case "dial from relay": {
      const to = formatTransportAddress(action.to);
      return `relay ${action.relay} dials ${to}${after(action.afterMs)}`;
    }
    case "join":
      return `join ${action.id}${after(action.afterMs)}`;
    case "give up":
      return "give up";
  }
}

function showField([name, value]: [string, RelayState[keyof RelayState]]): string {
  if (!Array.isArray(value)) return `${name} ${value}`;
  const texts = value.map((each) => {
    if (typeof each === "string") return each;
    return "id" in each ? each.id : formatTransportAddress(each);
  });
  return `${name} ${texts.join(" ")}`;
}

function after(ms: number): string {
  return ms === 0 ? "" : ` after ${ms} ms`;
}
