/**
 * The kinds of NATs that people meet, as profiles.
 *
 * @module
 */

import type { NatProfile, PortPair } from "./candidates.ts";

/** By the names that {@linkcode nameNat} gives them. */
export const NAT_KINDS: readonly NatProfile[] = [
  kind({ mapping: "none", filtering: "none", unsolicitedSyn: "accepted" }),
  kind({ filtering: "endpoint-independent", unsolicitedSyn: "accepted" }),
  kind({ filtering: "address-dependent" }),
  kind({}),
  kind({ unsolicitedSyn: "reset" }),
  kind({ mapping: "none" }),
  symmetric({ allocation: { kind: "preserving", delta: 0, range: null } }),
  symmetric({ allocation: { kind: "offset", delta: 100, range: null } }),
  symmetric({
    allocation: { kind: "sequential", delta: 1, range: [30_000, 30_004] },
    samples: sample(30_000, 30_001, 30_002, 30_003, 30_004),
  }),
  symmetric({
    allocation: { kind: "sequential", delta: 1, range: [30_000, 30_004] },
    onlyForNeighbours: true,
    samples: sample(30_000, 30_001, 30_002, 30_003, 30_004),
  }),
  symmetric({
    allocation: { kind: "random", delta: null, range: [20_100, 20_900] },
    samples: sample(20_300, 20_900, 20_100, 20_700, 20_500),
  }),
  symmetric({
    allocation: { kind: "random", delta: null, range: [2_000, 62_000] },
    samples: sample(62_000, 17_000, 2_000, 47_000, 32_000),
  }),
  kind({ mapping: "unknown", filtering: "unknown", unsolicitedSyn: "unknown" }),
];

function kind(changes: Partial<NatProfile>): NatProfile {
  return {
    mapping: "endpoint-independent",
    filtering: "address-and-port-dependent",
    unsolicitedSyn: "dropped",
    allocation: { kind: "preserving", delta: 0, range: null },
    onlyForNeighbours: false,
    externalIp: "192.0.2.1",
    samples: [],
    ...changes,
  };
}

function symmetric(changes: Partial<NatProfile>): NatProfile {
  return kind({ mapping: "address-and-port-dependent", ...changes });
}

function sample(...externalPorts: readonly number[]): PortPair[] {
  return externalPorts.map((externalPort, index) => ({ localPort: 50_000 + index, externalPort }));
}
