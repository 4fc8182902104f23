/**
 * Runs a UDP NAT test over one IP family: carries out what `udp_plan.ts` decides.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { type IpFamily, sameTransportAddress, type TransportAddress } from "../net/address.ts";
import { openConsecutive, OwnAddresses } from "../net/local_address.ts";
import type { Datagram, Network, UdpSocket } from "../net/network.ts";
import { BINDING, decodeMessage, encodeMessage } from "../stun/message.ts";
import type { BehaviorVerdict } from "./behavior.ts";
import { Hairpin } from "./hairpinning.ts";
import {
  encodeProbe,
  firstErrorCode,
  mappingSamples,
  Pace,
  type Probe,
  type ProbeSpec,
  readReply,
} from "./probe.ts";
import { nextUdpStep, type UdpTest, type UdpVerdict } from "./udp_plan.ts";

/** A probe whose reply may still come. */
type OpenProbe = { -readonly [Key in keyof Probe]: Probe[Key] };

/** Local sockets by name, and the record of all that was sent from them. */
export class UdpSockets implements AsyncDisposable {
  readonly #network: Network;
  readonly #anyAddress: string;
  readonly #sockets = new Map<string, UdpSocket>();
  readonly #receivers: Promise<void>[] = [];
  readonly #probes: OpenProbe[] = [];
  /** By transaction id. */
  readonly #open = new Map<string, OpenProbe>();
  readonly #now: () => number;
  #wake = () => {};
  #hasSent = false;
  /** Whether something has arrived that no {@linkcode UdpSockets.wait} has told yet. */
  #hasNews = false;
  #fault: NetworkError | undefined;
  /** Transaction ids of hairpin probes on their way. */
  readonly #hairpins = new Set<string>();
  #hairpinned = false;
  #heardNoise = false;

  /** @param now milliseconds since the start of the test */
  constructor(network: Network, family: IpFamily, now: () => number) {
    this.#network = network;
    this.#anyAddress = family === 4 ? "0.0.0.0" : "::";
    this.#now = now;
  }

  /** All probes so far, in the order of sending. */
  get probes(): readonly Probe[] {
    return this.#probes;
  }

  /** Packets sent so far, hairpin probes among them. */
  get packetsSent(): number {
    return this.#probes.length + this.#hairpins.size;
  }

  /** Whether a packet to the own external address came back in. */
  get hairpinned(): boolean {
    return this.#hairpinned;
  }

  /** Whether something that was asked answered, but not with STUN. */
  get heardNoise(): boolean {
    return this.#heardNoise;
  }

  /** Why the system sends nothing: set if it has refused every packet so far. */
  get fault(): NetworkError | undefined {
    return this.#hasSent ? undefined : this.#fault;
  }

  /** The local port of a socket, which is opened if it is not. */
  async localPort(name: string): Promise<number> {
    return (await this.#socket(name)).local.port;
  }

  /**
   * Opens sockets on consecutive local ports, for NATs that look at the distance. Where none are free they get
   * any ports.
   */
  async openConsecutive(names: readonly string[]): Promise<void> {
    const open = (port: number) => this.#network.bindUdp({ ip: this.#anyAddress, port });
    const sockets = await openConsecutive(names.length, open);
    for (const [index, socket] of sockets?.entries() ?? []) this.#adopt(names[index]!, socket);
    for (const name of names) await this.#socket(name);
  }

  /** Sends probes, all of one moment. A packet that the system refuses to send counts as sent. */
  async send(specs: readonly ProbeSpec[]): Promise<void> {
    const sockets = await Promise.all(specs.map(({ socket }) => this.#socket(socket)));
    const sentAtMs = this.#now();
    await Promise.all(specs.map((spec, index) => {
      const socket = sockets[index]!;
      const transactionId = crypto.getRandomValues(new Uint8Array(12));
      const probe: OpenProbe = { ...spec, localPort: socket.local.port, sentAtMs };
      this.#probes.push(probe);
      this.#open.set(toHex(transactionId), probe);
      const isRfc3489 = this.#isRfc3489(spec);
      return this.#transmit(socket, encodeProbe(spec, transactionId, { isRfc3489 }), spec.to);
    }));
  }

  /** Sends a packet from one socket to the external address of another. */
  async sendHairpin(from: string, to: TransportAddress): Promise<void> {
    const transactionId = crypto.getRandomValues(new Uint8Array(12));
    this.#hairpins.add(toHex(transactionId));
    const message = { class: "request", method: BINDING, transactionId, attributes: [] } as const;
    await this.#transmit(await this.#socket(from), encodeMessage(message), to);
  }

  /** Resolves at the next reply, or at `atMs`; at once if a reply has come since the last call. */
  async wait(atMs: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (!this.#hasNews) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, Math.max(0, atMs - this.#now()));
      const onAbort = () => resolve();
      signal?.addEventListener("abort", onAbort);
      this.#wake = resolve;
      await promise;
      signal?.removeEventListener("abort", onAbort);
      clearTimeout(timer);
    }
    this.#hasNews = false;
    signal?.throwIfAborted();
  }

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
        this.#heardNoise ||= this.#probes.some(({ to }) => sameTransportAddress(to, datagram.from));
      }
    }
  }

