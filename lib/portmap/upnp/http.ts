/**
 * HTTP/1.1 as devices speak it: one request on a connection of its own, and its response.
 *
 * @module
 */

import { concat } from "../../base/bytes.ts";
import { malformed, type MalformedMessageError, NoResponseError } from "../../base/errors.ts";
import { writeAll } from "../../base/reader.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  type TransportAddress,
  withoutZone,
} from "../../net/address.ts";
import type { Network, TcpConnection } from "../../net/network.ts";
import { type Head, parseHead, parseStatusLine } from "./header_fields.ts";

/** A request. The connection closes after its response. */
export interface HttpRequest {
  readonly method: "GET" | "POST";
  readonly host: TransportAddress;
  /** The path and query, starting with a slash. */
  readonly target: string;
  /** Fields in addition to `Host`, `Connection` and `Content-Length`. */
  readonly fields?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

/** A complete response. */
export interface HttpResponse {
  readonly status: number;
  /** By name in lower case. */
  readonly fields: ReadonlyMap<string, string>;
  readonly body: Uint8Array;
}

/** Encodes a request. */
export function encodeHttpRequest(request: HttpRequest): Uint8Array {
  const { method, host, target, fields = {}, body } = request;
  const hostField = formatTransportAddress({ ...host, ip: withoutZone(host.ip) });
  const lines = [
    `${method} ${target} HTTP/1.1`,
    `Host: ${hostField}`,
    "Connection: close",
    ...Object.entries(fields).map(([name, value]) => `${name}: ${value}`),
  ];
  if (body !== undefined) lines.push(`Content-Length: ${body.length}`);
  lines.push("", "");
  return concat(new TextEncoder().encode(lines.join("\r\n")), body ?? new Uint8Array());
}

/** What {@linkcode requestHttp} takes. */
export interface HttpOptions {
  /** The address to dial from; a wildcard address lets the system choose. */
  readonly local: string;
  /** From the dial to the last byte. */
  readonly timeoutMs: number;
  /** A longer body is an error. */
  readonly maxBodyBytes: number;
  readonly signal?: AbortSignal;
}

/**
 * Sends a request on a connection of its own. Redirects are responses like any other, and not followed.
 *
 * @throws {NoResponseError} if the response is not complete in time
 * @throws {MalformedMessageError} if it cannot be read, or is too large
 * @throws {NetworkError} if the connection fails
 * @throws the signal's reason on abort
 */
export async function requestHttp(
  network: Network,
  request: HttpRequest,
  options: HttpOptions,
): Promise<HttpResponse> {
  const { local, timeoutMs, maxBodyBytes, signal } = options;
  const expiry = AbortSignal.timeout(timeoutMs);
  const either = signal === undefined ? expiry : AbortSignal.any([signal, expiry]);
  const from = canDialFrom(local, request.host.ip) ? { ip: local, port: 0 } : undefined;
  let connection: TcpConnection | undefined;
  const close = () => connection?.close(); // which ends a pending read
  either.addEventListener("abort", close, { once: true });
  try {
    connection = await network.connectTcp(request.host, { signal: either, local: from });
    await writeAll(connection, encodeHttpRequest(request));
    return await readResponse(connection, new HttpResponseDecoder(maxBodyBytes));
  } catch (error) {
    signal?.throwIfAborted();
    if (!expiry.aborted) throw error;
    const address = formatTransportAddress(request.host);
    throw new NoResponseError(`Cannot reach ${address}: no HTTP response in ${timeoutMs} ms`, {
      cause: error,
    });
  } finally {
    either.removeEventListener("abort", close);
    connection?.close();
  }
}

/**
 * Decodes a response piece by piece, as it arrives. Interim responses (1xx) are skipped, a response without a length ends
 * with the connection, and lines may end with a bare LF.
 */
export class HttpResponseDecoder {
  readonly #maxBodyBytes: number;
  #state: State = { expects: "head" };
  /** What has arrived but is not decoded yet. */
  readonly #pending = new PendingBytes();
  readonly #body = new PendingBytes();
  #head: { status: number; fields: Head["fields"] } | undefined;

