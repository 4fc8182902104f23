/**
 * The connections of a TCP NAT test: each dials a server, asks what address it sees, and stays open so that
 * its mapping does.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError, type NetworkErrorReason } from "../base/errors.ts";
import type { IpFamily, TransportAddress } from "../net/address.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import { BINDING, decodeMessage, encodeMessage } from "../stun/message.ts";
import { writeAll } from "../base/reader.ts";
import { readMessages } from "../stun/framing.ts";
import { type Probe, PROBE_SOFTWARE, type ProbeSpec, readReply } from "./probe.ts";

/** Why a dial gave no answer. */
export interface DialFault {
  readonly to: TransportAddress;
  readonly reason: NetworkErrorReason | "not-stun";
}

/** A probe whose reply may still come. */
type OpenProbe = { -readonly [Key in keyof Probe]: Probe[Key] };

/** Dials, and the record of all that was dialled. */
export class TcpDialer implements AsyncDisposable {
  readonly #network: Network;
  readonly #anyAddress: string;
  readonly #reusePort: boolean;
  readonly #now: () => number;
  readonly #probes: OpenProbe[] = [];
  readonly #connections: TcpConnection[] = [];
  /** Those whose connection was made. */
  readonly #connected = new Set<Probe>();
  /** Under way. */
  readonly #dials = new Map<Promise<void>, Probe>();
  readonly #faults: DialFault[] = [];
  readonly #abort = new AbortController();
  #localIp: string | undefined;

  /**
   * @param now milliseconds since the start of the test
   * @param options `reusePort` as in {@linkcode Network.connectTcp}, for ports that will be listened on
   */
  constructor(
    network: Network,
    family: IpFamily,
    now: () => number,
    options: { reusePort?: boolean } = {},
  ) {
    this.#reusePort = options.reusePort ?? false;
    this.#network = network;
    this.#anyAddress = family === 4 ? "0.0.0.0" : "::";
    this.#now = now;
  }

  /** All dials so far, in the order of their start. */
  get probes(): readonly Probe[] {
    return this.#probes;
  }

  /** What went wrong so far. */
  get faults(): readonly DialFault[] {
    return this.#faults;
  }

  /** The local address that a connection left from, once there was one. */
  get localIp(): string | undefined {
    return this.#localIp;
  }

  /** Until when the dials under way are worth waiting for; `-Infinity` if there are none. */
  get deadlineMs(): number {
    const limits = Array.from(this.#dials.values(), (probe) => {
      return this.#connected.has(probe) ? Infinity : probe.sentAtMs + CONNECT_PATIENCE_MS;
    });
    return Math.max(...limits);
  }

  /** Starts a dial from a local port; what becomes of it is in the record. */
  dial(spec: ProbeSpec, localPort: number): void {
    const probe = { ...spec, localPort, sentAtMs: this.#now() };
    this.#probes.push(probe);
    const dial = this.#run(probe).catch((error) => {
      if (this.#abort.signal.aborted) return;
      this.#faults.push({ to: spec.to, reason: reasonOf(error) });
    }).finally(() => this.#dials.delete(dial));
    this.#dials.set(dial, probe);
  }

  /** Resolves when one of the dials under way has come to something, or at `atMs`. */
  async wait(atMs: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, Math.max(0, atMs - this.#now()));
    const onAbort = () => resolve();
    signal?.addEventListener("abort", onAbort);
    await Promise.race([promise, ...this.#dials.keys()]);
    signal?.removeEventListener("abort", onAbort);
    clearTimeout(timer);
    signal?.throwIfAborted();
  }

  /** Asks again over the connections from a local port, as servers reset those that ask nothing; nobody waits for the answer. */
  keepAlive(localPort: number): void {
    for (const connection of this.#connections) {
      if (connection.local.port !== localPort) continue;
      this.#ask(connection).catch(() => {}); // its end ends nothing but itself
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    for (const connection of this.#connections) connection.reset();
    await Promise.all(this.#dials.keys());
  }

  async #run(probe: OpenProbe): Promise<void> {
    const connection = await this.#network.connectTcp(probe.to, {
      local: { ip: this.#anyAddress, port: probe.localPort },
      reusePort: this.#reusePort,
      signal: this.#abort.signal,
    });
    if (this.#abort.signal.aborted) {
      connection.reset();
      return;
    }
    this.#connections.push(connection);
    this.#connected.add(probe);
    this.#localIp ??= connection.local.ip;
    probe.sentAtMs = this.#now(); // the round trip is that of the request
    const transactionId = await this.#ask(connection);
    for await (const bytes of readMessages(connection)) {
      const message = decodeMessage(bytes);
      if (!equalBytes(message.transactionId, transactionId)) continue;
      const reply = readReply(message, probe.to, this.#now());
      if (reply === undefined) continue;
      probe.reply = reply;
      return;
    }
    throw new MalformedMessageError("Cannot read STUN stream: it ended without an answer");
  }

  /** Sends a request; its transaction id. */
  async #ask(connection: TcpConnection): Promise<Uint8Array> {
    const transactionId = crypto.getRandomValues(new Uint8Array(12));
    const attributes = [{ type: "SOFTWARE", value: PROBE_SOFTWARE }] as const;
    await writeAll(
      connection,
      encodeMessage({ class: "request", method: BINDING, transactionId, attributes }),
    );
    return transactionId;
  }
}

function reasonOf(error: unknown): DialFault["reason"] {
  if (error instanceof NetworkError) return error.reason;
  if (error instanceof MalformedMessageError) return "not-stun";
  throw error;
}

/** So long a connection may take, which includes three SYNs of the system that got lost; ours. */
const CONNECT_PATIENCE_MS = 3200;
