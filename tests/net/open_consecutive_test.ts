import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { openConsecutive } from "../../lib/net/local_address.ts";

class Opened implements Disposable {
  static open = new Set<number>();
  constructor(readonly port: number) {
    Opened.open.add(port);
  }
  [Symbol.dispose](): void {
    Opened.open.delete(this.port);
  }
}

const taken = new NetworkError("Cannot bind: taken", "address-in-use");

Deno.test("openConsecutive() opens consecutive ports below the system's ephemeral range", async () => {
  const row = await openConsecutive(4, (port) => Promise.resolve(new Opened(port)));
  const ports = row!.map(({ port }) => port);
  assertEquals(ports, ports.map((_, index) => ports[0]! + index));
  assert(ports[0]! >= 20_000 && ports[3]! <= 32_000);
  for (const each of row!) each[Symbol.dispose]();
});

Deno.test("openConsecutive() tries other ports if one is taken, and leaves none of the first open", async () => {
  let opens = 0;
  const row = await openConsecutive(4, (port) => {
    return ++opens === 3 ? Promise.reject(taken) : Promise.resolve(new Opened(port));
  });
  assertEquals([row!.length, opens, Opened.open.size], [4, 7, 4]);
  for (const each of row!) each[Symbol.dispose]();
});

Deno.test("openConsecutive() gives up after a few attempts", async () => {
  let opens = 0;
  const row = await openConsecutive(4, () => {
    opens++;
    return Promise.reject(taken);
  });
  assertEquals([row, opens], [undefined, 5]);
});

Deno.test("openConsecutive() rejects with any other error, and leaves no port open", async () => {
  const denied = new NetworkError("Cannot bind: no", "not-permitted");
  let opens = 0;
  await assertRejects(() =>
    openConsecutive(4, (port) => {
      return ++opens === 3 ? Promise.reject(denied) : Promise.resolve(new Opened(port));
    }), NetworkError);
  assertEquals(Opened.open.size, 0);
});
