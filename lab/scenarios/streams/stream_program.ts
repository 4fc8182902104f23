// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * One end of a stream in a host of the lab, for some time:
 *
 *     stream_program.ts udp-send|udp-receive LOCAL REMOTE MS
 *     stream_program.ts tcp-receive LOCAL MS
 *
 * Receivers print `{ bytes, elapsedMs }` as JSON, from the first byte to the last within that time.
 *
 * @module
 */

import { writeAll } from "../../../lib/base/reader.ts";
import { NetworkError } from "../../../lib/base/errors.ts";
import { parseTransportAddress } from "../../../lib/net/address.ts";
import type { TcpConnection } from "../../../lib/net/network.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import { UdpDemultiplexer } from "../../../lib/udp/demultiplexer.ts";
import { derivePathKeys } from "../../../lib/udp/path_keys.ts";
import { UdpConnection } from "../../../lib/udp/udp_connection.ts";

/** What a receiver measures. */
export interface StreamResult {
  readonly bytes: number;
  readonly elapsedMs: number;
}

if (import.meta.main) {
  const [mode, ...rest] = Deno.args as [string, ...string[]];
  const forMs = Number(rest.at(-1));
  const [first, second] = rest.slice(0, -1).map((text) => parseTransportAddress(text));
  using stream = await open(mode, first!, second);
  if (mode === "udp-send") await send(stream, forMs);
  else console.log(JSON.stringify(await receive(stream, forMs)));
  Deno.exit(); // nothing else is of interest
}

async function open(
  mode: string,
  first: TransportAddress,
  second: TransportAddress | undefined,
): Promise<TcpConnection> {
  if (mode === "tcp-receive") {
    const listener = await systemNetwork.listenTcp(first);
    return await listener.accept();
  }
  const socket = new UdpDemultiplexer(
    await systemNetwork.bindUdp(first, { maxDatagramBytes: 1500 }),
  );
  const role = mode === "udp-send" ? "controlling" : "controlled";
  const keys = derivePathKeys(new Uint8Array(32), role);
  return new UdpConnection(socket, { remote: second!, keys });
}

async function send(stream: TcpConnection, forMs: number): Promise<void> {
  const data = new Uint8Array(65_536);
  const endMs = performance.now() + forMs;
  try {
    while (performance.now() < endMs) await writeAll(stream, data);
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error; // the receiver's time was up first
  }
}

async function receive(stream: TcpConnection, forMs: number): Promise<StreamResult> {
  const buffer = new Uint8Array(65_536);
  let bytes = (await stream.read(buffer))!;
  const startMs = performance.now();
  let nowMs = startMs;
  while (nowMs - startMs < forMs) {
    const length = await stream.read(buffer);
    if (length === null) break;
    bytes += length;
    nowMs = performance.now();
  }
  return { bytes, elapsedMs: nowMs - startMs };
}

type TransportAddress = ReturnType<typeof parseTransportAddress>;
