/**
 * Programs on either side that misuse what is forwarded: each is bounded in what it makes this side keep.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { WaitQueue } from "../../lib/base/wait_queue.ts";
import type { TcpConnection, UdpSocket } from "../../lib/net/network.ts";
import { forward, serveForwards } from "../../lib/peer/forward.ts";
import type { ForwardEvent } from "../../lib/peer/forward_outcome.ts";
import { UdpForwarder } from "../../lib/peer/forward_udp.ts";
import { MAX_UDP_FLOWS } from "../../lib/peer/udp_flows_engine.ts";
import { MAX_WINDOW_BYTES, WindowBudget } from "../../lib/session/receive_stream.ts";
import { StreamSession } from "../../lib/session/streams.ts";
import { inVirtualTime } from "../session/fixtures.ts";
import { testPathPair } from "../session/test_path.ts";

Deno.test("datagrams of 10,000 sources open as many flows as there may be, and are told once", () =>
  inVirtualTime(async () => {
    const { one, other } = await twoSides();
    const datagrams = { [Symbol.asyncIterator]: () => new WaitQueue<Uint8Array>(1).items() };
    const carrier = {
      openStream: () => one.openStream(),
      sendDatagram: () => Promise.resolve(true),
      maxDatagramBytes: 1163,
      datagrams,
    };
    const events: ForwardEvent[] = [];
    const forwarder = new UdpForwarder(carrier, (event) => events.push(event));
    const socket = { local: { ip: "127.0.0.1", port: 5353 } } as unknown as UdpSocket;
    const data = new Uint8Array(1200);
    for (let port = 1; port <= 10_000; port++) {
      for (let i = 0; i < 3; i++) {
        forwarder.forward({ socket }, { data, from: { ip: "127.0.0.1", port } });
      }
    }
    await settled();
    assertEquals(one.openStreams, 1 + MAX_UDP_FLOWS); // and the first, which is always there
    assertEquals(events, []);
    // The other side offers none: each flow is refused once, and then dropped.
    const serving = serveForwards(other);
    await settled(1000);
    for (let port = 1; port <= 10_000; port++) {
      forwarder.forward({ socket }, { data, from: { ip: "127.0.0.1", port } });
    }
    await settled(1000);
    assertEquals(events.length, MAX_UDP_FLOWS);
    assertEquals(one.openStreams, 1);
    one.reset();
    other.reset();
    await Promise.allSettled([serving, forwarder[Symbol.asyncDispose]()]);
  }));

for (const who of ["client", "service"] as const) {
  Deno.test(`a hundred ${who}s that never read hold what the budget allows, and stop no other connection`, () =>
    inVirtualTime(async () => {
      const { one, other, windows } = await twoSides();
      const clients = Array.from({ length: 100 }, () => new TestStream());
      const services = Array.from({ length: 100 }, () => new TestStream());
      const [silent, flooding] = who === "client" ? [clients, services] : [services, clients];
      for (const each of flooding) each.isFlood = true;
      const waiting = [...services];
      const target = {
        name: "s",
        connect: () => Promise.resolve<TcpConnection>(waiting.shift() ?? echo),
      };
      const echo = new TestStream();
      echo.mayWrite = true;
      const serving = serveForwards(other, { targets: [target] });
      const stuck = clients.map((client) => forward(one, client).catch(() => {}));
      await settled(10_000);
      assertEquals(silent.reduce((sum, { written }) => sum + written, 0), 0);
      const taken = flooding.reduce((sum, each) => sum + each.taken, 0);
      // What a copy has in hand, and what the first stream and the session's own log may hold, come on top.
      const inHand = 100 * 2 * 65_536 + 2 * MAX_WINDOW_BYTES;
      assert(windows.heldBytes <= 2 * PER_KEY_BYTES, `${windows.heldBytes}`);
      assert(taken <= 2 * PER_KEY_BYTES + inHand, `${taken} bytes were taken`);
      const healthy = new TestStream();
      healthy.mayWrite = true;
      const working = forward(one, healthy);
      healthy.push(new Uint8Array(3));
      await settled(1000);
      assertEquals(echo.written, 3);
      healthy.end();
      echo.end();
      await working;
      // Those that read nothing go away: nothing of them is left.
      for (const each of silent) each.break();
      await settled(5000);
      await Promise.all(stuck);
      assertEquals([one.openStreams, other.openStreams, windows.heldBytes], [1, 1, 0]);
      assert([...clients, ...services].every(({ isClosed }) => isClosed));
      one.reset();
      other.reset();
      await serving;
    }));
}

Deno.test("a hundred half-open connections end with their clients", () =>
  inVirtualTime(async () => {
    const { one, other } = await twoSides();
    const services: TestStream[] = [];
    const target = {
      name: "s",
      connect: () => {
        const service = new TestStream();
        services.push(service);
        return Promise.resolve<TcpConnection>(service);
      },
    };
    const serving = serveForwards(other, { targets: [target] });
    const clients = Array.from({ length: 100 }, () => new TestStream());
    const forwarding = clients.map((client) => forward(one, client).catch(() => {}));
    for (const client of clients) client.end(); // they write no more, and wait for the answer
    await settled(60_000);
    assertEquals([services.length, one.openStreams], [100, 101]);
    assert(services.every(({ hasEnded }) => hasEnded));
    for (const client of clients) client.break();
    for (const service of services) service.push(new Uint8Array(10)); // writing shows that they are gone
    await settled(5000);
    await Promise.all(forwarding);
    assertEquals([one.openStreams, other.openStreams], [1, 1]);
    assert([...clients, ...services].every(({ isClosed }) => isClosed));
    one.reset();
    other.reset();
    await serving;
  }));

/** What the windows of one key may hold, and as much again by growing: see `receive_stream.ts`. */
const PER_KEY_BYTES = 32 * 1024 * 1024;

