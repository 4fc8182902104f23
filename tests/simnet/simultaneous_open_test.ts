/**
 * The basis of TCP hole punching: simultaneous open through NATs of all kinds.
 *
 * ```
 * a ── 5 ms ── natA ── 20 ms ── internet ── 15 ms ── natB ── 10 ms ── b      RTT 100 ms
 * ```
 *
 * @module
 */

import { assert, assertEquals, assertLessOrEqual, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError } from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import type { Host } from "./host.ts";
import { Internet } from "./internet.ts";
import { labelledRandom } from "./random.ts";
import { VirtualTime } from "./virtual_time.ts";

Deno.test("two hosts that dial at once behind port-restricted NATs are connected after one round trip", async () => {
  using time = new VirtualTime();
  const { internet, a, b } = twoHomes();
  await time.run(async () => {
    const connections = await Promise.all([dial(a, b), dial(b, a)]);
    assertEquals(time.nowMs, 100);
    await assertTalk(connections);
  });
  assertEquals(internet.openSockets(), []);
});

for (const laterMs of [60, 700, 2500]) {
  Deno.test(`a host that dials ${laterMs} ms later is connected exactly one round trip after that`, async () => {
    using time = new VirtualTime();
    const { a, b } = twoHomes();
    await time.run(async () => {
      const earlier = dial(a, b).then((connection) => ({ connection, atMs: time.nowMs }));
      await delay(laterMs);
      const later = await dial(b, a);
      assertEquals(time.nowMs, laterMs + 100);
      // Its ACK of the SYN/ACK establishes the other end, half a round trip later.
      const { connection, atMs } = await earlier;
      assertEquals(atMs, laterMs + 150);
      await assertTalk([connection, later]);
    });
  });
}

Deno.test("a NAT that resets unsolicited SYNs refuses the earlier side, unless that side is behind it", async () => {
  for (const [resetting, outcome] of [["home-b", "refused"], ["home-a", "connected"]]) {
    using time = new VirtualTime();
    const { a, b } = twoHomes({ resetting });
    await time.run(async () => {
      const earlier = dial(a, b).then(() => "connected", (error) => (error as NetworkError).reason);
      await delay(200);
      const signal = AbortSignal.timeout(3000);
      const later = b.network.connectTcp(punched(a), { local: local(b), signal }).catch(() => {});
      assertEquals(await earlier, outcome);
      await later;
    });
  }
});

Deno.test("crossing SYNs pass two NATs that reset unsolicited SYNs", async () => {
  // a's SYN arrives at natB after 40 ms. b's must pass natB before, which takes 10 ms.
  for (const [skewMs, crosses] of [[0, true], [29, true], [31, false]] as const) {
    using time = new VirtualTime();
    const { a, b } = twoHomes({ resetting: "both", resetEndsMapping: true });
    await time.run(async () => {
      const signal = AbortSignal.timeout(900); // before SYNs are retransmitted
      const earlier = a.network.connectTcp(punched(b), { local: local(a), signal });
      await delay(skewMs);
      const later = b.network.connectTcp(punched(a), { local: local(b), signal });
      const outcomes = await Promise.allSettled([earlier, later]);
      assertEquals(outcomes.map(({ status }) => status === "fulfilled"), [crosses, crosses]);
    });
  }
});

Deno.test("redialling at once on every RST gets through two NATs that reset, at any skew", async () => {
  for (const skewMs of [0, 30, 70, 100, 130, 400]) {
    using time = new VirtualTime();
    const { internet, a, b } = twoHomes({ resetting: "both", resetEndsMapping: true });
    await time.run(async () => {
      const earlier = redial(a, b);
      await delay(skewMs);
      const connections = await Promise.all([earlier, redial(b, a)]);
      assertLessOrEqual(time.nowMs, skewMs + 400);
      await assertTalk(connections);
    });
    assertEquals(internet.openSockets(), []);
  }
});

Deno.test("a NAT that drops crossed SYNs makes simultaneous open impossible", async () => {
  using time = new VirtualTime();
  const { internet, a, b } = twoHomes({ crossedSyn: "drop" });
  await time.run(async () => {
    const signal = AbortSignal.timeout(20_000);
    const dials = [[a, b], [b, a]].map(([from, to]) => {
      return from!.network.connectTcp(punched(to!), { local: local(from!), signal });
    });
    for (const outcome of await Promise.allSettled(dials)) assertEquals(outcome.status, "rejected");
  });
  assertEquals(internet.openSockets(), []);
});

Deno.test("a socket that dials a peer receives the peer's SYN, not the listener on the same port", async () => {
  using time = new VirtualTime();
  const { a, b } = twoHomes();
  await time.run(async () => {
    const dialling = dial(a, b);
    using listener = await a.network.listenTcp({ ip: "0.0.0.0", port: local(a).port });
    await delay(500);
    const connections = [await dial(b, a), await dialling] as const;
    await assertRejects(() => listener.accept({ signal: AbortSignal.timeout(1000) }), DOMException);
    await assertTalk(connections);
  });
});

