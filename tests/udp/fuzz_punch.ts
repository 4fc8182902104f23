/**
 * Random inputs for the connectivity checks of a punch by UDP and for the cipher of datagrams, and what must hold after
 * each.
 *
 * @module
 */

import { assert } from "@std/assert";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { PunchPlan } from "../../lib/punch/plan_types.ts";
import {
  initialUdpChecksState,
  stepUdpChecks,
  udpChecksWakeAtMs,
} from "../../lib/punch/udp_check_engine.ts";
import {
  NOMINATION,
  type UdpChecksEvent,
  type UdpChecksState,
} from "../../lib/punch/udp_check_types.ts";
import { DatagramCipher } from "../../lib/udp/datagram_cipher.ts";
import { mutate, pick, randomBytes } from "../fuzz/mutate.ts";
import { type Random, randomInteger } from "../simnet/random.ts";
import type { UdpFuzzTarget } from "./fuzz_check.ts";

/** The engine of the punch, and the cipher. */
export const PUNCH_TARGETS: readonly UdpFuzzTarget[] = [
  { name: "connectivity checks", start: fuzzChecks },
  { name: "datagram cipher", start: fuzzCipher },
];

function fuzzChecks(random: Random): () => boolean {
  const role = pick(random, ["controlling", "controlled"] as const);
  const hasRival = random() < 0.5;
  const carryingMs = random() < 0.2 ? 240_000 : 0;
  const fresh = () => {
    const { state } = stepUdpChecks(
      initialUdpChecksState(randomPlan(random), { role, hasRival, carryingMs }),
      { kind: "started" },
      0,
    );
    return state;
  };
  let state: UdpChecksState = fresh();
  let [nowMs, sent, found] = [0, 0, 0];
  let steps = 0;
  return () => {
    if (state.phase === "over" || ++steps % 200 === 0) {
      state = fresh();
      [nowMs, sent, found] = [0, 0, 0];
    }
    nowMs += random() < 0.05 ? random() * 500 : random() * 5;
    const { state: next, actions } = stepUdpChecks(state, randomEvent(random, state), nowMs);
    state = next;
    for (const { kind } of actions) {
      if (kind === "found") found++;
      if (["probe", "answer", "nominate", "acknowledge"].includes(kind)) sent++;
    }
    assert(sent <= 1300 + 24, `${sent} datagrams`);
    assert(found <= 3, `${found} paths`);
    assert(state.pending.length <= 8 && state.nominations <= 3, "nominations");
    assert(state.checks.length < 2700, `${state.checks.length} checks`);
    assert(!Number.isNaN(udpChecksWakeAtMs(state)), "timer");
    const isValid = state.nomination === null ||
      state.checks.some(({ phase, socket, target }) =>
        phase === "valid" && socket === state.nomination!.socket &&
        target.port === state.nomination!.remote.port
      );
    assert(isValid, "a pair was nominated that has not answered");
    return actions.length > 0;
  };
}

function randomPlan(random: Random): PunchPlan {
  const isSpray = random() < 0.3;
  return {
    method: isSpray ? "birthday" : "simultaneous-open",
    reachable: [],
    dials: [{
      from: pick(random, ["punch", "fresh"] as const),
      targets: Array.from({ length: isSpray ? 100 : randomInteger(random, 1, 5) }, () => {
        return anAddress(random);
      }),
      perTarget: 1,
      startMs: random() * 100,
      spacingMs: random(),
      maxTries: isSpray ? 1 : 200,
      timeoutMs: 12_000,
    }],
    listens: true,
    birthdaySyns: 0,
    successEstimate: random(),
    roundTripsEstimate: 1,
    reason: "",
  };
}

function randomEvent(random: Random, state: UdpChecksState): UdpChecksEvent {
  const known = pick(random, state.checks);
  const isKnown = random() < 0.7;
  const [socket, from] = isKnown
    ? [known.socket, known.target]
    : [randomInteger(random, 0, 3), anAddress(random)];
  const counter = randomInteger(random, 0, 3000);
  const isAllowed = random() < 0.9;
  const chance = random();
  if (chance < 0.3) return { kind: "time" };
  if (chance < 0.6) return { kind: "probe", socket, from, counter, isAllowed };
  if (chance < 0.85) {
    const check = random() < 0.2
      ? NOMINATION
      : isKnown
      ? state.checks.indexOf(known)
      : randomInteger(random, 0, 2 ** 31);
    return { kind: "answer", socket, from, value: { check, index: randomInteger(random, 0, 4) } };
  }
  if (chance < 0.95) {
    const index = randomInteger(random, 0, 5);
    return { kind: "nominate", socket, from, counter, isAllowed, index };
  }
  if (chance < 0.97) return { kind: "rival" };
  return { kind: "refused", check: state.checks.indexOf(known) };
}

function anAddress(random: Random): TransportAddress {
  return { ip: "192.0.2.1", port: randomInteger(random, 1024, 1064) };
}

function fuzzCipher(random: Random): () => boolean {
  const keys = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)] as const;
  const [a, b] = [new DatagramCipher(keys[0], keys[1]), new DatagramCipher(keys[1], keys[0])];
  const opened = new Set<string>();
  let last = a.seal(new Uint8Array(1));
  return () => {
    const chance = random();
    if (chance < 0.5) last = a.seal(randomBytes(random, randomInteger(random, 0, 60)));
    const bytes = chance < 0.7
      ? last
      : chance < 0.95
      ? mutate(random, last)
      : randomBytes(random, randomInteger(random, 0, 80));
    const message = b.open(bytes);
    if (message === undefined) return false;
    const id = bytes.toHex();
    assert(!opened.has(id), "a message counts twice");
    opened.add(id);
    return true;
  };
}
