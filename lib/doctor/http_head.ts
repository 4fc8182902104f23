/**
 * One HTTP request, for the head of its answer: what a server or a proxy says about itself, and what its clock shows.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { Deadline } from "../base/timers.ts";
import type { TransportAddress } from "../net/address.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import { decodeHead, endOfHead, type HttpHead } from "../signal/websocket/handshake.ts";

/** A server to ask. */
export interface HttpTarget extends TransportAddress {
  /** The name in its certificate; left out for plain HTTP. */
  readonly tlsName?: string;
}

/** The head of an answer. */
export interface HttpAnswer {
  readonly status: number;
  readonly fields: HttpHead["fields"];
}

/**
 * Asks, within two seconds.
 *
 * @param lines of the request, without the empty one at its end
 * @returns `undefined` if there is no answer, or it is not HTTP
 * @throws the signal's reason on abort
 */
export async function askHttp(
  network: Network,
  target: HttpTarget,
  lines: readonly string[],
  signal: AbortSignal,
): Promise<HttpAnswer | undefined> {
  using deadline = new Deadline(ASK_MS, signal);
  try {
    using connection = target.tlsName === undefined
      ? await network.connectTcp(target, { signal: deadline.signal })
      : await network.connectTls(target, { hostname: target.tlsName, signal: deadline.signal });
    const close = () => connection.reset();
    deadline.signal.addEventListener("abort", close, { once: true });
    try {
      await writeAll(connection, new TextEncoder().encode([...lines, "", ""].join("\r\n")));
      const head = decodeHead(await readHead(connection));
      const [, status] = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(head.startLine) ?? [];
      return status === undefined ? undefined : { status: Number(status), fields: head.fields };
    } finally {
      deadline.signal.removeEventListener("abort", close);
    }
  } catch (error) {
    signal.throwIfAborted();
    const isExpected = deadline.signal.aborted || error instanceof NetworkError ||
      error instanceof MalformedMessageError;
    if (isExpected) return undefined;
    throw error;
  }
}

/** How much the clock of a server is ahead of this host's, in milliseconds; `null` if its answer does not tell. */
export function clockOf(answer: HttpAnswer | undefined, nowMs: number): number | null {
  const date = answer?.fields.get("date");
  if (date === undefined || date.length > MAX_DATE) return null;
  const time = Date.parse(date);
  return Number.isNaN(time) ? null : time - nowMs;
}

/** Up to its end, or what fits of it. */
async function readHead(connection: TcpConnection): Promise<Uint8Array> {
  const bytes = new Uint8Array(MAX_HEAD_BYTES);
  let length = 0;
  while (length < bytes.length) {
    const count = await connection.read(bytes.subarray(length));
    if (count === null) break;
    length += count;
    const end = endOfHead(bytes.subarray(0, length));
    if (end !== undefined) return bytes.subarray(0, end);
  }
  return bytes.subarray(0, length);
}

/** Chosen by us: a connection over a slow link, its TLS handshake, and the answer. */
const ASK_MS = 2000;

/** Chosen by us: enough for the fields of any server that is asked so little. */
const MAX_HEAD_BYTES = 8192;

/** RFC 9110 §5.6.7: 29, and more in its obsolete forms. */
const MAX_DATE = 64;