  /** @param maxBodyBytes a longer body is an error */
  constructor(maxBodyBytes: number) {
    this.#maxBodyBytes = maxBodyBytes;
  }

  /**
   * Takes the next bytes of the connection.
   *
   * @returns the response once it is complete; what follows it is ignored
   * @throws {MalformedMessageError} if the bytes are not a response, or it is too large
   */
  push(bytes: Uint8Array): HttpResponse | undefined {
    this.#pending.push(bytes);
    while (this.#state.expects !== "nothing" && this.#advance());
    return this.#state.expects === "nothing" ? this.#response() : undefined;
  }

  /**
   * Call this when the connection has ended.
   *
   * @throws {MalformedMessageError} if the response is not complete
   */
  end(): HttpResponse {
    const { expects } = this.#state;
    if (expects === "end" || expects === "trailer" || expects === "nothing") {
      return this.#response();
    }
    // Some devices omit the last chunk, which is empty.
    const isBetweenChunks = expects === "chunk size" && this.#pending.length === 0;
    if (isBetweenChunks && this.#body.length > 0) return this.#response();
    throw malformed(WHAT, `the connection ended in the ${expects}`);
  }

  /** Takes one step; `false` if that needs more bytes. */
  #advance(): boolean {
    const state = this.#state;
    switch (state.expects) {
      case "head":
        return this.#readHead();
      case "body":
      case "chunk":
        return this.#readBody(state);
      case "end":
        this.#take(this.#pending.length);
        return false;
      case "chunk size":
        return this.#readChunkSize();
      case "trailer": {
        const line = this.#line();
        if (line === "") this.#state = { expects: "nothing" };
        return line !== undefined;
      }
      case "nothing":
        return false;
    }
  }

  #readHead(): boolean {
    const bytes = this.#pending.until(endOfHead, MAX_HEAD_BYTES, "head");
    if (bytes === undefined) return false;
    const { startLine, fields } = parseHead(new TextDecoder().decode(bytes), WHAT);
    const status = parseStatusLine(startLine, WHAT);
    if (status < 200) return true; // RFC 9110 §15.2: the final response follows
    this.#head = { status, fields };
    this.#state = this.#framing(status, fields);
    return true;
  }

  /** RFC 9112 §6.3. A length that is not a number is ignored. */
  #framing(status: number, fields: Head["fields"]): State {
    if (status === 204 || status === 304) return { expects: "nothing" };
    if (/\bchunked\b/i.test(fields.get("transfer-encoding") ?? "")) {
      return { expects: "chunk size" };
    }
    const length = fields.get("content-length") ?? "";
    if (!/^\d+$/.test(length)) return { expects: "end" };
    if (Number(length) > this.#maxBodyBytes) throw this.#tooLarge();
    return this.#remaining("body", Number(length));
  }

  #readBody(state: { expects: "body" | "chunk"; remaining: number }): boolean {
    const taken = this.#take(Math.min(state.remaining, this.#pending.length));
    if (taken === 0) return false;
    this.#state = this.#remaining(state.expects, state.remaining - taken);
    return true;
  }

