/**
 * A connection to a NATS server: the greeting, TLS where the server or the URL wants it, then lines and payloads.
 *
 * @module
 */

import { concat } from "../../base/bytes.ts";
import { MalformedMessageError, NetworkError, RefusedError } from "../../base/errors.ts";
import { decodeLogin, shownUrl } from "../../base/login.ts";
import { BufferedReader, writeAll } from "../../base/reader.ts";
import { Deadline } from "../../base/timers.ts";
import { parseHostPort } from "../../net/address.ts";
import type { Network, TcpConnection } from "../../net/network.ts";
import { resolveHost } from "../../net/resolve.ts";
import {
  decodeNatsLine,
  encodeNatsConnect,
  encodeNatsPong,
  type NatsLogin,
  type NatsServerMessage,
} from "./message.ts";

/** A NATS server. */
export interface NatsServer {
  readonly host: string;
  readonly port: number;
  readonly login: NatsLogin | undefined;
  /** Whether to leave a server that has no TLS. One that requires TLS gets it in any case. */
  readonly requiresTls: boolean;
}

/**
 * Reads `nats://HOST`, `nats://HOST:PORT` or `nats://USER:PASSWORD@HOST:PORT`, or the same with `tls://`.
 *
 * @throws {TypeError} if the URL has another form; the message does not show the login
 */
export function parseNatsUrl(text: string): NatsServer {
  const cannot = `Cannot use ${shownUrl(text)}`;
  const [, scheme, login, where] = /^(nats|tls):\/\/(?:([^@/]*)@)?([^@/]+)\/?$/.exec(text) ?? [];
  if (where === undefined) {
    throw new TypeError(`${cannot}: it is not nats://HOST[:PORT] or tls://HOST[:PORT]`);
  }
  const { host, port } = parseHostPort(where, NATS_PORT);
  const [user = "", password = ""] = login?.split(":").map((part) => decodeLogin(part, cannot)) ??
    [];
  return {
    ...{ host, port, requiresTls: scheme === "tls" },
    login: login === undefined ? undefined : { user, password },
  };
}

/** How to open a {@linkcode NatsConnection}. */
export interface OpenNatsOptions {
  readonly network: Network;
  /** Certificate authorities to trust, PEM, as {@linkcode Network.startTls} takes them. */
  readonly caCerts?: readonly string[];
  /** Aborts the opening. */
  readonly signal?: AbortSignal;
}

/** An open connection to one server, which has accepted the login. */
export class NatsConnection {
  #connection: TcpConnection;
  #reader: BufferedReader;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #isWriting = false;
  /** Whether the server was sent a PING, and has sent nothing since. */
  #isAsked = false;
  #watch: ReturnType<typeof setInterval> | undefined;

  private constructor(connection: TcpConnection) {
    this.#connection = connection;
    this.#reader = readerOf(connection);
  }

  /**
   * Connects, speaks TLS if the server or the URL requires it, and logs in.
   *
   * @throws {RefusedError} if the server refuses the login
   * @throws {NetworkError} if it cannot be reached, has no TLS though the URL asks for it, or has a certificate that
   * cannot be trusted: `tls`
   * @throws {MalformedMessageError} if it does not speak NATS
   * @throws the signal's reason on abort
   */
  static async open(server: NatsServer, options: OpenNatsOptions): Promise<NatsConnection> {
    const { host, port } = server;
    const { network, signal } = options;
    using deadline = new Deadline(OPEN_MS, signal);
    const inTime = { ...options, signal: deadline.signal };
    let connection: NatsConnection | undefined;
    const onAbort = () => connection?.reset();
    deadline.signal.addEventListener("abort", onAbort, { once: true });
    try {
      const ip = await resolveHost(network, host, inTime);
      const opened = new NatsConnection(await network.connectTcp({ ip, port }, inTime));
      connection = opened;
      await opened.#greet(server, inTime);
      opened.#watch = setInterval(() => opened.#checkAlive(), PING_MS);
      return opened;
    } catch (error) {
      onAbort();
      signal?.throwIfAborted();
      if (!deadline.signal.aborted) throw error;
      const message = `Cannot open a bus: ${host} did not complete the greeting of NATS in time`;
      throw new NetworkError(message, "timed-out", { cause: error });
    } finally {
      deadline.signal.removeEventListener("abort", onAbort);
    }
  }

