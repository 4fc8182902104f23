/**
 * The sockets of a UDP NAT test: they send probes and record what answers them.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../errors.ts";
import { toHex } from "../bytes.ts";
import {
  type IpFamily,
  ipFamily,
  ipScope,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { Datagram, Network, UdpSocket } from "../net/network.ts";
import type { StunAttribute } from "../stun/attributes.ts";
import {
  BINDING,
  decodeMessage,
  encodeMessage,
  getAttribute,
  type StunMessage,
} from "../stun/message.ts";
import type { Probe, ProbeSpec, Reply } from "./probe.ts";

/** A probe whose reply may still come. */
type OpenProbe = { -readonly [Key in keyof Probe]: Probe[Key] };

/** Local sockets by name, and the record of all that was sent from them. */
export class UdpSockets implements AsyncDisposable {
  readonly #network: Network;
  readonly #anyAddress: string;
  readonly #sockets = new Map<string, UdpSocket>();
  readonly #receivers: Promise<void>[] = [];
  readonly #probes: OpenProbe[] = [];
  /** By socket and transaction id. */
  readonly #open = new Map<string, OpenProbe>();
  readonly #now: () => number;
  #wake = () => {};
  #fault: NetworkError | undefined;
  /** Transaction ids of hairpin probes on their way. */
  readonly #hairpins = new Set<string>();
  #hairpinned = false;

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

  /** Why the last packet could not be sent, if it could not. */
  get fault(): NetworkError | undefined {
    return this.#fault;
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
    for (let attempt = 0; attempt < CONSECUTIVE_ATTEMPTS; attempt++) {
      const first = FIRST_PORT +
        Math.floor(Math.random() * (LAST_PORT - FIRST_PORT - names.length));
      const sockets: UdpSocket[] = [];
      try {
        for (const index of names.keys()) {
          sockets.push(await this.#network.bindUdp({ ip: this.#anyAddress, port: first + index }));
        }
        for (const [index, name] of names.entries()) this.#adopt(name, sockets[index]!);
        return;
      } catch (error) {
        for (const socket of sockets) socket.close();
        if (!(error instanceof NetworkError && error.reason === "address-in-use")) throw error;
      }
    }
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
      this.#open.set(key(spec.socket, transactionId), probe);
      return this.#transmit(
        socket,
        encodeProbe(spec, transactionId, this.#isRfc3489(spec)),
        spec.to,
      );
    }));
  }

  /** Sends a packet from one socket to the external address of another. */
  async sendHairpin(from: string, to: TransportAddress): Promise<void> {
    const transactionId = crypto.getRandomValues(new Uint8Array(12));
    this.#hairpins.add(toHex(transactionId));
    const message = { class: "request", method: BINDING, transactionId, attributes: [] } as const;
    await this.#transmit(await this.#socket(from), encodeMessage(message), to);
  }

  /** Resolves at the next reply, or at `atMs`. */
  async wait(atMs: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, Math.max(0, atMs - this.#now()));
    signal?.addEventListener("abort", () => resolve(), { once: true });
    this.#wake = resolve;
    await promise;
    clearTimeout(timer);
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
      try {
        this.#read(name, await socket.receive());
      } catch (error) {
        if (error instanceof MalformedMessageError) continue; // not for us
        if (error instanceof NetworkError) return; // closed
        throw error;
      }
    }
  }

  #read(name: string, { data, from }: Datagram): void {
    const message = decodeMessage(data);
    if (message.class === "request" && this.#hairpins.has(toHex(message.transactionId))) {
      this.#hairpinned = true;
      this.#wake();
      return;
    }
    const open = this.#open.get(key(name, message.transactionId));
    if (open === undefined) return;
    const reply = readReply(message, from, this.#now());
    if (reply === undefined) return;
    this.#open.delete(key(name, message.transactionId));
    open.reply = reply;
    this.#wake();
  }

  async #transmit(socket: UdpSocket, data: Uint8Array, to: TransportAddress): Promise<void> {
    try {
      await socket.send(data, to);
      this.#fault = undefined;
    } catch (error) {
      if (!(error instanceof NetworkError) || error.reason === "not-permitted") throw error;
      this.#fault = error;
    }
  }

  #isRfc3489({ to }: ProbeSpec): boolean {
    return this.#probes.some((probe) =>
      sameTransportAddress(probe.to, to) && probe.reply?.kind === "success" && probe.reply.isRfc3489
    );
  }
}

function encodeProbe(spec: ProbeSpec, transactionId: Uint8Array, isRfc3489: boolean): Uint8Array {
  const attributes: StunAttribute[] = [];
  if (spec.test !== "binding") {
    attributes.push({
      type: "CHANGE-REQUEST",
      value: { changeIp: spec.test === "change-address-and-port", changePort: true },
    });
  }
  if (spec.respondTo !== undefined) {
    attributes.push(
      isRfc3489
        ? { type: "RESPONSE-ADDRESS", value: spec.respondTo }
        : { type: "RESPONSE-PORT", value: spec.respondTo.port },
    );
  }
  attributes.push({ type: "SOFTWARE", value: SOFTWARE });
  return encodeMessage({ class: "request", method: BINDING, transactionId, attributes });
}

function readReply(message: StunMessage, from: TransportAddress, atMs: number): Reply | undefined {
  if (message.method !== BINDING) return undefined;
  if (message.class === "error") {
    return { kind: "error", atMs, from, code: getAttribute(message, "ERROR-CODE")?.code ?? 0 };
  }
  const plain = getAttribute(message, "MAPPED-ADDRESS");
  const xored = getAttribute(message, "XOR-MAPPED-ADDRESS");
  const mapped = xored ?? plain;
  if (message.class !== "success" || mapped === undefined) return undefined;
  if (!isPlausible(mapped, from)) return undefined;
  const other = getAttribute(message, "OTHER-ADDRESS");
  const changed = other ?? getAttribute(message, "CHANGED-ADDRESS");
  const isRewritten = xored !== undefined && plain !== undefined &&
    !sameTransportAddress(xored, plain);
  return {
    kind: "success",
    atMs,
    from,
    mapped,
    isRfc3489: other === undefined && changed !== undefined,
    ...changed && { other: changed },
    ...isRewritten && { rewritten: plain },
  };
}

/** No server sees us at an address that packets cannot come from. */
function isPlausible(mapped: TransportAddress, server: TransportAddress): boolean {
  const scope = ipScope(mapped.ip);
  if (scope === "loopback") return ipScope(server.ip) === "loopback";
  return scope !== "unspecified" && scope !== "multicast" && mapped.port !== 0 &&
    ipFamily(mapped.ip) === ipFamily(server.ip);
}

function key(socket: string, transactionId: Uint8Array): string {
  return `${socket} ${toHex(transactionId)}`;
}

/**
 * Named in every request, and long: a server that answers with no more bytes than it was asked with has then
 * room for all attributes of RFC 5780, over IPv6 too.
 */
const SOFTWARE =
  "Punchline NAT test: a few dozen packets, then silence (jsr.io/@punchline/punchline)";

/** For ports of our own choice: below those that Linux gives out by itself, above most services. */
const FIRST_PORT = 20_000;
const LAST_PORT = 32_000;
const CONSECUTIVE_ATTEMPTS = 5;
