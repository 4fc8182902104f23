/** The request for a UPnP mapping as a table: every phase with every event. */

import { assertEquals } from "@std/assert";
import type { MappingGrant, MappingRequest } from "../../lib/portmap/mapper.ts";
import type { PortMappingEntry } from "../../lib/portmap/upnp/actions.ts";
import type { FallbackContext } from "../../lib/portmap/upnp/fallbacks.ts";
import type { IgdFailure } from "../../lib/portmap/upnp/faults.ts";
import {
  type ClosingAction,
  type ClosingEvent,
  type MappingEngineEvent,
  type MappingPhase,
  type MappingState,
  type MappingStep,
  openClosing,
  openMapping,
  type RequestEnd,
  type SeenMapping,
  stepClosing,
  stepMapping,
} from "../../lib/portmap/upnp/mapping_engine.ts";

const REQUEST: MappingRequest = {
  protocol: "tcp",
  internal: { ip: "192.168.1.2", port: 8080 },
  lifetimeSeconds: 3600,
  description: "test",
};

/** A device with two connections. */
const CONTEXT: FallbackContext = {
  request: REQUEST,
  serviceVersions: [1, 1],
  otherPorts: [50_000, 50_001],
};

const HELD: MappingGrant = {
  ...REQUEST,
  mapper: "upnp",
  external: { ip: "44.0.0.7", port: 8080 },
  grantedAtMs: 0,
  gateway: "192.168.1.1",
  handle: "",
};

const HERE: PortMappingEntry = {
  protocol: "tcp",
  externalPort: 8080,
  internalClient: "192.168.1.2",
  internalPort: 8080,
  description: "test",
  leaseSeconds: 3600,
  enabled: true,
  remoteHost: "",
};
const RENAMED: PortMappingEntry = { ...HERE, description: "UPnP test (TCP)" };
const OTHER_PROGRAM: PortMappingEntry = { ...HERE, internalPort: 9000 };
const OTHER_HOST: PortMappingEntry = { ...HERE, internalClient: "192.168.1.77" };

function fault(code: number): IgdFailure {
  return { kind: "fault", code, description: "" };
}

const EVENTS: Readonly<Record<string, MappingEngineEvent>> = {
  "read: nothing": { kind: "read", entry: undefined },
  "read: hidden": { kind: "read", entry: "unknown" },
  "read: leads here": { kind: "read", entry: HERE },
  "read: leads here, renamed": { kind: "read", entry: RENAMED },
  "read: another program": { kind: "read", entry: OTHER_PROGRAM },
  "read: another host": { kind: "read", entry: OTHER_HOST },
  "answered": { kind: "answered", externalPort: undefined },
  "answered: another port": { kind: "answered", externalPort: 8081 },
  "refused: 606": { kind: "failed", failure: fault(606) },
  "refused: 604": { kind: "failed", failure: fault(604) },
  "refused: 718": { kind: "failed", failure: fault(718) },
  "refused: 404 of HTTP": { kind: "failed", failure: { kind: "http", status: 404, isBusy: false } },
  "garbled": { kind: "failed", failure: { kind: "garbled", problem: "" } },
  "500 of HTTP": { kind: "failed", failure: { kind: "http", status: 500, isBusy: true } },
  "hung up": { kind: "failed", failure: { kind: "reset" } },
  "unanswered": { kind: "failed", failure: { kind: "unanswered", problem: "" } },
  "silent": { kind: "silent" },
  "looked: here": { kind: "looked", seen: { kind: "here", service: 0, entry: HERE } },
  "looked: renamed": { kind: "looked", seen: { kind: "here", service: 0, entry: RENAMED } },
  "looked: on another service": {
    kind: "looked",
    seen: { kind: "here", service: 1, entry: HERE },
  },
  "looked: on another port": {
    kind: "looked",
    seen: { kind: "here", service: 0, entry: { ...HERE, externalPort: 8081 } },
  },
  "looked: another host": { kind: "looked", seen: { kind: "elsewhere", entry: OTHER_HOST } },
  "looked: nothing": { kind: "looked", seen: { kind: "nothing" } },
  "looked: hidden": { kind: "looked", seen: { kind: "hidden" } },
  "removed": { kind: "removed" },
};

type Row = Readonly<Record<string, string>>;

