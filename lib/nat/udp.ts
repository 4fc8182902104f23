/**
 * Runs a UDP NAT test over one IP family: carries out the plan of `udp_plan.ts`.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { WakeableDelay } from "../base/timers.ts";
import { type IpFamily, sameTransportAddress, type TransportAddress } from "../net/address.ts";
import { openConsecutive, OwnAddresses } from "../net/local_address.ts";
import type { Datagram, Network, UdpSocket } from "../net/network.ts";
import { BINDING, decodeMessage, encodeMessage } from "../stun/message.ts";
import type { BehaviorVerdict } from "./behavior.ts";
import { UdpHairpinTest } from "./hairpinning.ts";
import {
  externalIpsOf,
  firstErrorCode,
  mappingSamples,
  type OpenProbe,
  type Probe,
  type ProbeSpec,
  RetransmissionTiming,
} from "./probe.ts";
import { encodeProbe, readReply } from "./probe_message.ts";
import { isInconsistent } from "./servers.ts";
import { nextUdpStep, type UdpTest, type UdpVerdict } from "./udp_plan.ts";

/** How to run the test. */
export interface ProbeUdpOptions {
  readonly network: Network;
  readonly family: IpFamily;
  /** Primary addresses of STUN servers, best first; at least one. */
  readonly servers: readonly TransportAddress[];
  readonly timeoutMs: number;
  /** Whether to test hairpinning, which sends packets to this host's own external address. */
  readonly hairpinning: boolean;
  /** Called with each success response of a server. */
  readonly onAnswer?: () => void;
  readonly signal?: AbortSignal;
}

/** The result of the test. */
export interface UdpResult extends UdpVerdict {
  readonly externalIps: readonly string[];
  /** The local port that the external address belongs to. */
  readonly localPort: number;
  readonly isOwnAddress: boolean;
  readonly hairpinning: boolean | "unknown";
  readonly rewritesPayload: boolean | "unknown";
  readonly rttMs: number | null;
  readonly elapsedMs: number;
  readonly packetsSent: number;
  /** Why the system refused to send every packet, if it did. */
  readonly sendFault: NetworkError | undefined;
  /** The code of the first error response. */
  readonly errorCode: number | undefined;
  /** Whether a server answered with something other than STUN. */
  readonly receivedNonStun: boolean;
}

/**
 * Runs the test.
 *
 * @throws {NetworkError} if no socket can be opened
 */
export async function probeUdp(options: ProbeUdpOptions): Promise<UdpResult> {
  const { network, servers, signal } = options;
  const startedAt = performance.now();
  const now = () => performance.now() - startedAt;
  await using sockets = new UdpSockets(network, options.family, now, options.onAnswer);
  await sockets.openConsecutive(CONSECUTIVE_SOCKETS);
  const localPort = await sockets.localPort("mapping");
  const own = new OwnAddresses(network, localPort);
  // Not the mapping socket: some firewalls end all sessions of a port that sends to its own external address.
  const hairpin = new UdpHairpinTest(CONSECUTIVE_SOCKETS[0]!, CONSECUTIVE_SOCKETS[1]!);
  let decidedAtMs: number | undefined;
  let hasAskedAgain = false;

  for (;;) {
    await own.check(mappingSamples(sockets.probes).map(({ mapped }) => mapped));
    const nowMs = now();
    const test: UdpTest = {
      servers,
      burst: [...CONSECUTIVE_SOCKETS, ...ISOLATED_SOCKETS],
      probes: sockets.probes,
      isOwn: own.isOwn,
      timeoutMs: options.timeoutMs,
    };
    const step = nextUdpStep(test, nowMs);
    // If the system refuses to send, no answer can arrive.
    const isDecided = step.done || sockets.fault !== undefined;
    if (isDecided) decidedAtMs ??= nowMs;
    if (!isDecided) await sockets.send(step.send);
    // The first exchanges of a program that has just started take longer than the path.
    const mayBeCold = (rttMs(test, step.verdict) ?? AGAIN_MS) < AGAIN_MS;
    if (decidedAtMs !== undefined && mayBeCold && !hasAskedAgain) {
      hasAskedAgain = true;
      const server = indexOf(step.verdict.server!, servers);
      await sockets.send([{ socket: "mapping", server, test: "binding", to: servers[server]! }]);
    }
    const hairpins = options.hairpinning ? hairpin.due(sockets.probes, nowMs) : [];
    for (const { from, to } of hairpins) await sockets.sendHairpin(from, to);
    const hairpinning = sockets.hairpinned || hairpin.verdict(nowMs);
    const again = sockets.probes.findLast(({ socket }) => socket === "mapping");
    const isMeasured = !hasAskedAgain || again!.reply !== undefined ||
      nowMs >= again!.sentAtMs + AGAIN_MS;
    const isAwaited = !isMeasured || hairpin.isUnderWay && hairpinning === "unknown";
    if (decidedAtMs !== undefined && !isAwaited) {
      return {
        ...step.verdict,
        externalIps: externalIpsOf(
          sockets.probes.filter(({ to }) => !isInconsistent(to, sockets.probes)),
        ),
        localPort,
        isOwnAddress: step.verdict.external !== null && own.isOwn(step.verdict.external),
        hairpinning: hairpinning === true || silentHairpin(hairpinning, step.verdict.mapping),
        rewritesPayload: rewritesPayload(sockets.probes),
        rttMs: rttMs(test, step.verdict),
        elapsedMs: decidedAtMs,
        packetsSent: sockets.packetsSent,
        sendFault: sockets.fault,
        errorCode: firstErrorCode(sockets.probes),
        receivedNonStun: sockets.receivedNonStun,
      };
    }
    // The packets that were just sent change when the next step is due: plan again before waiting.
    if (isDecided || step.send.length === 0) {
      const againAtMs = isMeasured ? Infinity : again!.sentAtMs + AGAIN_MS;
      const hairpinAtMs = Math.min(againAtMs, hairpin.wakeAtMs(nowMs));
      await sockets.wait(isDecided ? hairpinAtMs : Math.min(step.wakeAtMs, hairpinAtMs), signal);
    }
  }
}