Deno.test("one SYN opens a NAT with address-dependent filtering for any port of the peer", async () => {
  using time = new VirtualTime();
  const internet = new Internet();
  const home = internet.router("home", {
    behavior: natBehavior({ filtering: "address-dependent" }),
  });
  const inside = internet.host("inside", { behind: home, reusePort: true });
  const outside = internet.host("outside", { closedPorts: "drop", link: { delayMs: 10 } });
  await time.run(async () => {
    const any = { ip: inside.addresses[0]!, port: 5000 };
    using listener = await inside.network.listenTcp(any, { reusePort: true });
    const signal = AbortSignal.timeout(1500);
    const opening = inside.network.connectTcp({ ip: outside.addresses[0]!, port: 9 }, {
      local: any,
      reusePort: true,
      signal,
    }).catch(() => {});
    await delay(100);
    using connection = await outside.network.connectTcp({
      ip: home.nat.externalIps[0]!,
      port: 5000,
    });
    using accepted = await listener.accept();
    assertEquals(accepted.remote.port, connection.local.port);
    await opening;
  });
});

Deno.test("two hosts behind one NAT connect at its external address if it hairpins", async () => {
  for (const hairpinning of [true, false]) {
    using time = new VirtualTime();
    const internet = new Internet();
    const home = internet.router("home-a", { behavior: natBehavior({ hairpinning }) });
    const [a, b] = ["a", "b"].map((name) => internet.host(name, { behind: home }));
    await time.run(async () => {
      const signal = AbortSignal.timeout(5000);
      const ip = home.nat.externalIps[0]!;
      const meet = (from: Host, own: number, other: number) =>
        from.network.connectTcp({ ip, port: other }, {
          local: { ip: from.addresses[0]!, port: own },
          signal,
        });
      const outcomes = await Promise.allSettled([meet(a!, 5001, 5002), meet(b!, 5002, 5001)]);
      const met = outcomes.every(({ status }) => status === "fulfilled");
      assertEquals(met, hairpinning);
    });
  }
});

Deno.test("a thousand punches with loss end the same way for the same seeds, and all succeed", async () => {
  const punch = async (seed: number): Promise<number> => {
    using time = new VirtualTime();
    const random = labelledRandom(seed, "skew");
    const { internet, a, b } = twoHomes({ seed, resetting: "both", loss: 0.05, jitterMs: 20 });
    await time.run(async () => {
      const earlier = redial(a, b);
      await delay(1 + random() * 500);
      const [first, second] = await Promise.all([earlier, redial(b, a)]);
      first.reset();
      second.reset();
    });
    assertEquals(internet.openSockets(), []);
    return time.nowMs;
  };
  const seeds = Array.from({ length: 1000 }, (_, index) => index);
  const took = [];
  for (const seed of seeds) took.push(await punch(seed));
  for (const seed of seeds.slice(0, 50)) assertEquals(await punch(seed), took[seed]);
  assert(new Set(took).size > 900, "seeds make a difference");
});

interface Homes {
  readonly seed?: number;
  readonly resetting?: string;
  readonly resetEndsMapping?: boolean;
  readonly crossedSyn?: NatBehavior["crossedSyn"];
  readonly loss?: number;
  readonly jitterMs?: number;
}

function twoHomes(options: Homes = {}): { internet: Internet; a: Host; b: Host } {
  const { seed, resetting, resetEndsMapping = false, crossedSyn = "accept", loss, jitterMs } =
    options;
  const internet = new Internet({ seed });
  const home = (name: string, delayMs: number, externalIp: string) => {
    const resets = resetting === name || resetting === "both";
    const unsolicitedSyn = resets ? "reset" : "drop";
    return internet.router(name, {
      behavior: natBehavior({ unsolicitedSyn, resetEndsMapping, crossedSyn }),
      externalIps: [externalIp],
      link: { delayMs, loss, jitterMs },
    });
  };
  const homeA = home("home-a", 20, EXTERNAL.a);
  const homeB = home("home-b", 15, EXTERNAL.b);
  return {
    internet,
    a: internet.host("a", { behind: homeA, link: { delayMs: 5 } }),
    b: internet.host("b", { behind: homeB, link: { delayMs: 10 } }),
  };
}

/** The local address of a host, and the external address that its peer dials: these NATs preserve ports. */
function local(host: Host): TransportAddress {
  return { ip: host.addresses[0]!, port: 7000 };
}

function punched(host: Host): TransportAddress {
  return { ip: host.name === "a" ? EXTERNAL.a : EXTERNAL.b, port: 7000 };
}

function dial(from: Host, to: Host): Promise<TcpConnection> {
  return from.network.connectTcp(punched(to), { local: local(from) });
}

async function redial(from: Host, to: Host): Promise<TcpConnection> {
  while (true) {
    try {
      return await dial(from, to);
    } catch (error) {
      const again = error instanceof NetworkError &&
        (error.reason === "refused" || error.reason === "reset");
      if (!again) throw error;
    }
  }
}

async function assertTalk([one, other]: readonly TcpConnection[]): Promise<void> {
  for (const [from, to] of [[one!, other!], [other!, one!]] as const) {
    await from.write(new Uint8Array([1, 2, 3]));
    assertEquals(await to.read(new Uint8Array(10)), 3);
  }
  one!.close();
  other!.close();
}

const EXTERNAL = { a: "198.51.100.1", b: "198.51.100.2" };
