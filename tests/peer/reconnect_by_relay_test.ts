import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import type { PeerConnection } from "../../lib/peer/connection.ts";
import { dialPeer } from "../../lib/peer/dialer.ts";
import type { PeerOptions, PeerProgress } from "../../lib/peer/options.ts";
import { decodeTicket } from "../../lib/peer/ticket.ts";
import type { Network, TcpConnection } from "../../lib/net/network.ts";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import { inPeerScene, nextOf, type PeerScene, SERVERS } from "../scenes/peer_scene.ts";
import { contextWith, testRelay } from "./test_relay.ts";
import { PathChoices } from "../../lib/peer/path_choice.ts";

/** A NAT that gives a lost mapping another port when it comes back. */
const random = natBehavior({ allocation: { kind: "random" } }, NAT_BEHAVIORS.portRestricted);

Deno.test("a connection that a relay carries again stays when the time to reconnect is up", () =>
  inPeerScene({ a: random, b: random }, async (scene) => {
    const timings = { reconnectMs: 6500 };
    await using ends = await connectByRelay(scene, { isBlocked: () => true, timings });
    const { conn, other } = ends;
    scene.nats.a.flush();
    scene.nats.b.flush();
    await conn.write(toBytes("hello"));
    assertEquals(await readText(other, 5), "hello");
    await delay(20_000); // the search for a direct path goes on until after the time to reconnect
    assertEquals([conn.hasPath, conn.path.kind], [true, "relay"]);
    await other.write(toBytes("world"));
    assertEquals(await readText(conn, 5), "world");
    await Promise.all([conn.closeWrite(), other.closeWrite(), conn.finished, other.finished]);
  }));

Deno.test("a connection over a relay moves to a direct path minutes later, once there is one", () =>
  inPeerScene({}, async (scene) => {
    let isBlocked = true;
    await using ends = await connectByRelay(scene, { isBlocked: () => isBlocked });
    const { conn, other } = ends;
    await delay(40_000); // the first search is over
    assertEquals(conn.path.kind, "relay");
    isBlocked = false;
    await delay(30_000);
    assertEquals([conn.path.relayed, other.path.relayed], [false, false]);
    await conn.write(toBytes("hello"));
    assertEquals(await readText(other, 5), "hello");
    await Promise.all([conn.closeWrite(), other.closeWrite(), conn.finished, other.finished]);
  }));

Deno.test("a direct path that delivers less than the relay is left for it, and one that delivers as much is kept", async () => {
  for (const bytesPerMs of [20, 200]) {
    await inPeerScene({}, async (scene) => {
      let isBlocked = true;
      await using ends = await connectByRelay(scene, { isBlocked: () => isBlocked, bytesPerMs });
      const { conn, other } = ends;
      new PathChoices(false, undefined).watch(conn); // as a peer makes it
      const paths: boolean[] = [];
      const watching = (async () => {
        for await (const event of conn.events) {
          if (event.event === "path") paths.push(event.path.relayed);
        }
      })();
      const sending = send(conn, 150_000, 100);
      const received = new Response(other.readable).bytes();
      await delay(40_000);
      assertEquals(conn.path.kind, "relay");
      isBlocked = false;
      await delay(50_000);
      isBlocked = true;
      assertEquals([paths[0], paths.at(-1)], [false, bytesPerMs === 20]);
      assertEquals(conn.path.relayed, bytesPerMs === 20);
      await sending;
      await conn.closeWrite();
      assertEquals((await received).length, 15_000_000);
      await Promise.all([other.closeWrite(), conn.finished, other.finished]);
      await watching;
    });
  }
});

Deno.test("a direct path that stalls under what the relay carried is left for it within seconds", () =>
  inPeerScene({}, async (scene) => {
    let isBlocked = true;
    const told: PeerProgress[] = [];
    await using ends = await connectByRelay(scene, {
      isBlocked: () => isBlocked,
      bytesPerMs: 10,
      onProgress: (each) => told.push(each),
    });
    const { conn, other } = ends;
    new PathChoices(false, undefined).watch(conn);
    const moves: { readonly isRelayed: boolean; readonly atMs: number }[] = [];
    const watching = (async () => {
      for await (const event of conn.events) {
        if (event.event !== "path") continue;
        moves.push({ isRelayed: event.path.relayed, atMs: performance.now() });
      }
    })();
    const sending = send(conn, 100_000, 1000);
    const received = new Response(other.readable).bytes();
    await delay(40_000);
    isBlocked = false;
    await delay(60_000);
    assertEquals(moves.map(({ isRelayed }) => isRelayed), [false, true]);
    const directMs = moves[1]!.atMs - moves[0]!.atMs;
    assert(directMs < 2000, `${directMs} ms`);
    assertEquals(told.filter(({ event }) => event === "finding"), [], "no MTU hole");
    await sending;
    await conn.closeWrite();
    assertEquals((await received).length, 100_000_000);
    await Promise.all([other.closeWrite(), conn.finished, other.finished]);
    await watching;
  }));

/** Writes 100 KB/s, or as much of it as the path takes. */
async function send(conn: PeerConnection, times: number, bytes: number): Promise<void> {
  const data = new Uint8Array(100 * bytes);
  for (let time = 0; time < times; time += 100) {
    await conn.write(data);
    await delay(100);
  }
}