/** What a clear refusal leads to while the request runs. */
const REFUSALS: Row = {
  "refused: 606": "reading: read 8080 on 1",
  "refused: 604": "refused: 604",
  "refused: 404 of HTTP": "asking: ask 8080 on 0 as test, loose 8080",
};

/** What anything else than an answer or a refusal leads to. */
const DOUBTS: Row = {
  "answered": "looking: look, loose 8080",
  "answered: another port": "looking: look, loose 8080 8081",
  "garbled": "looking: look, loose 8080",
  "500 of HTTP": "looking: look, loose 8080",
  "hung up": "looking: look, loose 8080",
  "unanswered": "looking: look, loose 8080",
};

/** The next phase and action, in the notation of {@linkcode summaryOf}. An event that is missing changes nothing. */
const TABLE: Readonly<Record<string, Row>> = {
  "reading": {
    "read: nothing": "asking: ask 8080 on 0 as test, loose 8080",
    "read: hidden": "asking: ask 8080 on 0 as test, loose 8080",
    "read: leads here": "reading: read 50000 on 0", // another run's, or another program's
    "read: leads here, renamed": "reading: read 50000 on 0",
    "read: another program": "reading: read 50000 on 0",
    "read: another host": "reading: read 50000 on 0",
  },
  "reading, held": {
    "read: nothing": "asking: ask 8080 on 0 as test",
    "read: hidden": "asking: ask 8080 on 0 as test",
    "read: leads here": "asking: ask 8080 on 0 as test",
    "read: leads here, renamed": "asking: ask 8080 on 0 as test",
    "read: another program": "reading: read 50000 on 0",
    "read: another host": "reading: read 50000 on 0",
  },
  "reading, exact": {
    "read: nothing": "asking: ask 8080 on 0 as test, loose 8080",
    "read: hidden": "asking: ask 8080 on 0 as test, loose 8080",
    "read: leads here": "refused: taken by this-host",
    "read: leads here, renamed": "refused: taken by this-host",
    "read: another program": "refused: taken by this-host",
    "read: another host": "refused: taken by another-host",
  },
  "asking": {
    ...DOUBTS,
    ...REFUSALS,
    "refused: 404 of HTTP": "asking: ask 8080 on 0 as test, loose 8080",
    "refused: 718": "asking: ask 8080 on 0 as test tcp 8080, loose 8080",
    "silent": "watching: look, loose 8080",
  },
  "asking, held": {
    "answered": "looking: look",
    "answered: another port": "looking: look, loose 8081",
    "garbled": "looking: look",
    "500 of HTTP": "looking: look",
    "hung up": "looking: look",
    "unanswered": "looking: look",
    "refused: 606": "reading: read 8080 on 1",
    "refused: 604": "refused: 604",
    "refused: 404 of HTTP": "asking: ask 8080 on 0 as test",
    "refused: 718": "removing: remove 8080 on 0", // a conflict with ourselves
    "silent": "watching: look",
  },
  "asking, held and made room": {
    "answered": "looking: look",
    "answered: another port": "looking: look, loose 8081",
    "garbled": "looking: look",
    "500 of HTTP": "looking: look",
    "hung up": "looking: look",
    "unanswered": "looking: look",
    "refused: 606": "reading: read 8080 on 1",
    "refused: 604": "refused: 604",
    "refused: 404 of HTTP": "asking: ask 8080 on 0 as test",
    "refused: 718": "asking: ask 8080 on 0 as test tcp 8080",
    "silent": "watching: look",
  },
  "watching": {
    ...DOUBTS,
    ...REFUSALS,
    "refused: 718": "asking: ask 8080 on 0 as test tcp 8080, loose 8080",
    "looked: here": "granted: 8080 on 0",
    "looked: renamed": "granted: 8080 on 0",
    "looked: on another service": "granted: 8080 on 1",
    "looked: on another port": "granted: 8081 on 0",
    "looked: another host": "watching: look, loose 8080",
    "looked: nothing": "watching: look, loose 8080",
    "looked: hidden": "watching: look, loose 8080",
  },
  "looking": {
    "looked: here": "granted: 8080 on 0",
    "looked: renamed": "granted: 8080 on 0",
    "looked: on another service": "granted: 8080 on 1",
    "looked: on another port": "granted: 8081 on 0",
    "looked: another host": "asking: ask 8080 on 0 as test tcp 8080, loose 8080",
    "looked: nothing": "reading: read 8080 on 1",
    "looked: hidden": "granted: 8080 on 0",
  },
  "looking, exact": {
    "looked: here": "granted: 8080 on 0",
    "looked: renamed": "granted: 8080 on 0",
    "looked: on another service": "granted: 8080 on 1",
    "looked: on another port": "removing: remove 8081 on 0, loose 8080",
    "looked: another host": "asking: ask 8080 on 0 as test tcp 8080, loose 8080",
    "looked: nothing": "reading: read 8080 on 1",
    "looked: hidden": "granted: 8080 on 0",
  },
  "looking, in doubt": {
    "looked: here": "granted: 8080 on 0",
    "looked: renamed": "granted: 8080 on 0",
    "looked: on another service": "granted: 8080 on 1",
    "looked: on another port": "granted: 8081 on 0",
    "looked: another host": "asking: ask 8080 on 0 as test tcp 8080, loose 8080",
    "looked: nothing": "asking: ask 8080 on 0 as test, loose 8080", // once more
    "looked: hidden": "removing: remove 8080 on 0, loose 8080",
  },
  "removing": { "removed": "asking: ask 8080 on 0 as test, loose 8080" },
  "removing, in doubt": { "removed": "asking: ask 8080 on 0 as test, loose 8080" },
  "granted": {},
  "refused": {},
};