/** One end of a local connection, as a program at its other end makes it behave. */
class TestStream implements TcpConnection {
  readonly local = { ip: "127.0.0.1", port: 1 };
  readonly remote = { ip: "127.0.0.1", port: 2 };
  /** Whether there is always more to read. */
  isFlood = false;
  /** Whether what is written is taken. */
  mayWrite = false;
  taken = 0;
  written = 0;
  isClosed = false;
  hasEnded = false;
  readonly #chunks: (Uint8Array | null)[] = [];
  readonly #broken = Promise.withResolvers<never>();
  #wake = () => {};

  constructor() {
    this.#broken.promise.catch(() => {});
  }

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#wake();
  }

  end(): void {
    this.#chunks.push(null);
    this.#wake();
  }

  break(): void {
    this.#broken.reject(new Error("it is gone"));
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    if (this.isFlood) {
      await Promise.race([this.#broken.promise, Promise.resolve()]);
      this.taken += buffer.length;
      return buffer.length;
    }
    while (this.#chunks.length === 0) {
      const more = new Promise<void>((resolve) => this.#wake = resolve);
      await Promise.race([this.#broken.promise, more]);
    }
    const chunk = this.#chunks[0]!;
    if (chunk === null) return null;
    this.#chunks.shift();
    buffer.set(chunk);
    return chunk.length;
  }

  async write(data: Uint8Array): Promise<number> {
    if (!this.mayWrite) return await this.#broken.promise;
    this.written += data.length;
    return data.length;
  }

  async closeWrite(): Promise<void> {
    this.hasEnded = true;
    await Promise.resolve();
  }

  close(): void {
    this.isClosed = true;
    this.break();
  }

  reset(): void {
    this.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Two sides, of which each has the memory that a peer has for those of one key. */
async function twoSides() {
  const windows = new WindowBudget();
  const one = new StreamSession({ role: "controlling", windows: windows.of("one") });
  const other = new StreamSession({ role: "controlled", windows: windows.of("other") });
  const [path, otherPath] = testPathPair();
  await Promise.all([one.attach(path), other.attach(otherPath)]);
  return { one, other, windows };
}

function settled(ms = 100): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
