/**
 * HTTP/1.1 as devices speak it: one request on a connection of its own, and its response.
 *
 * @module
 */

import { concat } from "../../base/bytes.ts";
import {
  malformed,
  MalformedMessageError,
  NetworkError,
  NoResponseError,
} from "../../base/errors.ts";
import { writeAll } from "../../base/reader.ts";
import { ResettableTimer } from "../../base/timers.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  type TransportAddress,
  withoutZone,
} from "../../net/address.ts";
import type { Network, TcpConnection } from "../../net/network.ts";
import { type DeviceUrl, resolveDeviceUrl } from "./device.ts";
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
  /** The longest wait for the first byte, and between two bytes; as long as `timeoutMs` by default. */
  readonly idleMs?: number;
  /** A longer body is an error. */
  readonly maxBodyBytes: number;
  /** How much of a document the body is, in case its length is missing or wrong; `"unknown"` by default. */
  readonly extent?: (body: Uint8Array) => DocumentExtent;
  readonly signal?: AbortSignal;
}

/** How much of a document some bytes are, as far as they show it. */
export type DocumentExtent = "whole" | "cut" | "unknown";

/**
 * Sends a request to a device, and follows its redirects to other pages of its own. Whatever host they name, only the
 * address that was asked is asked again.
 *
 * @throws as {@linkcode requestHttp}
 */
export async function requestDevice(
  network: Network,
  url: DeviceUrl,
  { request, options }: {
    readonly request: Omit<HttpRequest, "host" | "target">;
    readonly options: HttpOptions;
  },
): Promise<HttpResponse> {
  let at = url;
  for (let redirects = 0;; redirects++) {
    const asked = { ...request, host: at.address, target: at.target };
    const response = await requestHttp(network, asked, options);
    const next = redirects < MAX_REDIRECTS ? redirectOf(response, at) : undefined;
    if (next === undefined) return response;
    at = next;
  }
}

function redirectOf({ status, fields }: HttpResponse, at: DeviceUrl): DeviceUrl | undefined {
  const location = fields.get("location") ?? "";
  if (!REDIRECTS.includes(status) || location === "") return undefined;
  try {
    return resolveDeviceUrl(at, location);
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined; // such as HTTPS: a response like any other
    throw error;
  }
}

/**
 * Sends a request on a connection of its own. Redirects are responses like any other, and not followed.
 *
 * @throws {NoResponseError} if the response is not complete in time
 * @throws {MalformedMessageError} if it cannot be read, or is too large
 * @throws {NetworkError} if the connection fails
 * @throws the signal's reason on abort
 */
async function requestHttp(
  network: Network,
  request: HttpRequest,
  options: HttpOptions,
): Promise<HttpResponse> {
  const { local, timeoutMs, idleMs = timeoutMs, maxBodyBytes, extent, signal } = options;
  const expiry = AbortSignal.timeout(timeoutMs);
  const either = signal === undefined ? expiry : AbortSignal.any([signal, expiry]);
  const from = canDialFrom(local, request.host.ip) ? { ip: local, port: 0 } : undefined;
  const decoder = new HttpResponseDecoder(maxBodyBytes, extent);
  let connection: TcpConnection | undefined;
  let isIdle = false;
  const close = () => connection?.close(); // which ends a pending read
  const idle = new ResettableTimer(() => {
    isIdle = true;
    close();
  });
  either.addEventListener("abort", close, { once: true });
  try {
    connection = await network.connectTcp(request.host, { signal: either, local: from });
    idle.set(idleMs);
    await writeAll(connection, encodeHttpRequest(request));
    const response = await readResponse(connection, decoder, () => {
      idle.set(decoder.isLongEnough ? REST_MS : idleMs);
    });
    return await decompressed(response, maxBodyBytes);
  } catch (error) {
    signal?.throwIfAborted();
    if (!expiry.aborted && !isIdle) throw error;
    if (decoder.isLongEnough) return await decompressed(decoder.end(), maxBodyBytes);
    const address = formatTransportAddress(request.host);
    const waitedMs = expiry.aborted ? timeoutMs : idleMs;
    throw new NoResponseError(`Cannot reach ${address}: no HTTP response in ${waitedMs} ms`, {
      cause: error,
    });
  } finally {
    either.removeEventListener("abort", close);
    idle.clear();
    connection?.close();
  }
}