/** Local sockets by name, and the record of all probes sent from them. */
export class UdpSockets implements AsyncDisposable {
  readonly #network: Network;
  readonly #anyAddress: string;
  readonly #now: () => number;
  readonly #onAnswer: () => void;
  readonly #sockets = new Map<string, UdpSocket>();
  readonly #receivers: Promise<void>[] = [];
  readonly #probes: OpenProbe[] = [];
  /** By transaction ID. */
  readonly #open = new Map<string, OpenProbe>();
  /** Transaction IDs of hairpin packets. */
  readonly #hairpins = new Set<string>();
  /** Woken by each reply. */
  readonly #delay = new WakeableDelay();
  #hasSent = false;
  #fault: NetworkError | undefined;
  #hairpinned = false;
  #receivedNonStun = false;

  /**
   * @param now milliseconds since the start of the test
   * @param onAnswer called with each success response of a server
   */
  constructor(
    network: Network,
    family: IpFamily,
    now: () => number,
    onAnswer: () => void = () => {},
  ) {
    this.#onAnswer = onAnswer;
    this.#network = network;
    this.#anyAddress = family === 4 ? "0.0.0.0" : "::";
    this.#now = now;
  }

  /** All probes so far, in the order they were sent. */
  get probes(): readonly Probe[] {
    return this.#probes;
  }

  /** How many packets were sent, including hairpin packets. */
  get packetsSent(): number {
    return this.#probes.length + this.#hairpins.size;
  }

  /** Whether a packet to this host's own external address came back in. */
  get hairpinned(): boolean {
    return this.#hairpinned;
  }

  /** Whether a server answered with something other than STUN. */
  get receivedNonStun(): boolean {
    return this.#receivedNonStun;
  }

  /** Why the system sends nothing; only set if it has refused every packet so far. */
  get fault(): NetworkError | undefined {
    return this.#hasSent ? undefined : this.#fault;
  }

