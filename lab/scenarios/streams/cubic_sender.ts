/**
 * Sends zeros over TCP with the kernel's CUBIC, whatever the system's default is: `cubic_sender.ts IP:PORT MS`. The
 * system calls are direct, since Deno cannot choose the congestion control of a socket.
 *
 * @module
 */

import { parseTransportAddress } from "../../../lib/net/address.ts";

function send(to: string, forMs: number): void {
  const { ip, port } = parseTransportAddress(to);
  const libc = Deno.dlopen("libc.so.6", {
    socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
    setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
    connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
    send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  }).symbols;
  const socket = libc.socket(AF_INET, SOCK_STREAM, 0);
  const name = new TextEncoder().encode("cubic");
  if (libc.setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, name, name.length) !== 0) {
    throw new Error("Cannot use CUBIC");
  }
  const address = Uint8Array.of(
    ...[AF_INET, 0, port >> 8, port & 0xff, ...ip.split(".").map(Number)],
    ...new Uint8Array(8),
  );
  if (libc.connect(socket, address, address.length) !== 0) throw new Error("Cannot connect");
  const data = new Uint8Array(65_536);
  const endMs = performance.now() + forMs;
  while (performance.now() < endMs) {
    if (Number(libc.send(socket, data, BigInt(data.length), MSG_NOSIGNAL)) < 0) break;
  }
}

// Linux, as in <sys/socket.h> and <netinet/tcp.h>.
const AF_INET = 2;
const SOCK_STREAM = 1;
const IPPROTO_TCP = 6;
const TCP_CONGESTION = 13;
const MSG_NOSIGNAL = 0x4000;

if (import.meta.main) send(Deno.args[0]!, Number(Deno.args[1]));
