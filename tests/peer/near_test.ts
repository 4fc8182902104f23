/**
 * A peer on the local network is reached by addresses that neither a name server nor a router has to tell.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { Peer } from "../../lib/peer/peer.ts";
import { BaseSocketPool } from "../../lib/peer/pools.ts";
import type { BaseSocket } from "../../lib/punch/punch.ts";
import { TestHub } from "../scenes/peer_scene.ts";
import { simulate } from "../simnet/simulate.ts";
import { inVirtualTime } from "../session/fixtures.ts";

/** How long connecting takes while no name server answers. */
async function connectMs(url: string): Promise<number> {
  let tookMs = NaN;
  await simulate(async ({ internet }) => {
    const hub = new TestHub(url, 1);
    const open = (host: string, listen: boolean) =>
      Peer.open({
        network: internet.host(host).network,
        servers: ["stun.example"],
        signaling: [hub],
        mapPorts: false,
        listen,
      });
    await using bob = await open("b", true);
    await using alice = await open("a", false);
    bob.serve((connection) => connection.finished);
    const startMs = performance.now();
    await using _connection = await alice.connect(bob.ticket);
    tookMs = performance.now() - startMs;
  }, { resolveMs: 60_000 });
  return tookMs;
}

Deno.test("a peer that was found by the local network is connected without waiting for name servers", async () => {
  const nearMs = await connectMs("lan:");
  assert(nearMs < 1200, `${nearMs} ms`); // a request of 1,000 ms, since there is no offer before
  const farMs = await connectMs("ws://192.0.2.9:3480");
  assert(farMs > 1900, `${farMs} ms: by a server, addresses from servers are waited for`);
});

Deno.test("BaseSocketPool hurries a preparation after a moment, and keeps none that was hurried", () =>
  inVirtualTime(async () => {
    let disposed = 0;
    const base = {
      needsMapping: false,
      [Symbol.asyncDispose]: () => Promise.resolve(void disposed++),
    } as unknown as BaseSocket;
    let prepared = 0;
    const pool = new BaseSocketPool({
      prepare: async (_signal, hurried) => {
        prepared++;
        await hurried;
        return base;
      },
    });
    pool.warm();
    const startMs = performance.now();
    assertEquals(await pool.take(new AbortController().signal, Promise.resolve()), base);
    assertEquals(performance.now() - startMs, 250);
    pool.warm();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const lateMs = performance.now();
    assertEquals(await pool.take(new AbortController().signal, Promise.resolve()), base);
    assertEquals(performance.now() - lateMs, 0); // it has had its moment
    pool.warm();
    const leaving = new AbortController();
    const taking = pool.take(leaving.signal, Promise.resolve()).catch((error) => error);
    await new Promise((resolve) => setTimeout(resolve, 10));
    leaving.abort("gone");
    await new Promise((resolve) => setTimeout(resolve, 1000));
    assertEquals([await taking, disposed, prepared], ["gone", 1, 3]);
    await pool[Symbol.asyncDispose]();
  }));
