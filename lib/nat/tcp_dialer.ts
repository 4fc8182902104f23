/**
 * The connections of a TCP NAT test. Each connects to a server, asks for its own external address, and stays open so that
 * its mapping persists.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError, type NetworkErrorReason } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { TaskGroup } from "../base/tasks.ts";
import { WakeableDelay } from "../base/timers.ts";
import type { IpFamily, TransportAddress } from "../net/address.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import { readMessages } from "../stun/framing.ts";
import { BINDING, decodeMessage, encodeMessage } from "../stun/message.ts";
import type { OpenProbe, Probe, ProbeSpec } from "./probe.ts";
import { PROBE_SOFTWARE, readReply } from "./probe_message.ts";

/** Why a dial gave no answer. */
export interface DialFault {
  readonly to: TransportAddress;
  readonly reason: NetworkErrorReason | "not-stun";
}

/** Dials servers from chosen local ports, and records the replies as probes. */
export class TcpDialer implements AsyncDisposable {
  readonly #network: Network;
  readonly #anyAddress: string;
  readonly #reusePort: boolean;
  readonly #now: () => number;
  readonly #onAnswer: () => void;
  readonly #onLocalIp: (ip: string) => void;
  readonly #probes: OpenProbe[] = [];
  readonly #connections: TcpConnection[] = [];
  /** Probes in progress. */
  readonly #pending = new Set<Probe>();
  /** Probes whose connection was established. */
  readonly #connected = new Set<Probe>();
  readonly #faults: DialFault[] = [];
  /** Woken each time a dial ends. */
  readonly #delay = new WakeableDelay();
  readonly #tasks = new TaskGroup((error) => this.#fail(error));
  #failure: { readonly error: unknown } | undefined;
  #localIp: string | undefined;

  /**
   * @param now milliseconds since the start of the test
   * @param options `reusePort` as in {@linkcode Network.connectTcp}, for ports that will be listened on; `onAnswer` is
   * called with each success response of a server, `onLocalIp` with the local address of each connection
   */
  constructor(
    network: Network,
    family: IpFamily,
    now: () => number,
    options: {
      reusePort?: boolean;
      onAnswer?: () => void;
      onLocalIp?: (ip: string) => void;
    } = {},
  ) {
    this.#onAnswer = options.onAnswer ?? (() => {});
    this.#onLocalIp = options.onLocalIp ?? (() => {});
    this.#network = network;
    this.#anyAddress = family === 4 ? "0.0.0.0" : "::";
    this.#reusePort = options.reusePort ?? false;
    this.#now = now;
  }

  /** All dials so far, in the order they were started. */
  get probes(): readonly Probe[] {
    return this.#probes;
  }

  /** All failed dials so far. */
  get faults(): readonly DialFault[] {
    return this.#faults;
  }

  /** The local address of the first connection that was established. */
  get localIp(): string | undefined {
    return this.#localIp;
  }

  /** How long the dials in progress are worth waiting for; `-Infinity` if there are none. */
  get deadlineMs(): number {
    const limits = Array.from(this.#pending, (probe) => {
      return this.#connected.has(probe) ? Infinity : probe.sentAtMs + CONNECT_TIMEOUT_MS;
    });
    return Math.max(...limits);
  }

  /** Starts a dial from a local port. Its outcome appears in `probes` or in `faults`. */
  dial(spec: ProbeSpec, localPort: number): void {
    const probe: OpenProbe = { ...spec, localPort, sentAtMs: this.#now() };
    this.#probes.push(probe);
    this.#pending.add(probe);
    this.#tasks.run((signal) => this.#run(probe, signal));
  }

  /**
   * Waits until a dial in progress ends, or until `atMs`. Returns at once if a dial has ended since the last call.
   *
   * @throws the signal's reason on abort
   */
  async wait(atMs: number, signal?: AbortSignal): Promise<void> {
    await this.#delay.wait(atMs - this.#now(), signal);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Ends the wait under way, or the next one at its start. */
  wake(): void {
    this.#delay.wake();
  }

  /** Sends another request on the connections from a local port, because servers reset idle ones. */
  keepAlive(localPort: number): void {
    for (const connection of this.#connections) {
      if (connection.local.port !== localPort) continue;
      this.#tasks.run(async () => {
        try {
          await this.#ask(connection);
        } catch (error) {
          if (!(error instanceof NetworkError)) throw error; // otherwise the connection has ended
        }
      });
    }
  }

  /** Ends all dials and resets all connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    const stopped = this.#tasks.stop();
    for (const connection of this.#connections) connection.reset();
    await stopped;
  }

  async #run(probe: OpenProbe, signal: AbortSignal): Promise<void> {
    try {
      await this.#exchange(probe, signal);
    } catch (error) {
      if (!signal.aborted) this.#faults.push({ to: probe.to, reason: reasonOf(error) });
    } finally {
      this.#pending.delete(probe);
      this.#delay.wake();
    }
  }

  async #exchange(probe: OpenProbe, signal: AbortSignal): Promise<void> {
    const connection = await this.#network.connectTcp(probe.to, {
      local: { ip: this.#anyAddress, port: probe.localPort },
      reusePort: this.#reusePort,
      signal,
    });
    if (signal.aborted) {
      connection.reset();
      return;
    }
    this.#connections.push(connection);
    this.#connected.add(probe);
    this.#localIp ??= connection.local.ip;
    this.#onLocalIp(connection.local.ip);
    probe.sentAtMs = this.#now(); // the round trip excludes the handshake
    const transactionId = await this.#ask(connection);
    for await (const bytes of readMessages(connection)) {
      const message = decodeMessage(bytes);
      if (!equalBytes(message.transactionId, transactionId)) continue;
      const reply = readReply(message, probe.to, this.#now());
      if (reply === undefined) continue;
      probe.reply = reply;
      if (reply.kind === "success") this.#onAnswer();
      return;
    }
    throw new MalformedMessageError("Cannot read STUN stream: it ended without an answer");
  }

  /** Sends a request; returns its transaction ID. */
  async #ask(connection: TcpConnection): Promise<Uint8Array> {
    const transactionId = crypto.getRandomValues(new Uint8Array(12));
    const attributes = [{ type: "SOFTWARE", value: PROBE_SOFTWARE }] as const;
    await writeAll(
      connection,
      encodeMessage({ class: "request", method: BINDING, transactionId, attributes }),
    );
    return transactionId;
  }

  /** An unexpected error fails the next wait. */
  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#delay.wake();
  }
}

function reasonOf(error: unknown): DialFault["reason"] {
  if (error instanceof NetworkError) return error.reason;
  if (error instanceof MalformedMessageError) return "not-stun";
  throw error;
}

/** Chosen by us: long enough for the system to retransmit its SYN, and for three of them to be lost. */
const CONNECT_TIMEOUT_MS = 3200;
