/**
 * The events of a peer and of a connection, as types: a program can tell them apart by one field, knows what each has, and
 * is told by the compiler if it forgets one. `deno check` does the work; the tests run what it has checked.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type {
  CodeEvent,
  CodeOptions,
  ConnectionEvent,
  Finding,
  MappingEvent,
  Peer,
  PeerConnection,
  PeerEvent,
  PeerOptions,
  PeerPath,
  PeerProgress,
  PortMapping,
  SessionEvent,
  SessionOptions,
  SignalingState,
} from "../../mod.ts";

/** `true` if the types are the same, in both directions. */
type Same<A, B> = [A] extends [B] ? [B] extends [A] ? true : false : false;

/** What has this event in its field `event`. */
type Of<Event extends { readonly event: string }, Name extends Event["event"]> = Extract<
  Event,
  { readonly event: Name }
>;

const SAME: readonly true[] = [
  // Where a program gets them from.
  true satisfies Same<Peer["events"], AsyncIterable<ConnectionEvent>>,
  true satisfies Same<PeerConnection["events"], AsyncIterable<PeerEvent>>,
  true satisfies Same<Parameters<NonNullable<PeerOptions["onProgress"]>>, [progress: PeerProgress]>,
  true satisfies Same<Parameters<NonNullable<CodeOptions["onEvent"]>>, [event: CodeEvent]>,
  true satisfies Same<Parameters<NonNullable<SessionOptions["onEvent"]>>, [event: SessionEvent]>,
  true satisfies Same<PortMapping["events"], AsyncIterable<MappingEvent>>,
  // Which there are.
  true satisfies Same<PeerEvent["event"], "path" | "stalled" | "resumed" | "lost">,
  true satisfies Same<ConnectionEvent["event"], "opened" | "ended">,
  true satisfies Same<PeerProgress["event"], "signaling" | "answered" | "finding">,
  true satisfies Same<SessionEvent["event"], "attached" | "stalled" | "resumed" | "lost" | "ended">,
  // What each has.
  true satisfies Same<keyof Of<ConnectionEvent, "opened">, "event" | "connection">,
  true satisfies Same<keyof Of<ConnectionEvent, "ended">, "event" | "connection" | "error">,
  true satisfies Same<ConnectionEvent["connection"], PeerConnection>,
  true satisfies Same<Of<PeerEvent, "path">["path"], PeerPath>,
  true satisfies Same<Of<PeerEvent, "lost">["reason"], string>,
  true satisfies Same<Of<PeerProgress, "signaling">["state"], SignalingState>,
  true satisfies Same<Of<PeerProgress, "answered">["url"], string>,
  true satisfies Same<Of<PeerProgress, "finding">["finding"], Finding>,
];

Deno.test("each event of a connection and of a peer is told apart by one field, without a cast", () => {
  const path: PeerPath = {
    ...{ kind: "direct", method: null, transport: "tcp", local: "192.0.2.1:1" },
    ...{ remote: "192.0.2.2:2", relayed: false, rttMs: null },
  };
  const words = [
    inWords({ event: "path", path }),
    inWords({ event: "lost", reason: "no answer" }),
    inWords({ event: "signaling", url: "lan:", state: "open" }),
    inWords({ event: "answered", url: "lan:" }),
    inWords({ event: "finding", finding: { kind: "mtu", summary: "a hole", remedy: "-" } }),
  ];
  assertEquals(words, ["direct", "no answer", "lan: is open", "answered by lan:", "a hole"]);
  assertEquals(SAME.every((each) => each), true);
});

Deno.test("a connection that comes or goes is told apart by its event, and only one that goes has an error", () => {
  const connection = { remoteId: "ann" } as PeerConnection;
  const events: ConnectionEvent[] = [
    { event: "opened", connection },
    { event: "ended", connection, error: undefined },
    { event: "ended", connection, error: new Error("it was reset") },
  ];
  assertEquals(events.map(memberInWords), [
    "ann is here",
    "ann has left",
    "ann has left: Error: it was reset",
  ]);
});

Deno.test("what happens to a code is told apart by its kind", () => {
  assertEquals(
    [codeInWords({ kind: "offered", code: "7-a-b-c" }), codeInWords({ kind: "spent" })],
    [
      "7-a-b-c",
      "spent",
    ],
  );
});

function inWords(event: PeerEvent | PeerProgress): string {
  // @ts-expect-error an event that is not told apart yet has no field of one of them
  void event.path;
  switch (event.event) {
    case "path":
      return event.path.kind;
    case "lost":
      return event.reason;
    case "stalled":
    case "resumed":
      return event.event;
    case "signaling":
      return `${event.url} is ${event.state}`;
    case "answered":
      return `answered by ${event.url}`;
    case "finding":
      return event.finding.summary;
    default:
      return event satisfies never; // one that is not handled is an error of the compiler
  }
}

function memberInWords(event: ConnectionEvent): string {
  // @ts-expect-error a connection that may have come has no error
  void event.error;
  const { remoteId } = event.connection;
  switch (event.event) {
    case "opened":
      return `${remoteId} is here`;
    case "ended":
      return `${remoteId} has left${event.error === undefined ? "" : `: ${event.error}`}`;
    default:
      return event satisfies never;
  }
}

function codeInWords(event: CodeEvent): string {
  switch (event.kind) {
    case "offered":
      return event.code;
    case "wrong-guess":
      return `${event.guessesLeft}`;
    case "unavailable":
      return event.reason;
    case "out-of-guesses":
    case "spent":
    case "expired":
      return event.kind;
    default:
      return event satisfies never;
  }
}