/** Both ends of a connection from a to b; while it is blocked, only a relay carries it. */
async function connectByRelay(
  { a, b, hub, internet, nats, open }: PeerScene,
  { isBlocked, timings, bytesPerMs, onProgress }: {
    isBlocked: () => boolean;
    timings?: PeerOptions["timings"];
    /** Of the side that listens. */
    onProgress?: PeerOptions["onProgress"];
    /** What a direct path delivers. Default: unlimited. */
    bytesPerMs?: number;
  },
): Promise<AsyncDisposable & { conn: PeerConnection; other: PeerConnection }> {
  const stack = new AsyncDisposableStack();
  const bob = stack.use(await open(b, { onProgress }));
  const relay = testRelay(internet.host("relay", {}));
  const dialer = stack.use(contextWith({
    network: slowTo(
      withoutWayTo(a.network, nats.b.externalIps, isBlocked),
      nats.b.externalIps,
      bytesPerMs,
    ),
    signaling: [hub],
    servers: SERVERS,
    mapPorts: false,
    timings,
  }, relay));
  const accepted = nextOf(bob).then((incoming) => incoming.accept());
  const { signal } = new AbortController();
  const options = { protocol: "", reconnects: true, signal };
  const conn = stack.use(await dialPeer(dialer.context, decodeTicket(bob.ticket), options));
  const other = stack.use(await accepted);
  return { conn, other, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

for (const losses of [1, Infinity]) {
  const next = losses === 1 ? "the next direct path" : "the relay";
  Deno.test(`a path that dies before its first byte is left at once for ${next}`, () =>
    inPeerScene({ a: random, b: random }, async ({ a, b, hub, internet, nats, open }) => {
      await using bob = await open(b);
      const options: PeerOptions = {
        network: losingNominated(a.network, nats.b.externalIps, losses),
        signaling: [hub],
        servers: SERVERS,
        mapPorts: false,
      };
      await using dialer = contextWith(options, testRelay(internet.host("relay", {})));
      const accepted = nextOf(bob).then((incoming) => incoming.accept());
      const { signal } = new AbortController();
      const startedMs = performance.now();
      await using conn = await dialPeer(dialer.context, decodeTicket(bob.ticket), {
        protocol: "",
        reconnects: true,
        signal,
      });
      await conn.write(toBytes("hello"));
      await using other = await accepted;
      assertEquals(await readText(other, 5), "hello");
      await other.write(toBytes("world"));
      assertEquals(await readText(conn, 5), "world");
      const elapsedMs = performance.now() - startedMs;
      assert(elapsedMs < 3000, `${elapsedMs} ms`);
      await delay(10_000);
      assertEquals([conn.path.relayed, other.path.relayed], [losses > 1, losses > 1]);
      await Promise.all([conn.closeWrite(), other.closeWrite(), conn.finished, other.finished]);
    }));
}

/**
 * A network on which direct connections die as soon as this side has nominated them, a number of times, and nothing tells
 * this side before it reads.
 */
function losingNominated(network: Network, ips: readonly string[], losses: number): Network {
  let lost = 0;
  const losing = (connection: TcpConnection): TcpConnection => {
    let writes = 0;
    return Object.assign(Object.create(connection), {
      local: connection.local,
      remote: connection.remote,
      read: (buffer: Uint8Array) => connection.read(buffer),
      write: (data: Uint8Array) => {
        writes++;
        if (writes !== NOMINATION || ++lost > losses) return connection.write(data);
        connection.reset();
        return Promise.resolve(data.length);
      },
      closeWrite: () => connection.closeWrite(),
      close: () => connection.close(),
      reset: () => connection.reset(),
      [Symbol.dispose]: () => connection.close(),
    });
  };
  return {
    ...network,
    connectTcp: async (remote, options) => {
      const connection = await network.connectTcp(remote, options);
      return ips.includes(remote.ip) ? losing(connection) : connection;
    },
    listenTcp: async (local, options) => {
      const listener = await network.listenTcp(local, options);
      const accept = listener.accept.bind(listener);
      return Object.assign(listener, {
        accept: async (options?: { signal?: AbortSignal }) => losing(await accept(options)),
      });
    },
  };
}

/** The second write: the proof comes first. */
const NOMINATION = 2;

/** A network on which connections to these addresses take so many bytes of each write in a millisecond. */
function slowTo(network: Network, ips: readonly string[], bytesPerMs: number | undefined): Network {
  if (bytesPerMs === undefined) return network;
  const slow = (connection: TcpConnection): TcpConnection =>
    Object.assign(Object.create(connection), {
      local: connection.local,
      remote: connection.remote,
      read: (buffer: Uint8Array) => connection.read(buffer),
      write: async (data: Uint8Array) => {
        const written = await connection.write(data);
        await delay(written / bytesPerMs);
        return written;
      },
      closeWrite: () => connection.closeWrite(),
      close: () => connection.close(),
      reset: () => connection.reset(),
      [Symbol.dispose]: () => connection.close(),
    });
  return {
    ...network,
    connectTcp: async (remote, options) => {
      const connection = await network.connectTcp(remote, options);
      return ips.includes(remote.ip) ? slow(connection) : connection;
    },
  };
}

/** A network on which dials of these addresses never end. */
function withoutWayTo(
  network: Network,
  ips: readonly string[],
  isBlocked: () => boolean,
): Network {
  return {
    ...network,
    connectTcp: (remote, options) =>
      ips.includes(remote.ip) && isBlocked()
        ? forever(options?.signal)
        : network.connectTcp(remote, options),
  };
}

function forever(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
