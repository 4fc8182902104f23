import { assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { type MappingAttempt, NoMappingError } from "../../lib/portmap/mapper.ts";
import type { PortMapping } from "../../lib/portmap/mapping.ts";
import { BaseSocketPool, RouterMemory } from "../../lib/peer/pools.ts";
import type { BaseSocket } from "../../lib/punch/punch.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

const MAPPING = { external: { ip: "44.0.0.7", port: 8080 } } as PortMapping;

function failure(outcome: MappingAttempt["outcome"]): NoMappingError {
  return new NoMappingError("map TCP port 8080", [{
    strategy: "upnp",
    local: "192.168.1.2",
    remote: "192.168.1.1",
    outcome,
    tries: 0,
    resets: 0,
    elapsedMs: 5000,
    reason: "",
    remedy: "",
  }]);
}

/** A router whose calls fail or succeed one after the other; how many there were. */
function calls(results: readonly (PortMapping | Error)[]) {
  let count = 0;
  const next = () => {
    const result = results[count++]!;
    return result instanceof Error ? Promise.reject(result) : Promise.resolve(result);
  };
  return { next, count: () => count };
}

Deno.test("RouterMemory asks no more once no router has answered, until the network changes", async () => {
  const memory = new RouterMemory();
  const { next, count } = calls([failure("timed-out"), MAPPING]);
  let here = "192.168.1.2";
  const map = () => memory.map(() => Promise.resolve(here), next);
  await assertRejects(map, NoMappingError);
  assertEquals([await map(), await map(), count()], [undefined, undefined, 1]);
  here = "10.0.0.2";
  assertEquals([await map(), count()], [MAPPING, 2]);
});

Deno.test("RouterMemory asks again a minute after no router has answered", async () => {
  using time = new VirtualTime();
  await time.run(async () => {
    const memory = new RouterMemory();
    const { next, count } = calls([failure("timed-out"), MAPPING]);
    const map = () => memory.map(() => Promise.resolve("192.168.1.2"), next);
    await assertRejects(map, NoMappingError);
    await delay(59_999);
    assertEquals([await map(), count()], [undefined, 1]);
    await delay(1);
    assertEquals([await map(), count()], [MAPPING, 2]);
  });
});

Deno.test("RouterMemory forgets as soon as a late answer arrives", async () => {
  const memory = new RouterMemory();
  const here = () => Promise.resolve("192.168.1.2");
  const late = Promise.withResolvers<PortMapping>();
  const first = memory.map(here, () => late.promise);
  await Promise.resolve();
  await assertRejects(() => memory.map(here, () => Promise.reject(failure("timed-out"))));
  assertEquals(await memory.map(here, () => Promise.resolve(MAPPING)), undefined);
  late.resolve(MAPPING);
  await first;
  assertEquals(await memory.map(here, () => Promise.resolve(MAPPING)), MAPPING);
});

Deno.test("RouterMemory keeps asking a router that answers, even if it refuses", async () => {
  const memory = new RouterMemory();
  const { next, count } = calls([failure("refused"), failure("failed"), MAPPING]);
  const map = () => memory.map(() => Promise.resolve("192.168.1.2"), next);
  await assertRejects(map);
  await assertRejects(map);
  assertEquals([await map(), count()], [MAPPING, 3]);
});

Deno.test("BaseSocketPool goes on without a router, adds its mapping late, and waits for it when it is closed", async () => {
  const late = Promise.withResolvers<PortMapping>();
  const added: unknown[] = [];
  const base = {
    needsMapping: true,
    description: { punchPort: 4000 },
    addMapped: (address: unknown) => Promise.resolve(void added.push(address)),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  } as unknown as BaseSocket;
  const pool = new BaseSocketPool({
    prepare: () => Promise.resolve(base),
    map: () => late.promise,
  });
  assertEquals(await pool.take(AbortSignal.timeout(5000)), base);
  assertEquals(added, []);
  const closing = pool[Symbol.asyncDispose]();
  assertEquals(await Promise.race([closing.then(() => "closed"), Promise.resolve("open")]), "open");
  late.resolve(MAPPING);
  await closing;
  assertEquals(added, [MAPPING.external]);
});

Deno.test("BaseSocketPool takes no base socket that was discarded, and closes it", async () => {
  const closed: number[] = [];
  let opened = 0;
  const open = () => {
    const number = ++opened;
    return {
      needsMapping: false,
      number,
      [Symbol.asyncDispose]: () => Promise.resolve(void closed.push(number)),
    } as unknown as BaseSocket & { number: number };
  };
  const slow = Promise.withResolvers<void>();
  const pool = new BaseSocketPool({ prepare: () => slow.promise.then(open) });
  pool.warm();
  pool.discard();
  pool.discard();
  const taken = pool.take(AbortSignal.timeout(5000));
  slow.resolve();
  const { number } = await taken as BaseSocket & { number: number };
  pool.warm();
  await pool[Symbol.asyncDispose]();
  assertEquals([number, opened, closed], [2, 3, [1, 3]]);
});