  /** Queues bytes; what does not fit because the server does not read is lost. */
  send(bytes: Uint8Array): void {
    if (this.#queuedBytes + bytes.length > MAX_QUEUED_BYTES) return;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (!this.#isWriting) this.#write();
  }

  /**
   * Hands over what is received, until the connection ends.
   *
   * @throws the reason
   */
  async receive(accept: (id: number, payload: Uint8Array<ArrayBuffer>) => void): Promise<never> {
    for (;;) {
      const message = await this.#message();
      this.#isAsked = false;
      if (message.kind === "ping") this.send(encodeNatsPong());
      if (message.kind === "error") throw refused(message.reason);
      if (message.kind !== "message") continue;
      if (message.length > MAX_PAYLOAD_BYTES) throw tooLong();
      while (this.#reader.buffered < message.length + 2) await this.#fill(message.length + 2);
      const payload = this.#reader.take(message.length).slice();
      this.#reader.take(2);
      accept(message.id, payload);
    }
  }

  close(): void {
    clearInterval(this.#watch);
    this.#connection.close();
  }

  /** Breaks the connection off: {@linkcode NatsConnection.receive} throws. */
  reset(): void {
    this.#connection.reset();
  }

  async #greet(server: NatsServer, options: OpenNatsOptions): Promise<void> {
    const greeting = await this.#message();
    if (greeting.kind === "error") throw refused(greeting.reason);
    if (greeting.kind !== "info") {
      throw new MalformedMessageError("Cannot open a bus: the server does not speak NATS");
    }
    const usesTls = server.requiresTls || greeting.tls === "required";
    if (usesTls) {
      if (greeting.tls === "none") throw withoutTls(server);
      await this.#startTls(server, options);
    }
    await writeAll(this.#connection, encodeNatsConnect(server.login, { usesTls }));
    for (;;) {
      const message = await this.#message();
      if (message.kind === "pong") return;
      if (message.kind === "error") throw refused(message.reason);
    }
  }

  /** Bytes in the clear after the greeting are from someone else: a server waits for the handshake. */
  async #startTls(
    { host }: NatsServer,
    { network, caCerts, signal }: OpenNatsOptions,
  ): Promise<void> {
    if (this.#reader.buffered > 0) {
      throw new MalformedMessageError("Cannot open a bus: the server goes on without TLS");
    }
    if (network.startTls === undefined) {
      throw new TypeError(`Cannot speak TLS with ${host}: this network has no TLS on connections`);
    }
    try {
      const options = { hostname: host, caCerts, signal };
      this.#connection = await network.startTls(this.#connection, options);
    } catch (error) {
      if (!(error instanceof NetworkError) || error.remedy === undefined) throw error;
      const { message, reason, cause } = error; // an unknown authority: here, likely the operator's own
      throw new NetworkError(message, reason, { cause, remedy: AUTHORITY_REMEDY });
    }
    this.#reader = readerOf(this.#connection);
  }

  async #message(): Promise<NatsServerMessage> {
    for (;;) {
      const { unread } = this.#reader;
      const end = unread.indexOf(LF);
      if (end > 0) return decodeNatsLine(this.#reader.take(end + 1).subarray(0, end - 1));
      if (unread.length >= MAX_LINE_BYTES || end === 0) throw tooLong();
      await this.#fill();
    }
  }

  async #fill(needed?: number): Promise<void> {
    if (await this.#reader.fill(needed)) return;
    throw new NetworkError("Cannot use the bus: the server has closed the connection", "reset");
  }

  async #write(): Promise<void> {
    this.#isWriting = true;
    await undefined; // what is sent at once goes out at once
    try {
      while (this.#queue.length > 0) {
        const bytes = concat(...this.#queue);
        this.#queue = [];
        this.#queuedBytes = 0;
        await writeAll(this.#connection, bytes);
      }
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // receive() rejects as well
    }
    this.#isWriting = false;
  }

  #checkAlive(): void {
    if (this.#isAsked) return this.reset();
    this.#isAsked = true;
    this.send(new TextEncoder().encode("PING\r\n"));
  }
}

function readerOf(connection: TcpConnection): BufferedReader {
  return new BufferedReader(connection, { initialLength: 4096, fullLength: MAX_LINE_BYTES });
}

function refused(reason: string): RefusedError {
  return new RefusedError(`Cannot use the bus: the server answered ${reason}`, 0, {
    remedy: "Check the login in the URL, and the server's log",
  });
}

function withoutTls({ host }: NatsServer): NetworkError {
  return new NetworkError(`Cannot speak TLS with ${host}: the NATS server offers none`, "tls", {
    remedy: "Set up TLS on the NATS server, or name it with nats:// to do without",
  });
}

function tooLong(): MalformedMessageError {
  return new MalformedMessageError("Cannot read from the bus: a line or a payload is too long");
}

/** What to do about a certificate of an unknown authority. */
const AUTHORITY_REMEDY = "Set DENO_CERT in the environment to the file with its authority, or " +
  "DENO_TLS_CA_STORE=system to trust those of this machine";

/** The port of NATS. */
const NATS_PORT = 4222;

/** Chosen by us: INFO names all servers of a cluster. */
const MAX_LINE_BYTES = 32_768;

/** Chosen by us: the longest message of a client, and what nodes put around it. */
const MAX_PAYLOAD_BYTES = 8192;

/** Chosen by us: what half a second of a busy node brings together. */
const MAX_QUEUED_BYTES = 1024 * 1024;

/** Chosen by us: two lost SYNs, and a server that is busy. */
const OPEN_MS = 5000;

/** Chosen by us: a node that cannot reach the others should know soon. */
const PING_MS = 5000;

const LF = 0x0a;
