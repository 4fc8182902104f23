/**
 * A load generator for STUN servers over UDP. It keeps a number of Binding requests in flight for some seconds, and prints
 * the result as JSON. Its system calls carry up to 64 datagrams each (sendmmsg, recvmmsg), so that it uses a fraction of
 * the processor time of the server. Linux on a 64-bit machine; needs `--allow-ffi`.
 *
 *     deno run --allow-ffi bench/stun_load.ts 127.0.0.1 3478 [seconds] [requestBytes] [inFlight]
 *
 * @module
 */

/** The result of a run. */
export interface LoadReport {
  readonly answers: number;
  readonly lost: number;
  readonly elapsedMs: number;
  readonly answerBytes: number;
}

const libc = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32" },
  sendmmsg: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  recvmmsg: { parameters: ["i32", "buffer", "u32", "i32", "pointer"], result: "i32" },
});

/** Sends Binding requests to an IPv4 address for some seconds, `inFlight` at a time. */
export function load(
  ip: string,
  port: number,
  options: { seconds: number; requestBytes: number; inFlight: number },
): LoadReport {
  const { seconds, requestBytes, inFlight } = options;
  const fd = libc.symbols.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  const address = new Uint8Array([
    AF_INET,
    0,
    port >> 8,
    port & 0xff,
    ...ip.split(".").map(Number),
    ...new Array(8).fill(0),
  ]);
  if (fd < 0 || libc.symbols.connect(fd, address, address.length) !== 0) {
    throw new Error(`Cannot connect a UDP socket to ${ip}:${port}`);
  }
  const requests = new Batch(() => bindingRequest(requestBytes));
  const answers = new Batch(() => new Uint8Array(2048));
  const pollFd = new Uint8Array(8);
  new DataView(pollFd.buffer).setInt32(0, fd, true);
  pollFd[4] = POLLIN;

  const start = performance.now();
  const end = start + seconds * 1000;
  let outstanding = 0, received = 0, lost = 0, answerBytes = 0, now = start;
  while ((now = performance.now()) < end) {
    while (outstanding < inFlight) {
      const sent = libc.symbols.sendmmsg(
        fd,
        requests.headers,
        Math.min(BATCH, inFlight - outstanding),
        0,
      );
      if (sent <= 0) break;
      outstanding += sent;
    }
    if (libc.symbols.poll(pollFd, 1n, LOST_AFTER_MS) === 0) {
      lost += outstanding;
      outstanding = 0;
      continue;
    }
    const count = libc.symbols.recvmmsg(fd, answers.headers, BATCH, 0, null);
    if (count <= 0) continue;
    received += count;
    outstanding = Math.max(0, outstanding - count);
    answerBytes = answers.length(0);
  }
  libc.symbols.close(fd);
  return { answers: received, lost, elapsedMs: now - start, answerBytes };
}

/** An array of `struct mmsghdr`, each with one buffer. */
class Batch {
  readonly headers = new Uint8Array(BATCH * MMSGHDR_BYTES);
  readonly #buffers: Uint8Array<ArrayBuffer>[] = [];
  readonly #iovecs = new BigUint64Array(BATCH * 2);

  constructor(newBuffer: () => Uint8Array<ArrayBuffer>) {
    const view = new DataView(this.headers.buffer);
    const iovecs = addressOf(this.#iovecs);
    for (let i = 0; i < BATCH; i++) {
      const buffer = newBuffer();
      this.#buffers.push(buffer);
      this.#iovecs[2 * i] = addressOf(buffer);
      this.#iovecs[2 * i + 1] = BigInt(buffer.length);
      view.setBigUint64(i * MMSGHDR_BYTES + 16, iovecs + BigInt(16 * i), true);
      view.setBigUint64(i * MMSGHDR_BYTES + 24, 1n, true);
    }
  }

  length(index: number): number {
    return new DataView(this.headers.buffer).getUint32(index * MMSGHDR_BYTES + 56, true);
  }
}

function bindingRequest(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0x0001);
  view.setUint16(2, length - 20);
  view.setUint32(4, 0x2112_a442);
  crypto.getRandomValues(bytes.subarray(8, 20));
  if (length > 20) {
    view.setUint16(20, 0x8022); // SOFTWARE
    view.setUint16(22, length - 24);
    bytes.fill(0x70, 24);
  }
  return bytes;
}

function addressOf(buffer: Uint8Array<ArrayBuffer> | BigUint64Array<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer));
}

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const POLLIN = 1;
const BATCH = 64;
const MMSGHDR_BYTES = 64;

/** If nothing arrives for this long, all requests in flight count as lost. */
const LOST_AFTER_MS = 50;

if (import.meta.main) {
  const [ip = "127.0.0.1", port = "3478", seconds = "2", requestBytes = "68", inFlight = "64"] =
    Deno.args;
  const report = load(ip, Number(port), {
    seconds: Number(seconds),
    requestBytes: Number(requestBytes),
    inFlight: Number(inFlight),
  });
  // deno-lint-ignore no-console
  console.log(JSON.stringify(report));
}
