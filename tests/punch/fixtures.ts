/**
 * Descriptions of sides, for tests of plans, and an offer with one.
 *
 * @module
 */

import type { Candidate, PunchDescription } from "../../lib/punch/candidates.ts";
import type { NatProfile } from "../../lib/punch/nat_profile.ts";
import type { PunchOffer } from "../../lib/punch/offer.ts";

/** A side behind a port-restricted NAT that drops unsolicited SYNs, with some changes. */
export function punchSide(
  externalIp: string,
  profile: Partial<NatProfile> = {},
  changes: Partial<PunchDescription> = {},
): PunchDescription {
  const { mapping = "endpoint-independent" } = profile;
  const isKnown = mapping !== "address-dependent" && mapping !== "address-and-port-dependent";
  const punchPort = changes.punchPort ?? 40_000;
  return {
    profile: {
      mapping,
      filtering: "address-and-port-dependent",
      unsolicitedSyn: "dropped",
      allocation: { kind: "preserving", delta: 0, range: null },
      onlyForNeighbours: false,
      externalIp,
      samples: [],
      ...profile,
    },
    candidates: isKnown ? [reflexive(externalIp, punchPort)] : [],
    punchPort,
    canListenBeside: true,
    ...changes,
  };
}

/** The profile of a symmetric NAT, with some changes. */
export function symmetric(profile: Partial<NatProfile>): Partial<NatProfile> {
  return { mapping: "address-and-port-dependent", ...profile };
}

/** Ports that go up by one. */
export const SEQUENTIAL: Partial<NatProfile> = symmetric({
  allocation: { kind: "sequential", delta: 1, range: [30_000, 30_002] },
  samples: [30_000, 30_001, 30_002].map((externalPort, index) => ({
    localPort: 50_000 + 3 * index,
    externalPort,
  })),
});

/** Ports without a pattern. */
export const RANDOM: Partial<NatProfile> = symmetric({
  allocation: { kind: "random", delta: null, range: [2_000, 62_000] },
});

/** An address as a STUN server sees it. */
export function reflexive(ip: string, port: number): Candidate {
  return { kind: "reflexive", address: { ip, port } };
}

/** The address of an interface. */
export function hostCandidate(ip: string, port = 40_000): Candidate {
  return { kind: "host", address: { ip, port } };
}

/** An offer with all fields. */
export const OFFER: PunchOffer = {
  role: "controlled",
  key: "0123456789abcdef".repeat(4),
  answers: null,
  isWaiting: true,
  round: 1,
  sampleAgeMs: 12.5,
  side: {
    profile: {
      mapping: "endpoint-independent",
      filtering: "address-and-port-dependent",
      unsolicitedSyn: "dropped",
      allocation: { kind: "preserving", delta: 0, range: [20_000, 20_003] },
      onlyForNeighbours: false,
      externalIp: "203.0.113.2",
      samples: [{ localPort: 20_000, externalPort: 20_000 }],
    },
    candidates: [reflexive("203.0.113.2", 40_000), hostCandidate("192.168.1.2")],
    punchPort: 40_000,
    canListenBeside: true,
  },
};