for (const [name, row] of Object.entries(TABLE)) {
  for (const [what, event] of Object.entries(EVENTS)) {
    const expected = row[what];
    Deno.test(`a request that is ${name}, on "${what}": ${expected ?? "nothing"}`, () => {
      const step = stepMapping(stateOf(name), event);
      assertEquals(step === undefined ? undefined : summaryOf(step), expected);
    });
  }
}

Deno.test("a request begins by reading the port", () => {
  assertEquals(summaryOf(openMapping(CONTEXT)), "reading: read 8080 on 0");
});

Deno.test("a table that shows one entry for every port shows nothing", () => {
  const first = stepMapping(openMapping(CONTEXT).state, { kind: "read", entry: OTHER_HOST })!;
  const again = { kind: "read", entry: { ...OTHER_HOST, externalPort: 50_000 } } as const;
  const asking = stepMapping(first.state, again)!;
  assertEquals(summaryOf(asking), "asking: ask 50000 on 0 as test, loose 50000");
  const looking = stepMapping(asking.state, EVENTS["answered"]!)!;
  const granted = stepMapping(looking.state, EVENTS["looked: another host"]!)!;
  assertEquals(summaryOf(granted), "granted: 50000 on 0");
});

Deno.test("a request that finds nothing free ends, and names who has the port", () => {
  let step: MappingStep | undefined = openMapping(CONTEXT);
  const seen: string[] = [];
  while (step !== undefined) {
    seen.push(summaryOf(step));
    const internalPort: number = 8080 + seen.length;
    step = stepMapping(step.state, { kind: "read", entry: { ...OTHER_HOST, internalPort } });
  }
  assertEquals(seen, [
    "reading: read 8080 on 0",
    "reading: read 50000 on 0",
    "reading: read 50001 on 0",
    "refused: taken by another-host",
  ]);
});

Deno.test("a renewal that stays silent is granted only when the request is over", () => {
  const watching = stateOf("watching", [HELD]);
  assertEquals(
    summaryOf(stepMapping(watching, EVENTS["looked: here"]!)!),
    "watching: look, loose 8080",
  );
});

/** The state that a row of the table names. */
function stateOf(name: string, held: readonly MappingGrant[] = []): MappingState {
  const [phase, ...rest] = name.split(", ");
  const what = rest.join(", ");
  const request: MappingRequest = {
    ...REQUEST,
    held: what.startsWith("held") ? [HELD] : held,
    exactExternalPort: what === "exact",
  };
  const { state } = openMapping({ ...CONTEXT, request });
  const isAsked = phase !== "reading" && !what.startsWith("held");
  return {
    ...state,
    phase: phase as MappingPhase,
    attempt: { ...state.attempt, isFree: phase !== "reading" },
    doubt: what === "in doubt" ? { kind: "reset" } : undefined,
    hasMadeRoom: what.endsWith("made room"),
    loose: isAsked ? [{ service: 0, externalPort: 8080 }] : [],
  };
}

