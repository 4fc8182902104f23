import { delay } from "@std/async/delay";
import { assertEquals } from "@std/assert";
import { SignalingPool } from "../../lib/peer/pools.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

const URL = "ws://meet.example";

/** Runs the test in virtual time, with a pool that notes what becomes of its connections. */
async function withPool(
  test: (pool: SignalingPool, events: string[]) => Promise<void>,
  close: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  using time = new VirtualTime();
  const events: string[] = [];
  const pool = new SignalingPool((url) => {
    events.push("opened");
    const connection: SignalingConnection = {
      url,
      rttMs: 40,
      finished: new Promise(() => {}),
      check: () => void events.push("checked"),
      publish: () => Promise.resolve(),
      subscribe: () => Promise.resolve(new AsyncDisposableStack()),
      [Symbol.asyncDispose]: () => {
        events.push("closed");
        return close();
      },
    };
    return Promise.resolve(connection);
  });
  await time.run(test(pool, events));
}

/** Uses a connection for a moment. */
async function use(pool: SignalingPool): Promise<void> {
  await using lease = pool.lease(URL);
  await lease.signaling;
}

Deno.test("a signaling connection is used again within 30 s, after a check, and closed then", () =>
  withPool(async (pool, events) => {
    await use(pool);
    await delay(29_000);
    await use(pool);
    assertEquals(events, ["opened", "checked"]);
    await delay(29_000);
    assertEquals(events.length, 2);
    await delay(2000);
    assertEquals(events, ["opened", "checked", "closed"]);
    assertEquals(pool.rttMsOf(URL), 40); // for the next one
    await use(pool);
    assertEquals(events.at(-1), "opened");
    await pool[Symbol.asyncDispose]();
    assertEquals(events.at(-1), "closed");
  }));

Deno.test("a pool that is closed closes the connections that it keeps, once", () =>
  withPool(async (pool, events) => {
    await use(pool);
    await pool[Symbol.asyncDispose]();
    await delay(60_000);
    assertEquals(events, ["opened", "closed"]);
  }));

Deno.test("a signaling connection that cannot be closed after its time does not end the program", () =>
  withPool(async (pool, events) => {
    await use(pool);
    await delay(31_000);
    assertEquals(events, ["opened", "closed"]);
    await pool[Symbol.asyncDispose]();
  }, () => Promise.reject(new Error("it cannot be closed"))));