  /** The local port of a socket, which is opened if necessary. */
  async localPort(name: string): Promise<number> {
    return (await this.#socket(name)).local.port;
  }

  /**
   * Opens sockets on consecutive local ports, because some NATs take the distance into account. If no consecutive ports
   * are free, the sockets get any ports.
   */
  async openConsecutive(names: readonly string[]): Promise<void> {
    const open = (port: number) => this.#network.bindUdp({ ip: this.#anyAddress, port });
    const sockets = await openConsecutive(names.length, open);
    for (const [index, socket] of sockets?.entries() ?? []) this.#adopt(names[index]!, socket);
    for (const name of names) await this.#socket(name);
  }

  /** Sends probes, all at the same moment. A packet that the system refuses to send still counts as sent. */
  async send(specs: readonly ProbeSpec[]): Promise<void> {
    const sockets = await Promise.all(specs.map(({ socket }) => this.#socket(socket)));
    const requests = specs.map((spec) => {
      const transactionId = crypto.getRandomValues(new Uint8Array(12));
      const isRfc3489 = this.#isRfc3489(spec);
      return { transactionId, bytes: encodeProbe(spec, transactionId, { isRfc3489 }) };
    });
    const sentAtMs = this.#now(); // encoding takes milliseconds in a program that has just started
    await Promise.all(specs.map((spec, index) => {
      const socket = sockets[index]!;
      const { transactionId, bytes } = requests[index]!;
      const probe: OpenProbe = { ...spec, localPort: socket.local.port, sentAtMs };
      this.#probes.push(probe);
      this.#open.set(toHex(transactionId), probe);
      return this.#transmit(socket, bytes, spec.to);
    }));
  }

  /** Sends a packet from one socket to the external address of another. */
  async sendHairpin(from: string, to: TransportAddress): Promise<void> {
    const transactionId = crypto.getRandomValues(new Uint8Array(12));
    this.#hairpins.add(toHex(transactionId));
    const message = { class: "request", method: BINDING, transactionId, attributes: [] } as const;
    await this.#transmit(await this.#socket(from), encodeMessage(message), to);
  }

  /**
   * Waits for the next reply, or until `atMs`. Returns at once if a reply has arrived since the last call.
   *
   * @throws the signal's reason on abort
   */
  async wait(atMs: number, signal?: AbortSignal): Promise<void> {
    await this.#delay.wait(atMs - this.#now(), signal);
  }

  /** Closes all sockets. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets.values()) socket.close();
    await Promise.all(this.#receivers);
  }

  async #socket(name: string): Promise<UdpSocket> {
    return this.#sockets.get(name) ??
      this.#adopt(name, await this.#network.bindUdp({ ip: this.#anyAddress, port: 0 }));
  }

  #adopt(name: string, socket: UdpSocket): UdpSocket {
    const earlier = this.#sockets.get(name);
    if (earlier !== undefined) {
      socket.close();
      return earlier;
    }
    this.#sockets.set(name, socket);
    this.#receivers.push(this.#receive(name, socket));
    return socket;
  }

  async #receive(name: string, socket: UdpSocket): Promise<void> {
    for (;;) {
      let datagram: Datagram;
      try {
        datagram = await socket.receive();
      } catch (error) {
        if (error instanceof NetworkError) return; // closed
        throw error;
      }
      try {
        this.#read(name, datagram);
      } catch (error) {
        if (!(error instanceof MalformedMessageError)) throw error;
        this.#receivedNonStun ||= this.#probes.some(({ to }) =>
          sameTransportAddress(to, datagram.from)
        );
      }
    }
  }

  #read(name: string, { data, from }: Datagram): void {
    const message = decodeMessage(data);
    const transactionId = toHex(message.transactionId);
    if (message.class === "request" && this.#hairpins.has(transactionId)) {
      this.#hairpinned = true;
      this.#delay.wake();
      return;
    }
    const open = this.#open.get(transactionId);
    // Only probes that direct their answer to another mapping may receive it on another socket.
    if (open === undefined || (open.socket !== name && open.respondTo === undefined)) return;
    const reply = readReply(message, from, this.#now());
    if (reply === undefined) return;
    this.#open.delete(transactionId);
    open.reply = reply;
    open.repliedOn = name;
    if (reply.kind === "success") this.#onAnswer();
    this.#delay.wake();
  }

  async #transmit(socket: UdpSocket, data: Uint8Array, to: TransportAddress): Promise<void> {
    try {
      await socket.send(data, to);
      this.#hasSent = true;
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
      this.#fault = error;
    }
  }

  #isRfc3489({ to }: ProbeSpec): boolean {
    return this.#probes.some((probe) =>
      sameTransportAddress(probe.to, to) && probe.reply?.kind === "success" && probe.reply.isRfc3489
    );
  }
}

/**
 * What silence means for hairpinning: nothing if the mapping depends on the destination, because the ports were then
 * mapped for other destinations and may let nothing back in.
 */
function silentHairpin(
  hairpinning: false | "unknown",
  { behavior }: BehaviorVerdict,
): false | "unknown" {
  return behavior === "endpoint-independent" || behavior === "none" ? hairpinning : "unknown";
}

function rewritesPayload(probes: readonly Probe[]): boolean | "unknown" {
  const replies = probes.flatMap(({ reply }) => reply?.kind === "success" ? [reply] : []);
  if (replies.some(({ rewritten }) => rewritten !== undefined)) return true;
  return replies.length > 0 ? false : "unknown";
}

/** The shortest round trip to the server that the verdict is based on. */
function rttMs(test: UdpTest, { server }: UdpVerdict): number | null {
  if (server === null) return null;
  const index = indexOf(server, test.servers);
  return new RetransmissionTiming(test.probes, 0).roundTripsMs(index)[0] ?? null;
}

function indexOf(server: TransportAddress, servers: readonly TransportAddress[]): number {
  return servers.findIndex((each) => sameTransportAddress(each, server));
}

/** Chosen by us: over a longer round trip than this, the start of a program does not show. */
const AGAIN_MS = 40;

/** Sockets on consecutive ports and on arbitrary ones, to detect patterns that depend on the local port. */
const CONSECUTIVE_SOCKETS = ["burst 1", "burst 2", "burst 3", "burst 4"];
const ISOLATED_SOCKETS = ["burst 5", "burst 6"];