  #read(name: string, { data, from }: Datagram): void {
    const message = decodeMessage(data);
    if (message.class === "request" && this.#hairpins.has(toHex(message.transactionId))) {
      this.#hairpinned = true;
      this.#announce();
      return;
    }
    const transactionId = toHex(message.transactionId);
    const open = this.#open.get(transactionId);
    // Only who asked for an answer to another mapping may get it on another socket.
    if (open === undefined || (open.socket !== name && open.respondTo === undefined)) return;
    const reply = readReply(message, from, this.#now());
    if (reply === undefined) return;
    this.#open.delete(transactionId);
    open.reply = reply;
    open.repliedOn = name;
    this.#announce();
  }

  #announce(): void {
    this.#hasNews = true;
    this.#wake();
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

/** How to run the test. */
export interface ProbeUdpOptions {
  readonly network: Network;
  readonly family: IpFamily;
  /** Primary addresses of STUN servers, best first; at least one. */
  readonly servers: readonly TransportAddress[];
  readonly timeoutMs: number;
  /** Send packets to the own external address, and wait a moment for them. */
  readonly hairpinning: boolean;
  readonly signal?: AbortSignal;
}

/** What the test found. */
export interface UdpResult extends UdpVerdict {
  /** The local port that the external address belongs to. */
  readonly localPort: number;
  readonly isOwnAddress: boolean;
  readonly hairpinning: boolean | "unknown";
  readonly rewritesPayload: boolean | "unknown";
  readonly rttMs: number | null;
  readonly elapsedMs: number;
  readonly packetsSent: number;
  /** Why the system refused to send anything, if it did. */
  readonly sendFault: NetworkError | undefined;
  /** The code of the first error that a server answered with. */
  readonly errorCode: number | undefined;
  /** A server answered with something that is not STUN. */
  readonly heardNoise: boolean;
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
  await using sockets = new UdpSockets(network, options.family, now);
  await sockets.openConsecutive(NEIGHBOURS);
  const localPort = await sockets.localPort("mapping");
  const own = new OwnAddresses(network, localPort);
  // Not the mapping socket: some firewalls end the sessions of a port that sends to the own external address.
  const hairpin = new Hairpin(NEIGHBOURS[0]!, NEIGHBOURS[1]!);
  let decidedAtMs: number | undefined;

  for (;;) {
    await own.check(mappingSamples(sockets.probes).map(({ mapped }) => mapped));
    const nowMs = now();
    const test: UdpTest = {
      servers,
      burst: [...NEIGHBOURS, ...STRANGERS],
      probes: sockets.probes,
      isOwn: own.isOwn,
      timeoutMs: options.timeoutMs,
    };
    const step = nextUdpStep(test, nowMs);
    // Where the system cannot send at all, waiting for answers makes no sense.
    const isDecided = step.done || sockets.fault !== undefined;
    if (isDecided) decidedAtMs ??= nowMs;
    if (!isDecided) await sockets.send(step.send);
    const hairpins = options.hairpinning ? hairpin.due(sockets.probes, nowMs) : [];
    for (const { from, to } of hairpins) await sockets.sendHairpin(from, to);
    const hairpinning = sockets.hairpinned || hairpin.verdict(nowMs);
    const isAwaited = hairpin.isUnderWay && hairpinning === "unknown";
    if (decidedAtMs !== undefined && !isAwaited) {
      return {
        ...step.verdict,
        localPort,
        isOwnAddress: step.verdict.external !== null && own.isOwn(step.verdict.external),
        hairpinning: hairpinning === true || silentHairpin(hairpinning, step.verdict.mapping),
        rewritesPayload: rewritesPayload(sockets.probes),
        rttMs: rttMs(test, step.verdict),
        elapsedMs: decidedAtMs,
        packetsSent: sockets.packetsSent,
        sendFault: sockets.fault,
        errorCode: firstErrorCode(sockets.probes),
        heardNoise: sockets.heardNoise,
      };
    }
    // What was just sent changes when the next step is due: look again before waiting.
    if (isDecided || step.send.length === 0) {
      const hairpinAtMs = hairpin.wakeAtMs(nowMs);
      await sockets.wait(isDecided ? hairpinAtMs : Math.min(step.wakeAtMs, hairpinAtMs), signal);
    }
  }
}

/** Between ports that were mapped for other destinations, a NAT that hairpins may let nothing back in. */
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

/** The shortest round trip to the server that the verdict rests on. */
function rttMs(test: UdpTest, { server }: UdpVerdict): number | null {
  const index = test.servers.findIndex((primary) =>
    server && sameTransportAddress(primary, server)
  );
  return new Pace(test.probes, 0).roundTripsMs(index)[0] ?? null;
}

/** Sockets on consecutive ports, and on any: for the patterns that depend on the local port. */
const NEIGHBOURS = ["burst 1", "burst 2", "burst 3", "burst 4"];
const STRANGERS = ["burst 5", "burst 6"];
