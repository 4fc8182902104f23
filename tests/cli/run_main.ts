/**
 * Runs the command line in this process.
 *
 * @module
 */

import { main } from "../../lib/cli/main.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import { formatTransportAddress } from "../../lib/net/address.ts";
import type { TcpListener, UdpSocket } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { noTerminal } from "./no_terminal.ts";

/** What a command printed, line by line, and its exit code. */
export interface MainResult {
  readonly code: number;
  readonly out: readonly string[];
  readonly err: readonly string[];
}

/** Runs a command line. */
export async function runMain(
  args: readonly string[],
  signal: AbortSignal = new AbortController().signal,
): Promise<MainResult> {
  const out: string[] = [];
  const err: string[] = [];
  const code = await main(args, {
    out: (line) => out.push(line),
    err: (line) => err.push(line),
    ...noTerminal(),
    signal,
  });
  return { code, out, err };
}

/** Serves STUN on two addresses of this machine; `name` is for `--server`. */
export async function serveLocally(): Promise<AsyncDisposable & { name: string; other: string }> {
  const server = await serveStun({
    network: systemNetwork,
    address: "127.0.0.1",
    alternateAddress: "127.0.0.2",
    port: 0,
    alternatePort: 0,
  });
  return {
    name: formatTransportAddress(server.addresses[0]!),
    other: formatTransportAddress(server.addresses[3]!),
    [Symbol.asyncDispose]: () => server.close(),
  };
}

/** Answers everything over UDP and TCP with the same text. */
export async function serveText(text: string): Promise<AsyncDisposable & { name: string }> {
  const bytes = new TextEncoder().encode(text);
  const { udp, tcp } = await bindBoth();
  const serving = Promise.all([
    untilClosed(async () => {
      const { from } = await udp.receive();
      await udp.send(bytes, from);
    }),
    untilClosed(async () => {
      const connection = await tcp.accept();
      await connection.write(bytes).catch(() => {});
      connection.close();
    }),
  ]);
  return {
    name: formatTransportAddress(udp.local),
    async [Symbol.asyncDispose]() {
      udp.close();
      tcp.close();
      await serving;
    },
  };
}

/** Binds the same port for UDP and TCP, which may take several tries. */
async function bindBoth(): Promise<{ udp: UdpSocket; tcp: TcpListener }> {
  for (;;) {
    const tcp = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
    try {
      return { udp: await systemNetwork.bindUdp(tcp.local), tcp };
    } catch (error) {
      tcp.close();
      if (!(error instanceof NetworkError && error.reason === "address-in-use")) throw error;
    }
  }
}

/** A port of this machine on which nothing listens. */
export async function closedPort(): Promise<string> {
  using udp = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
  return formatTransportAddress(udp.local);
}

async function untilClosed(turn: () => Promise<void>): Promise<void> {
  try {
    for (;;) await turn();
  } catch {
    // The socket is closed.
  }
}
