/**
 * A small HTTP server that can misbehave the way small HTTP servers do.
 *
 * @module
 */

import { NetworkError } from "../../../lib/base/errors.ts";
import type { TransportAddress } from "../../../lib/net/address.ts";
import type { Network, TcpConnection, TcpListener } from "../../../lib/net/network.ts";

/** A complete request. */
export interface HttpCall {
  readonly method: string;
  readonly target: string;
  /** By name in lower case. */
  readonly fields: ReadonlyMap<string, string>;
  readonly body: string;
  readonly from: TransportAddress;
}

/** What to answer. */
export type HttpReply =
  | {
    readonly kind: "response";
    readonly status: number;
    readonly body: string | Uint8Array;
    readonly fields?: Readonly<Record<string, string>>;
    /** How long to take before the first byte; 0 by default. */
    readonly delayMs?: number;
  }
  /** Raw pieces, with a pause before each if there is one, and how the connection ends. */
  | {
    readonly kind: "raw";
    readonly pieces: Iterable<string | Uint8Array>;
    readonly pauseMs?: number;
    /** How long to take before the first piece; 0 by default. */
    readonly delayMs?: number;
    readonly end: "close" | "reset" | "stay";
  };

/** What a server does besides answering. */
export interface HttpServerOptions {
  /** Whether to reset a connection as soon as it is there; whether one is open already, and when the last one ended. */
  readonly refuses?: (now: { readonly open: number; readonly lastEndMs: number }) => boolean;
}

/** Serves until it is closed. */
export class HttpServer implements Disposable {
  /** All requests so far. */
  readonly calls: HttpCall[] = [];
  readonly #listener: TcpListener;
  readonly #answer: (call: HttpCall) => HttpReply;
  readonly #connections = new Set<TcpConnection>();
  readonly #options: HttpServerOptions;
  #lastEndMs = -Infinity;
  readonly #closed = new AbortController();

  private constructor(
    listener: TcpListener,
    answer: (call: HttpCall) => HttpReply,
    options: HttpServerOptions,
  ) {
    this.#listener = listener;
    this.#answer = answer;
    this.#options = options;
    this.#serve();
  }

  /** Starts a server. */
  static async start(
    network: Network,
    address: TransportAddress,
    answer: (call: HttpCall) => HttpReply,
    options: HttpServerOptions = {},
  ): Promise<HttpServer> {
    return new HttpServer(await network.listenTcp(address), answer, options);
  }

  /** Stops, and closes every connection. */
  [Symbol.dispose](): void {
    this.#closed.abort();
    this.#listener.close();
    for (const connection of this.#connections) connection.close();
  }

  async #serve(): Promise<void> {
    try {
      while (true) this.#talk(await this.#listener.accept());
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // it is closed
    }
  }

  async #talk(connection: TcpConnection): Promise<void> {
    const now = { open: this.#connections.size, lastEndMs: this.#lastEndMs };
    if (this.#options.refuses?.(now)) return connection.reset();
    this.#connections.add(connection);
    try {
      const call = await readCall(connection);
      if (call === undefined) return;
      this.calls.push(call);
      await this.#reply(connection, this.#answer(call));
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // the client has left
    } finally {
      connection.close();
      this.#connections.delete(connection);
      this.#lastEndMs = performance.now();
    }
  }

  async #reply(connection: TcpConnection, reply: HttpReply): Promise<void> {
    if (reply.delayMs !== undefined && !await this.#pause(reply.delayMs)) return;
    if (reply.kind === "response") {
      await write(connection, encodeHead(reply));
      return await write(connection, reply.body);
    }
    for (const piece of reply.pieces) {
      await write(connection, piece);
      if (reply.pauseMs !== undefined && !await this.#pause(reply.pauseMs)) return;
    }
    if (reply.end === "reset") connection.reset();
    if (reply.end === "stay") await connection.read(new Uint8Array(1));
  }

  /** Whether the connection stays open. */
  #pause(delayMs: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const { signal } = this.#closed;
    const end = () => {
      clearTimeout(timer);
      resolve(!signal.aborted);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", end);
      end();
    }, delayMs);
    signal.addEventListener("abort", end, { once: true });
    return promise;
  }
}

async function readCall(connection: TcpConnection): Promise<HttpCall | undefined> {
  let text = "";
  const buffer = new Uint8Array(4096);
  while (true) {
    const length = await connection.read(buffer);
    if (length === null) return undefined;
    text += new TextDecoder().decode(buffer.subarray(0, length));
    const [head, body = ""] = text.split("\r\n\r\n", 2);
    if (!text.includes("\r\n\r\n")) continue;
    const [startLine = "", ...lines] = head!.split("\r\n");
    const fields = new Map(lines.map((line): [string, string] => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }));
    if (new TextEncoder().encode(body).length < Number(fields.get("content-length") ?? 0)) continue;
    const [method = "", target = ""] = startLine.split(" ");
    return { method, target, fields, body, from: connection.remote };
  }
}

function encodeHead({ status, body, fields = {} }: HttpReply & { kind: "response" }): string {
  const length = bytesOf(body).length;
  const all = { "Content-Type": 'text/xml; charset="utf-8"', "Content-Length": length, ...fields };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} OK\r\n${lines.join("")}\r\n`;
}

/** The bytes of a body. */
export function bytesOf(body: string | Uint8Array): Uint8Array {
  return typeof body === "string" ? new TextEncoder().encode(body) : body;
}

async function write(connection: TcpConnection, what: string | Uint8Array): Promise<void> {
  const data = bytesOf(what);
  for (let sent = 0; sent < data.length;) sent += await connection.write(data.subarray(sent));
}