  #remaining(expects: "body" | "chunk", remaining: number): State {
    if (remaining > 0) return { expects, remaining };
    return expects === "body" ? { expects: "nothing" } : { expects: "chunk size" };
  }

  #readChunkSize(): boolean {
    const line = this.#line();
    if (line === undefined) return false;
    if (line === "") return true; // the end of the previous chunk
    const size = /^\s*([0-9a-f]{1,8})\s*(?:;.*)?$/i.exec(line)?.[1];
    if (size === undefined) {
      throw malformed(WHAT, `chunk size is ${JSON.stringify(line.slice(0, 20))}`);
    }
    const remaining = parseInt(size, 16);
    this.#state = remaining === 0 ? { expects: "trailer" } : { expects: "chunk", remaining };
    return true;
  }

  #line(): string | undefined {
    const bytes = this.#pending.until(endOfLine, MAX_LINE_BYTES, "line");
    return bytes && new TextDecoder().decode(bytes).replace(/\r?\n$/, "");
  }

  #take(length: number): number {
    if (this.#body.length + length > this.#maxBodyBytes) throw this.#tooLarge();
    if (length > 0) this.#body.push(this.#pending.take(length));
    return length;
  }

  #tooLarge(): MalformedMessageError {
    return malformed(WHAT, `the body has more than ${this.#maxBodyBytes} bytes`);
  }

  #response(): HttpResponse {
    return { ...this.#head!, body: this.#body.peek() };
  }
}

async function readResponse(
  connection: TcpConnection,
  decoder: HttpResponseDecoder,
): Promise<HttpResponse> {
  const buffer = new Uint8Array(BUFFER_BYTES);
  while (true) {
    const length = await connection.read(buffer);
    if (length === null) return decoder.end();
    const response = decoder.push(buffer.subarray(0, length));
    if (response !== undefined) return response;
  }
}

function canDialFrom(local: string, remote: string): boolean {
  return ipScope(local) !== "unspecified" && ipFamily(local) === ipFamily(remote);
}

type State =
  | { readonly expects: "head" | "chunk size" | "trailer" }
  | { readonly expects: "body" | "chunk"; readonly remaining: number }
  /** The end of the connection, which ends the body. */
  | { readonly expects: "end" }
  | { readonly expects: "nothing" };

/** Bytes that are added at the end and taken from the start, without copying the rest each time. */
class PendingBytes {
  #bytes = new Uint8Array(1024);
  #start = 0;
  #end = 0;
  #searched = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  push(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#bytes.length) {
      const grown = new Uint8Array(2 * (this.length + bytes.length));
      grown.set(this.peek());
      this.#bytes = grown;
      this.#searched -= this.#start;
      this.#end -= this.#start;
      this.#start = 0;
    }
    this.#bytes.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  peek(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#end);
  }

  /** Valid until the next push. */
  take(length: number): Uint8Array {
    const taken = this.#bytes.subarray(this.#start, this.#start + length);
    this.#start += length;
    this.#searched = this.#start;
    return taken;
  }

  /** Takes everything up to a line end that `endOf` accepts; `undefined` if that has not arrived yet. */
  until(
    endOf: (before: Uint8Array) => boolean,
    maxBytes: number,
    what: string,
  ): Uint8Array | undefined {
    const all = this.#bytes.subarray(0, this.#end);
    for (let at = this.#searched; at < this.#end; at++) {
      if (all[at] === NEWLINE && endOf(all.subarray(this.#start, at))) {
        const length = at + 1 - this.#start;
        if (length > maxBytes) break;
        return this.take(length);
      }
    }
    if (this.length > maxBytes) throw malformed(WHAT, `a ${what} has more than ${maxBytes} bytes`);
    this.#searched = this.#end;
    return undefined;
  }
}

function endOfLine(): boolean {
  return true;
}

/** Whether a newline ends an empty line: `\n\n` or `\n\r\n`. Empty lines before a head belong to it. */
function endOfHead(before: Uint8Array): boolean {
  const last = before.at(-1) === RETURN ? before.at(-2) : before.at(-1);
  return last === NEWLINE;
}

const WHAT = "HTTP response";
const NEWLINE = 0x0a;
const RETURN = 0x0d;

/** Chosen by us: devices send a few hundred bytes. */
const MAX_HEAD_BYTES = 16 * 1024;
const MAX_LINE_BYTES = 1024;

const BUFFER_BYTES = 16 * 1024;
