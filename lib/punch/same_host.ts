/**
 * Proves that the peer is on this host, before an address of this host is dialled because the peer says so.
 *
 * Both sides meet at UDP ports of the loopback address that are the same everywhere: no peer chooses them. Each takes a
 * free one, sends a token to the port that the other side tries first, and soon to the others as well. The side that
 * receives the other one's token from loopback answers with its own. A token is derived from the keys in both offers, of
 * which each side has made one at random, so it answers both at once:
 *
 * ```text
 * HMAC-SHA256(punch secret, "same host " | role), spelled as in a greeting
 * ```
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { hmac } from "../base/crypto.ts";
import { NetworkError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { Deadline, idleDelay } from "../base/timers.ts";
import { ipScope } from "../net/address.ts";
import type { Network, UdpSocket } from "../net/network.ts";
import { claimsSameHost } from "./candidates.ts";
import { punchSecret, spell } from "./nomination.ts";
import type { BothOffers, PunchRole } from "./offer.ts";
import { delay } from "@std/async/delay";

/** What the proof needs. */
export interface SameHostOptions {
  readonly network: Network;
  readonly role: PunchRole;
  /** As in {@linkcode punchSecret}: known to both sides and to no one else. */
  readonly secret: Uint8Array;
  /** How long to wait for the other side, in milliseconds. Default: a second. */
  readonly timeoutMs?: number;
  readonly signal: AbortSignal;
}

/**
 * Whether the peer claims to be on this host, and proves it.
 *
 * @param options.sharedSecret as in {@linkcode punchSecret}
 * @throws the signal's reason on abort
 */
export async function isPeerOnSameHost(
  { network, role, sharedSecret }: Pick<SameHostOptions, "network" | "role"> & {
    readonly sharedSecret: Uint8Array;
  },
  { local, remote }: BothOffers,
  wait: Pick<SameHostOptions, "timeoutMs" | "signal">,
): Promise<boolean> {
  if (!claimsSameHost(local.side, remote.side)) return false;
  const secret = punchSecret(local, remote, sharedSecret);
  return await isOnSameHost({ network, role, secret, ...wait });
}

/**
 * Whether the peer is on this host. It takes as long as the other side needs to receive this side's offer, and the
 * whole timeout if it is on another host.
 *
 * @throws the signal's reason on abort
 */
export async function isOnSameHost(options: SameHostOptions): Promise<boolean> {
  const { network, role, secret, timeoutMs = TIMEOUT_MS, signal } = options;
  using deadline = new Deadline(timeoutMs, signal);
  const otherRole = role === "controlling" ? "controlled" : "controlling";
  using socket = await bindFree(network, portsFor(secret, role), deadline.signal);
  signal.throwIfAborted();
  if (socket === undefined) return false;
  const token = tokenOf(secret, role);
  const expected = tokenOf(secret, otherRole);
  await using sending = new TaskGroup(() => {}); // a token that cannot be sent is one that does not arrive
  sending.run((ended) => sendNowAndThen(socket, portsFor(secret, otherRole), token, ended));
  try {
    for (;;) {
      const { data, from } = await socket.receive({ signal: deadline.signal });
      // No packet from another host has such a source: RFC 1122 §3.2.1.3.
      if (ipScope(from.ip) !== "loopback" || !equalBytes(data, expected)) continue;
      await sendTo(socket, from.port, token); // it may have started after this side's last token
      return true;
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error === deadline.signal.reason || error instanceof NetworkError) return false;
    throw error;
  }
}

/** A socket on the first of the ports that is free; `undefined` if none becomes free in time, or without permission. */
async function bindFree(
  network: Network,
  ports: readonly number[],
  signal: AbortSignal,
): Promise<UdpSocket | undefined> {
  while (!signal.aborted) {
    for (const port of ports) {
      try {
        return await network.bindUdp({ ip: LOOPBACK, port });
      } catch (error) {
        if (!(error instanceof NetworkError)) throw error;
        if (error.reason !== "address-in-use") return undefined;
      }
    }
    await idleDelay(FULL_MS, signal); // other pairs need theirs for a few milliseconds
  }
  return undefined;
}

/** Almost always the other side has the first port. If others were there before it, it has a later one. */
async function sendNowAndThen(
  socket: UdpSocket,
  ports: readonly number[],
  token: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  await sendTo(socket, ports[0]!, token);
  for (const pauseMs of PAUSES_MS) {
    await delay(pauseMs, { signal });
    for (const port of ports) await sendTo(socket, port, token);
  }
}

async function sendTo(socket: UdpSocket, port: number, token: Uint8Array): Promise<void> {
  if (port === socket.local.port) return;
  try {
    await socket.send(token, { ip: LOOPBACK, port });
  } catch (error) {
    // An earlier datagram may have been refused at a port that is free.
    if (!(error instanceof NetworkError)) throw error;
  }
}

function tokenOf(secret: Uint8Array, role: PunchRole): Uint8Array<ArrayBuffer> {
  return spell(hmac("sha256", secret, new TextEncoder().encode(`same host ${role}`)));
}

/**
 * The ports of a side, in the order in which it tries them. Both sides of a pair have the same neighbours among our ports,
 * so that pairs rarely meet, and begin at opposite ends of them.
 */
function portsFor(secret: Uint8Array, role: PunchRole): number[] {
  const first = role === "controlling" ? 0 : PAIR_PORTS / 2;
  return Array.from({ length: PAIR_PORTS }, (_, index) => {
    return FIRST_PORT + (secret[0]! + (first + index) % PAIR_PORTS) % PORTS;
  });
}

const LOOPBACK = "127.0.0.1";

/** Chosen by us: unassigned, below the ports that systems assign, and as many as connections that are made at a time. */
const FIRST_PORT = 23_472;
const PORTS = 64;
const PAIR_PORTS = 16;

/** Chosen by us: how long to wait for a free port before the next look. */
const FULL_MS = 10;

/** Before each round to all ports. Chosen by us: loopback loses next to nothing, and the side that starts later is answered. */
const PAUSES_MS: readonly number[] = [5, 20, 80, 300];

/** Chosen by us: the longest round trip of a signaling server, and some. */
const TIMEOUT_MS = 1000;
