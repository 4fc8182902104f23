/**
 * The path MTU: how long a packet may be that gets to a STUN server, and whose answer, as long as itself, comes back
 * (RFC 5780 §7.6, PADDING). A path that swallows longer packets without saying so (an "MTU hole", RFC 2923 §2.1) carries the
 * start of every TCP connection, and then nothing.
 *
 * Systems forbid the fragmentation of UDP packets while they probe the path (Linux does so for all). Where the system lets
 * routers fragment them, a hole does not show.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import { ipFamily, sameTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Network, UdpSocket } from "../net/network.ts";
import { ATTRIBUTE_HEADER_LENGTH, HEADER_LENGTH } from "../stun/codec.ts";
import { BINDING, decodeMessage, encodeMessage } from "../stun/message.ts";
import type { Finding } from "./behavior.ts";

/** What the packets of some lengths have shown. Lengths include the IP and UDP headers. */
export interface PathMtu {
  /** The longest packet that was answered; `null` if none of those with padding was. */
  readonly answeredBytes: number | null;
  /** The shortest packet that was not answered although the ones below it were; `null` if there was no such packet. */
  readonly lostBytes: number | null;
  /** The longest packet that the system itself was able to send; `null` if it refused none. */
  readonly refusedBytes: number | null;
  /** The shortest round trip, in milliseconds; `null` without an answer. */
  readonly rttMs: number | null;
}

/** How to measure. */
export interface MeasurePathMtuOptions {
  readonly network: Network;
  /** A STUN server over UDP. */
  readonly server: TransportAddress;
  /** Ends it early, with what is known by then. */
  readonly signal?: AbortSignal;
}

/**
 * Sends requests of several lengths to a STUN server, all at once. Takes one round trip if all are answered, and about three
 * if not; a second without any answer.
 *
 * @throws {NetworkError} if no socket can be opened
 */
export async function measurePathMtu(options: MeasurePathMtuOptions): Promise<PathMtu> {
  const { network, server, signal } = options;
  const isIpv6 = ipFamily(server.ip) === 6;
  const headers = (isIpv6 ? IPV6_HEADER : IPV4_HEADER) + UDP_HEADER;
  using socket = await network.bindUdp({ ip: isIpv6 ? "::" : "0.0.0.0", port: 0 });
  const probes = LENGTHS.map((bytes): LengthProbe => ({ bytes, ids: new Set(), missed: 0 }));
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const open = probes.filter(({ rttMs, isRefused, missed }) =>
      rttMs === undefined && !isRefused && missed < TRIES
    );
    const isSilent = round >= TRIES && shortest(probes) === null;
    if (open.length === 0 || isSilent || signal?.aborted) break;
    // Something that drops packets beyond a rate drops the last ones: the control comes last.
    const control = controlOf(probes);
    const sent = [...open.toReversed(), ...control === undefined ? [] : [control]];
    for (const probe of sent) await sendPadded(socket, probe, server, headers);
    const rttMs = shortest(probes);
    const waitMs = rttMs === null ? FIRST_WAIT_MS : ROUND_TRIPS * rttMs + SLACK_MS;
    await receiveUntilAnswered(socket, [...probes, ...sent.slice(open.length)], server, {
      waitMs,
      signal,
    });
    noteMissed(probes, control);
  }
  return summaryOf(probes, signal?.aborted === true);
}

/** What to say about a path; `undefined` if it carries packets of the usual length, or that is not known. */
export function mtuFinding({ answeredBytes, lostBytes }: PathMtu): Finding | undefined {
  if (answeredBytes === null || lostBytes === null) return undefined;
  return {
    kind: "mtu",
    summary:
      `The path swallows packets of ${lostBytes} bytes without saying so (an MTU hole); ${answeredBytes} bytes get through`,
    remedy:
      `Set the MTU of this machine's interface, or of the VPN or router, to ${answeredBytes} bytes, or let ICMP "packet too big" through; until then connections that carry much use UDP or a relay`,
  };
}

/** Requests of one length. */
interface LengthProbe {
  readonly bytes: number;
  /** Transaction IDs, as hex. */
  readonly ids: Set<string>;
  /** How often it was not answered while a shorter one was that was sent after it. */
  missed: number;
  sentAtMs?: number;
  rttMs?: number;
  /** Whether the system refused to send it. */
  isRefused?: boolean;
}