/** Devices compress although they were not asked to. The header field may be missing. */
async function decompressed(response: HttpResponse, maxBytes: number): Promise<HttpResponse> {
  const { fields, body } = response;
  const encoding = (fields.get("content-encoding") ?? "").trim().toLowerCase();
  const isGzip = body[0] === 0x1f && body[1] === 0x8b; // RFC 1952 §2.3.1
  const isZlib = (body[0] ?? 0) % 16 === 8; // RFC 1950 §2.2; some devices send only what is inside
  const deflate = isZlib ? "deflate" : "deflate-raw";
  const format = isGzip ? "gzip" : encoding === "deflate" ? deflate : undefined;
  if (format === undefined || body.length === 0) return response;
  const pieces: Uint8Array[] = [];
  let length = 0;
  const { readable, writable } = new DecompressionStream(format);
  const writer = writable.getWriter();
  // Its failure is the reader's too.
  const writing = writer.write(body.slice()).then(() => writer.close()).catch(() => {});
  try {
    for await (const piece of readable) {
      length += piece.length;
      if (length > maxBytes) throw malformed(WHAT, `the body has more than ${maxBytes} bytes`);
      pieces.push(piece);
    }
  } catch (error) {
    if (error instanceof MalformedMessageError) throw error;
    throw malformed(WHAT, `the body is not ${format}`, error);
  } finally {
    await writing;
  }
  return { ...response, body: concat(...pieces) };
}

/**
 * Decodes a response piece by piece, as it arrives. Interim responses (1xx) are skipped, lines may end with a bare LF, and
 * a response without a length ends with the connection. If the document in the body shows where it ends, that counts more
 * than a length that is missing or wrong.
 */
export class HttpResponseDecoder {
  readonly #maxBodyBytes: number;
  #state: State = { expects: "head" };
  /** What has arrived but is not decoded yet. */
  readonly #pending = new PendingBytes();
  readonly #body = new PendingBytes();
  readonly #extent: (body: Uint8Array) => DocumentExtent;
  #isLongEnough = false;
  #head: { status: number; fields: Head["fields"] } | undefined;

  /** @param maxBodyBytes a longer body is an error */
  constructor(maxBodyBytes: number, extent: HttpOptions["extent"] = () => "unknown") {
    this.#maxBodyBytes = maxBodyBytes;
    this.#extent = extent;
  }

  /** Whether the announced length has arrived, although the document does not look whole. */
  get isLongEnough(): boolean {
    return this.#isLongEnough;
  }

  /** Whether nothing has arrived. */
  get isEmpty(): boolean {
    return this.#head === undefined && this.#pending.length === 0;
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
    // Others announce more than they send.
    if (this.#head !== undefined && this.#extent(this.#body.peek()) === "whole") {
      return this.#response();
    }
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
        if (this.#extent(this.#body.peek()) === "whole") this.#state = { expects: "nothing" };
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
    const isDone = this.#state.expects === "nothing";
    // A length that is too short: the rest follows.
    if (isDone && this.#extent(this.#body.peek()) === "cut") {
      this.#state = { expects: "end" };
      this.#isLongEnough = true;
    }
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
    if (size === undefined && this.#body.length === 0 && line.trimStart().startsWith("<")) {
      this.#body.push(new TextEncoder().encode(`${line}\n`)); // it announces chunks, and sends none
      this.#state = { expects: "end" };
      return true;
    }
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
  onBytes: () => void,
): Promise<HttpResponse> {
  const buffer = new Uint8Array(BUFFER_BYTES);
  while (true) {
    const length = await connection.read(buffer);
    if (length === null && decoder.isEmpty) {
      const address = formatTransportAddress(connection.remote);
      throw new NetworkError(`Cannot reach ${address}: it hung up without an answer`, "reset");
    }
    if (length === null) return decoder.end();
    const response = decoder.push(buffer.subarray(0, length));
    if (response !== undefined) return response;
    onBytes();
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
  return last === NEWLINE && before.some((byte) => byte > SPACE);
}

const WHAT = "HTTP response";
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;

/** Chosen by us: how long to wait for more than the announced length. */
const REST_MS = 1000;

/** RFC 9110 §15.4. */
const REDIRECTS = [301, 302, 303, 307, 308];

/** Chosen by us: devices redirect once, to the page with a trailing slash or to another port. */
const MAX_REDIRECTS = 3;

/** Chosen by us: devices send a few hundred bytes. */
const MAX_HEAD_BYTES = 16 * 1024;
const MAX_LINE_BYTES = 1024;

const BUFFER_BYTES = 16 * 1024;
