/**
 * Short ways to write probes and replies in tests of the plans and classifiers.
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";
import type { Probe, ProbeSpec, SuccessReply } from "../../lib/nat/probe.ts";

/** The four transport addresses of a server. */
export const A1P1: TransportAddress = { ip: "203.0.113.9", port: 3478 };
export const A1P2: TransportAddress = { ip: "203.0.113.9", port: 3479 };
export const A2P1: TransportAddress = { ip: "203.0.113.10", port: 3478 };
export const A2P2: TransportAddress = { ip: "203.0.113.10", port: 3479 };

/** The external address. */
export const EXTERNAL: TransportAddress = { ip: "198.51.100.1", port: 6000 };

/** A plain request to A1:P1 from the mapping socket at time 0, except for the changes. */
export function probe(changes: Partial<Probe> = {}): Probe {
  return {
    socket: "mapping",
    server: 0,
    test: "binding",
    to: A1P1,
    localPort: 5000,
    sentAtMs: 0,
    ...changes,
  };
}

/** The same with a reply: after 50 ms, from the address that was asked, with OTHER-ADDRESS A2:P2, except for the changes. */
export function answered(changes: Partial<Probe> = {}, reply: Partial<SuccessReply> = {}): Probe {
  const asked = probe(changes);
  return {
    ...asked,
    reply: {
      kind: "success",
      atMs: asked.sentAtMs + 50,
      from: asked.to,
      mapped: EXTERNAL,
      other: A2P2,
      isRfc3489: false,
      ...reply,
    },
  };
}

/** `"mapping binding 203.0.113.9:3478"`, sorted. */
export function describe(specs: readonly ProbeSpec[]): string[] {
  return specs.map(({ socket, test, to, respondTo }) =>
    `${socket} ${test} ${to.ip}:${to.port}${respondTo ? ` to ${respondTo.port}` : ""}`
  ).sort();
}