function summaryOf({ state, action }: MappingStep): string {
  const { phase, attempt, loose } = state;
  const open = loose.length === 0
    ? ""
    : `, loose ${loose.map(({ externalPort }) => externalPort).join(" ")}`;
  switch (action.kind) {
    case "read":
      return `${phase}: read ${attempt.externalPort} on ${attempt.service}`;
    case "ask":
      return `${phase}: ask ${attempt.externalPort} on ${attempt.service} as ${attempt.description}${open}`;
    case "look":
      return `${phase}: look${open}`;
    case "remove":
      return `${phase}: remove ${action.port.externalPort} on ${action.port.service}${open}`;
    case "grant":
      return `${phase}: ${action.granted.externalPort} on ${action.granted.service}`;
    case "refuse":
      return `${phase}: ${reasonOf(action.failure)}`;
  }
}

function reasonOf(failure: IgdFailure): string {
  if (failure.kind === "fault") return `${failure.code}`;
  return failure.kind === "taken" ? `taken by ${failure.by}` : failure.kind;
}

const PORT = { service: 0, externalPort: 8080 };
const SECOND = { service: 1, externalPort: 9090 };
const ENDED: RequestEnd = {};
const NOTHING: SeenMapping = { kind: "nothing" };
const HIDDEN: SeenMapping = { kind: "hidden" };
const SEEN_ON_SECOND: SeenMapping = { kind: "here", service: 1, entry: HERE };
const look = (port: typeof PORT, isUrgent: boolean): ClosingAction => ({
  kind: "look",
  port,
  isUrgent,
});
const looked = (seen: SeenMapping): ClosingEvent => ({ kind: "looked", seen });
const deleted = (end?: RequestEnd): ClosingEvent => ({ kind: "deleted", end });
const waited = (end?: RequestEnd): ClosingEvent => ({ kind: "waited", end });

/** What is loose, how the request ended before closing began, and each event with the action that follows. */
const CLOSING: Readonly<
  Record<string, {
    readonly loose: readonly (typeof PORT)[];
    readonly end?: RequestEnd;
    readonly first: ClosingAction;
    readonly then: readonly (readonly [ClosingEvent, ClosingAction])[];
  }>
> = {
  "nothing is loose: nothing is looked up": {
    loose: [],
    first: { kind: "end" },
    then: [],
  },
  "a port that is there is deleted where it is": {
    loose: [PORT],
    first: look(PORT, true),
    then: [
      [looked(SEEN_ON_SECOND), { kind: "delete", port: { service: 1, externalPort: 8080 } }],
      [deleted(), { kind: "end" }],
    ],
  },
  "while the request goes on, a port that is not there is looked up again": {
    loose: [PORT],
    first: look(PORT, true),
    then: [
      [looked(NOTHING), { kind: "wait" }],
      [waited(), look(PORT, true)],
      [looked(HIDDEN), { kind: "wait" }],
      [waited(ENDED), look(PORT, false)],
      [looked(NOTHING), { kind: "end" }],
    ],
  },
  "a table that hides what it has is believed to have the port once the request has ended": {
    loose: [PORT],
    end: ENDED,
    first: look(PORT, false),
    then: [
      [looked(HIDDEN), { kind: "delete", port: PORT }],
      [deleted(ENDED), { kind: "end" }],
    ],
  },
  "the port that the device chose is the one to close": {
    loose: [PORT],
    first: look(PORT, true),
    then: [
      [looked(NOTHING), { kind: "wait" }],
      [waited({ externalPort: 50_000 }), look({ service: 0, externalPort: 50_000 }, false)],
      [looked(HIDDEN), { kind: "delete", port: { service: 0, externalPort: 50_000 } }],
    ],
  },
  "a port of another host is left alone": {
    loose: [PORT],
    end: ENDED,
    first: look(PORT, false),
    then: [[looked({ kind: "elsewhere", entry: OTHER_HOST }), { kind: "end" }]],
  },
  "ports are closed one after the other": {
    loose: [PORT, SECOND],
    end: ENDED,
    first: look(PORT, false),
    then: [
      [looked(NOTHING), look(SECOND, false)],
      [looked(HIDDEN), { kind: "delete", port: SECOND }],
      [deleted(ENDED), { kind: "end" }],
    ],
  },
};

for (const [name, { loose, end, first, then }] of Object.entries(CLOSING)) {
  Deno.test(`stepClosing(): ${name}`, () => {
    let { state, action } = openClosing(loose, end);
    assertEquals(action, first);
    for (const [event, next] of then) {
      ({ state, action } = stepClosing(state, event));
      assertEquals(action, next);
    }
  });
}
