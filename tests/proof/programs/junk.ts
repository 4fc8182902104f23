/**
 * Sends junk datagrams to an IPv4 address at a steady rate, and prints how many it has sent (Linux, `--allow-ffi`):
 *
 *     deno run --allow-ffi junk.ts 127.0.0.1 3478 DATAGRAMS_PER_SECOND SECONDS SEED
 *
 * A third of them is random bytes, a third looks like STUN until its attributes are read, and a third is what other
 * protocols send. `sendmmsg` carries many in one system call, so that the sender takes little time from the server.
 *
 * @module
 */

import { seededRandom } from "../random.ts";

const [ip, port, rate, seconds, seed] = Deno.args;
const libc = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  sendmmsg: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  usleep: { parameters: ["u32"], result: "i32" },
});

const BATCH = 32;
const MMSGHDR_BYTES = 64;
const random = seededRandom(Number(seed));
const fd = libc.symbols.socket(2, 2, 0);
const portNumber = Number(port);
const address = new Uint8Array(16);
address.set([2, 0, portNumber >> 8, portNumber & 0xff, ...ip!.split(".").map(Number)]);
if (libc.symbols.connect(fd, address, 16) !== 0) throw new Error("Cannot connect");

const datagrams = Array.from({ length: BATCH }, (_, i) => newJunk(i % 3));
const headers = new Uint8Array(BATCH * MMSGHDR_BYTES);
const iovecs = new BigUint64Array(BATCH * 2);
const view = new DataView(headers.buffer);
const iovecsAt = Deno.UnsafePointer.value(Deno.UnsafePointer.of(iovecs));
datagrams.forEach((bytes, i) => {
  iovecs[2 * i] = Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
  iovecs[2 * i + 1] = BigInt(bytes.length);
  view.setBigUint64(i * MMSGHDR_BYTES + 16, iovecsAt + BigInt(16 * i), true);
  view.setBigUint64(i * MMSGHDR_BYTES + 24, 1n, true);
});

const startMs = performance.now();
const endMs = startMs + Number(seconds) * 1000;
let sent = 0;
for (let nowMs = startMs; nowMs < endMs; nowMs = performance.now()) {
  const due = (nowMs - startMs) / 1000 * Number(rate);
  if (sent >= due) {
    libc.symbols.usleep(200);
    continue;
  }
  sent += Math.max(0, libc.symbols.sendmmsg(fd, headers, BATCH, 0));
}
Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify({ sent })}\n`));

function newJunk(kind: number): Uint8Array<ArrayBuffer> {
  const bytes = Uint8Array.from(
    { length: 20 + 4 * Math.floor(random() * 20) },
    () => random() * 256,
  );
  if (kind === 0) return bytes;
  if (kind === 1) {
    bytes.set([0, 1, (bytes.length - 20) >> 8, bytes.length - 20, 0x21, 0x12, 0xa4, 0x42]);
    return bytes;
  }
  return new TextEncoder().encode("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n");
}