/** The longest packet that was answered, to be sent once more; `undefined` if none was. */
function controlOf(probes: readonly LengthProbe[]): LengthProbe | undefined {
  const answered = probes.findLast(({ rttMs }) => rttMs !== undefined);
  return answered && { bytes: answered.bytes, ids: new Set(), missed: 0 };
}

/** Silence counts only if the control was answered: in the first round, a shorter packet. */
function noteMissed(probes: readonly LengthProbe[], control: LengthProbe | undefined): void {
  for (const probe of probes) {
    if (probe.rttMs !== undefined || probe.isRefused) continue;
    const isControlled = control === undefined
      ? probes.some(({ bytes, rttMs }) => bytes < probe.bytes && rttMs !== undefined)
      : control.rttMs !== undefined;
    if (isControlled) probe.missed++;
  }
}

async function sendPadded(
  socket: UdpSocket,
  probe: LengthProbe,
  to: TransportAddress,
  headers: number,
): Promise<void> {
  const transactionId = crypto.getRandomValues(new Uint8Array(12));
  const value = new Uint8Array(probe.bytes - headers - HEADER_LENGTH - ATTRIBUTE_HEADER_LENGTH);
  const attributes = [{ type: "PADDING", value }] as const;
  const request = encodeMessage({ class: "request", method: BINDING, transactionId, attributes });
  probe.ids.add(toHex(transactionId));
  probe.sentAtMs ??= performance.now();
  try {
    await socket.send(request, to);
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error;
    probe.isRefused = true; // longer than the MTU of the interface, or there is no route
  }
}

/** Receives until all are answered, or the time is up. */
async function receiveUntilAnswered(
  socket: UdpSocket,
  probes: readonly LengthProbe[],
  server: TransportAddress,
  { waitMs, signal }: { waitMs: number; signal?: AbortSignal },
): Promise<void> {
  using deadline = new Deadline(waitMs, signal);
  const isAnswered = () => probes.every(({ rttMs, isRefused }) => rttMs !== undefined || isRefused);
  while (!isAnswered()) {
    try {
      const { data, from } = await socket.receive({ signal: deadline.signal });
      if (sameTransportAddress(from, server)) noteAnswer(data, probes);
    } catch (error) {
      if (deadline.signal.aborted) return;
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }
}

/** Any answer will do: a server that does not know PADDING says so. */
function noteAnswer(data: Uint8Array, probes: readonly LengthProbe[]): void {
  const message = decodeMessage(data);
  if (message.class !== "success" && message.class !== "error") return;
  const id = toHex(message.transactionId);
  const probe = probes.find(({ ids }) => ids.has(id));
  if (probe === undefined) return;
  probe.rttMs ??= performance.now() - probe.sentAtMs!;
}

function summaryOf(probes: readonly LengthProbe[], isCut: boolean): PathMtu {
  const answered = probes.filter(({ rttMs }) => rttMs !== undefined);
  const longest = answered.at(-1)?.bytes ?? null;
  // A single packet may have been lost: only what was tried again counts.
  const lost = probes.find(({ bytes, rttMs, missed, isRefused }) =>
    rttMs === undefined && !isRefused && longest !== null && bytes > longest &&
    (isCut ? missed > 2 : missed === TRIES)
  );
  return {
    answeredBytes: longest,
    lostBytes: lost?.bytes ?? null,
    refusedBytes: probes.find(({ isRefused }) => isRefused)?.bytes ?? null,
    rttMs: shortest(probes),
  };
}

function shortest(probes: readonly LengthProbe[]): number | null {
  const times = probes.flatMap(({ rttMs }) => rttMs ?? []);
  return times.length === 0 ? null : Math.min(...times);
}

/**
 * IPv6's minimum (RFC 8200 §5), what is left beside the usual tunnels (WireGuard over IPv6 and over IPv4, PPPoE), and
 * Ethernet. Longest last.
 */
const LENGTHS: readonly number[] = [1280, 1400, 1420, 1460, 1492, 1500];

const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const UDP_HEADER = 8;

/** Chosen by us: at 10 % loss each way, all tries of one length are lost in 1 of 700 measurements. */
const TRIES = 4;

/** Chosen by us: a control may be lost, too. */
const MAX_ROUNDS = 6;

/** Chosen by us: how long an answer may take, in round trips of the fastest one. */
const ROUND_TRIPS = 1.25;
const SLACK_MS = 20;

/** Chosen by us: before any round trip is known. */
const FIRST_WAIT_MS = 250;
