// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Opens a TCP connection from a chosen port with `node:net`: `tcp_open.ts LOCAL_IP:PORT REMOTE_IP:PORT [BYTES]`.
 * Sends this many bytes (default: 5) and FIN, then prints {@linkcode Opened} as JSON, with the bytes that came back.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { connect } from "node:net";
import { formatTransportAddress, parseTransportAddress } from "../../../lib/net/address.ts";

/** The outcome of the connection. */
export type Opened =
  | {
    readonly outcome: "connected";
    readonly remote: string;
    readonly elapsedMs: number;
    readonly received: string;
  }
  | { readonly outcome: "failed"; readonly code: string; readonly elapsedMs: number };

function open(local: string, remote: string, bytes: number): Promise<Opened> {
  const from = parseTransportAddress(local);
  const to = parseTransportAddress(remote);
  const startedMs = performance.now();
  const socket = connect({
    host: to.ip,
    port: to.port,
    localAddress: from.ip,
    localPort: from.port,
  });
  return new Promise((resolve) => {
    const chunks: Uint8Array[] = [];
    let elapsedMs = 0;
    let peer = "";
    socket.on("connect", () => {
      elapsedMs = performance.now() - startedMs;
      peer = formatTransportAddress({ ip: socket.remoteAddress!, port: socket.remotePort! });
      socket.end(new Uint8Array(bytes).fill(HELLO));
    });
    socket.on("data", (chunk: Uint8Array) => chunks.push(chunk));
    socket.on("error", (error: Error & { code?: string }) => {
      const elapsedMs = performance.now() - startedMs;
      resolve({ outcome: "failed", code: error.code ?? error.message, elapsedMs });
    });
    socket.on("close", () => {
      const received = new TextDecoder().decode(Buffer.concat(chunks));
      resolve({ outcome: "connected", remote: peer, elapsedMs, received });
    });
  });
}

/** The letter `h`. */
const HELLO = 0x68;

if (import.meta.main) {
  const [local, remote, bytes = "5"] = Deno.args;
  console.log(JSON.stringify(await open(local!, remote!, Number(bytes))));
}
