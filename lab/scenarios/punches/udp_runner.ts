/**
 * Punches by UDP, for `punch_runner.ts`.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { UnreachableError } from "../../../lib/base/errors.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import { secureConnectionFromKeys } from "../../../lib/noise/secure_connection.ts";
import { pathKeys } from "../../../lib/peer/ticket.ts";
import { DialBudget } from "../../../lib/punch/limits.ts";
import type { DirectPathKind } from "../../../lib/punch/path_kinds.ts";
import { prepareWith, type PunchPlan, punchWithin } from "../../../lib/punch/punch.ts";
import { type FoundUdpPath, udpPunching } from "../../../lib/punch/udp_punch.ts";
import type { SignalChannel } from "../../../lib/signal/channel.ts";
import type { RunnerCommand, RunnerResult } from "./runner_types.ts";

/** Runs a punch by UDP alone. */
export async function runUdp(
  { role, servers, timeoutMs, callAtMs = 0 }: RunnerCommand,
  open: (stack: AsyncDisposableStack) => Promise<SignalChannel>,
): Promise<RunnerResult> {
  const punching = udpPunching(true);
  await using stack = new AsyncDisposableStack();
  const channel = await open(stack);
  const base = await prepareWith(punching, { servers });
  const found = Promise.withResolvers<{ path: FoundUdpPath; atMs: number } | undefined>();
  let confirmedAtMs = NaN;
  const over = new AbortController();
  const race = punching.race({
    network: systemNetwork,
    role,
    pathKinds: UDP_KINDS,
    budget: new DialBudget(),
    onPath: (path) => found.resolve({ path, atMs: epochMs() }),
    onConfirmed: () => confirmedAtMs = epochMs(),
  });
  const timer = setTimeout(() => {
    race.stop();
    over.abort(new Error("too late"));
  }, timeoutMs);
  await delay(Math.max(0, callAtMs - epochMs()));
  const startedAtMs = epochMs();
  let dialledAtMs = NaN;
  let plan: PunchPlan | undefined;
  const tcp = punchWithin(new DialBudget(), {
    servers,
    role,
    channel,
    base,
    pathKinds: UDP_KINDS,
    udp: race,
    udpPunching: punching,
    onPlan: (each) => {
      dialledAtMs = epochMs();
      plan ??= each;
    },
    until: over.signal,
  }).catch((error) => error as Error).finally(() =>
    race.end().then(() => found.resolve(undefined))
  );
  const result = await found.promise;
  if (result === undefined) {
    clearTimeout(timer);
    const error = await tcp;
    const message = error instanceof Error ? error.message : "a connection by TCP";
    const tries = race.attempts.reduce((sum, attempt) => sum + attempt.tries, 0);
    if (!(error instanceof UnreachableError)) return { outcome: "error", message };
    return { outcome: "unreachable", startedAtMs, endedAtMs: epochMs(), message, tries };
  }
  const { path, atMs } = result;
  const { connection, channelBinding } = path;
  const local = `${connection.local.port}`;
  // As a peer encrypts a path: the keys are there, and the first record goes out at once.
  const keys = pathKeys(CONNECTION_KEY, channelBinding, role);
  const encrypted = secureConnectionFromKeys(connection, keys);
  await encrypted.write(new TextEncoder().encode(`${local}\n`));
  let received = "";
  const buffer = new Uint8Array(64);
  while (!received.endsWith("\n")) {
    const count = await encrypted.read(buffer);
    if (count === null) break;
    received += new TextDecoder().decode(buffer.subarray(0, count));
  }
  const receivedAtMs = epochMs();
  race.stop(); // it would answer repeated nominations for a while, but both sides know
  over.abort(new Error("over"));
  await tcp;
  clearTimeout(timer);
  connection.close();
  await connection.released;
  return {
    outcome: "connected",
    method: path.method ?? "direct",
    reason: plan?.reason ?? "",
    startedAtMs,
    dialledAtMs,
    establishedAtMs: atMs,
    nominatedAtMs: Number.isNaN(confirmedAtMs) ? receivedAtMs : confirmedAtMs,
    rounds: 1,
    estimate: race.successEstimate,
    tries: race.attempts.reduce((sum, attempt) => sum + attempt.tries, 0),
    local,
    remote: `${connection.remote.ip}:${connection.remote.port}`,
    received: received.trim(),
    receivedAtMs,
    answeredAtMs: dialledAtMs + (race.answeredMs ?? Infinity),
  };
}

function epochMs(): number {
  return performance.timeOrigin + performance.now();
}

/** Peers have it from the handshake over signaling. */
const CONNECTION_KEY = new Uint8Array(32);

const UDP_KINDS: ReadonlySet<DirectPathKind> = new Set(["punch-udp"]);
