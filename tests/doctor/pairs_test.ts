/**
 * What `doctor --with` predicts for pairs of networks is what happens, and the network that it blames is the one that
 * has to change: both in the simulated internet.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { expectPair, pairReport } from "../../lib/doctor/pair_plan.ts";
import { redacted } from "../../lib/doctor/redaction.ts";
import {
  decodeReport,
  type Expectation,
  type PairReport,
} from "../../lib/doctor/report_message.ts";
import { tryPair } from "../../lib/doctor/try_pair.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { STUN_SERVERS } from "../scenes/homes.ts";
import {
  type DoctorScene,
  inDoctorScene,
  MEET_URL,
  type NetworkKind,
  type NetworkName,
  NETWORKS,
} from "./doctor_scene.ts";

/** 40 of the 66 pairs of each network with each. */
const PAIRS: readonly (readonly [NetworkName, NetworkName])[] = pairsOf(
  Object.keys(NETWORKS) as NetworkName[],
).filter((_, index) => index * 40 % 66 < 40);

Deno.test("doctor --with: of 40 pairs, at least 38 do what was predicted, and the blamed network is to blame", async () => {
  const wrong: string[] = [];
  const blamedWrongly: string[] = [];
  for (const [index, [a, b]] of PAIRS.entries()) {
    const { expected, outcome, report } = await play(NETWORKS[a], NETWORKS[b], index + 1);
    if (expected !== outcome) wrong.push(`${a} x ${b}: ${expected} expected, ${outcome}`);
    if (outcome === "direct") continue;
    const { fault } = report;
    assert(fault !== null);
    // Whoever is to blame gets the network that most people have: then the two have to connect directly.
    const here = fault === "the other network" ? NETWORKS[a] : NETWORKS.home;
    const there = fault === "this network" ? NETWORKS[b] : NETWORKS.home;
    const repaired = await play(here, there, index + 1);
    if (repaired.outcome !== "direct") blamedWrongly.push(`${a} x ${b}: ${fault}`);
  }
  assertEquals(PAIRS.length, 40);
  assert(wrong.length <= 2, wrong.join("\n"));
  assertEquals(blamedWrongly, []);
});

/** Examines both networks, predicts, and tries. */
async function play(
  a: NetworkKind,
  b: NetworkKind,
  seed: number,
): Promise<{ expected: Expectation; outcome: Expectation; report: PairReport }> {
  return await inDoctorScene({ a, b, seed }, async (scene) => {
    const here = await scene.examine(scene.a);
    const there = decodeReport(JSON.stringify(
      redacted(await scene.examine(scene.b), { isFull: false }),
    ));
    const expected = expectPair(here.profile, there.profile).expectation;
    const tried = await connectBoth(scene);
    const report = pairReport(here.profile, there, tried);
    return { expected, outcome: tried.outcome, report };
  });
}

async function connectBoth({ a, b }: DoctorScene): Promise<NonNullable<PairReport["tried"]>> {
  const options = { servers: STUN_SERVERS, signaling: [MEET_URL], mapPorts: false };
  let listener: Peer;
  try {
    listener = await Peer.open({ ...options, network: b.network });
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error;
    return { outcome: "none", isAnswered: true, reason: error.message, elapsedMs: 0 }; // there is no ticket
  }
  const accepted = (async () => {
    for await (const incoming of listener) {
      await using connection = await incoming.accept();
      await connection.finished.catch(() => {}); // the other side goes without a word
    }
  })().catch(() => {}); // the listener is closed
  const tried = await tryPair(listener.ticket, { ...options, network: a.network });
  await listener[Symbol.asyncDispose]();
  await accepted;
  return tried;
}

function pairsOf<T>(items: readonly T[]): [T, T][] {
  return items.flatMap((a, index) => items.slice(0, index + 1).map((b): [T, T] => [a, b]));
}
