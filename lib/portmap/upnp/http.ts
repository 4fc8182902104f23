/**
 * One HTTP request to a device, and its response.
 *
 * @module
 */

import { NoResponseError } from "../../base/errors.ts";
import { formatTransportAddress, ipFamily, ipScope } from "../../net/address.ts";
import type { Network, TcpConnection } from "../../net/network.ts";
import {
  encodeHttpRequest,
  type HttpRequest,
  type HttpResponse,
  HttpResponseDecoder,
} from "../http_message.ts";

/** How to ask. */
export interface HttpOptions {
  /** The address to dial from; the wildcard for the system's choice. */
  readonly local: string;
  /** From the dial to the last byte. */
  readonly timeoutMs: number;
  /** More is an error. */
  readonly maxBodyBytes: number;
  readonly signal?: AbortSignal;
}

/**
 * Sends a request on a connection of its own. Redirects are responses like any other: nobody follows them.
 *
 * @throws {NoResponseError} if the response is not complete in time
 * @throws {MalformedMessageError} if it is none, or too large
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
  const close = () => connection?.close(); // what wakes who reads
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

async function writeAll(connection: TcpConnection, data: Uint8Array): Promise<void> {
  for (let sent = 0; sent < data.length;) sent += await connection.write(data.subarray(sent));
}

function canDialFrom(local: string, remote: string): boolean {
  return ipScope(local) !== "unspecified" && ipFamily(local) === ipFamily(remote);
}

const BUFFER_BYTES = 16 * 1024;
