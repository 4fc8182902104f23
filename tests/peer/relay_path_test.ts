import { whyNotRelay } from "../../lib/punch/candidates.ts";
import { DialBudget } from "../../lib/punch/limits.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { openRelayPath, type RelayedPath, type RelayOpener } from "../../lib/peer/relay_path.ts";
import {
  decodeRelayState,
  encodeRelayState,
  type RelayState,
} from "../../lib/peer/relay_message.ts";
import { MalformedMessageError, RefusedError, UnreachableError } from "../../lib/base/errors.ts";
import type { PunchRole } from "../../lib/punch/offer.ts";
import type { SignalChannel } from "../../lib/signal/channel.ts";
import { memoryChannelPair } from "../signal/memory_channel.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import type { Host } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";
import { testRelay } from "./test_relay.ts";

Deno.test("one relay, of either side, connects both", () =>
  atRelays(async ({ a, b, relay }) => {
    for (const [relaysOfA, relaysOfB] of [[[relay], []], [[], [relay]], [[relay], [relay]]]) {
      const [one, other] = memoryChannelPair({ delayMs: 50 });
      await showThatItWorks(
        search(a, "controlling", one, relaysOfA!),
        search(b, "controlled", other, relaysOfB!),
      );
    }
  }));

Deno.test("a server that does not speak TURN does not affect another relay", () =>
  atRelays(async ({ a, b, relay }) => {
    const broken: RelayOpener = {
      url: "turn:198.51.100.99",
      open: () => Promise.reject(new MalformedMessageError("Cannot read STUN message: no cookie")),
    };
    const [one, other] = memoryChannelPair({ delayMs: 50 });
    await showThatItWorks(
      search(a, "controlling", one, [broken, relay]),
      search(b, "controlled", other, [broken]),
    );
  }));

Deno.test("an address that a server never permits does not keep others out", () =>
  atRelays(async ({ internet, a, b }) => {
    const relay = testRelay(internet.host("strict", {}), ["198.51.100.66"]);
    const [one, other] = memoryChannelPair({ delayMs: 50 });
    await showThatItWorks(
      search(a, "controlling", one, [relay]),
      search(b, "controlled", other, [], {
        ips: ["198.51.100.66", "2001:db8::1", "198.51.100.77"],
      }),
    );
    assertEquals(relay.permitted.includes("198.51.100.77"), true);
    assertEquals(relay.permissionRequests.flat().includes("2001:db8::1"), false);
  }));

Deno.test("if neither side has a relay, both fail", () =>
  atRelays(async ({ a, b }) => {
    const [one, other] = memoryChannelPair({ delayMs: 50 });
    const searches = [search(a, "controlling", one, []), search(b, "controlled", other, [])];
    for (const { path } of searches) {
      await assertRejects(() => path, UnreachableError, "neither side has a relay");
    }
  }));

Deno.test("if no relay can be opened, both fail as soon as both know", () =>
  atRelays(async ({ a, b }) => {
    const refusing: RelayOpener = {
      url: "turn:198.51.100.99",
      open: async () => {
        await delay(100);
        throw new RefusedError("Cannot allocate a relayed address: 401", 401);
      },
    };
    for (const relaysOfB of [[], [refusing]]) {
      const [one, other] = memoryChannelPair({ delayMs: 50 });
      const startedMs = performance.now();
      const searches = [
        search(a, "controlling", one, [refusing, refusing]),
        search(b, "controlled", other, relaysOfB),
      ];
      for (const { path } of searches) {
        await assertRejects(() => path, UnreachableError, "neither side has a relay");
      }
      assert(performance.now() - startedMs < 1000);
    }
  }));

Deno.test("no more than eight addresses are dialled and eight permitted, whatever a peer names over time", () =>
  atRelays(async ({ internet, a, relay }) => {
    const [one, other] = memoryChannelPair({ delayMs: 10 });
    const { path, stop } = search(a, "controlling", one, [relay]);
    const dialled = new Set<string>();
    internet.onPacket = ({ at, what, packet }) => {
      if (what !== "sent" || packet.protocol !== "tcp" || !packet.tcpFlags.syn) return;
      if (at === a.name) dialled.add(`${packet.destination.ip}:${packet.destination.port}`);
    };
    for (let version = 1; version < 50; version++) {
      const relayed = [1, 2, 3].map((n) => ({ ip: `198.51.100.${version}`, port: 5000 + n }));
      const ips = [`198.51.100.${100 + version}`];
      await other.send(encodeRelayState({ ...SILENT_STATE, version, relayed, ips }));
      await delay(20);
    }
    assertEquals([dialled.size, relay.permitted.length], [8, 8]);
    await stop();
    await path.catch(() => {});
  }));

Deno.test("a peer cannot restart the exchange with another nonce", () =>
  atRelays(async ({ internet, a }) => {
    const [one, other] = memoryChannelPair({ delayMs: 10 });
    const { path, stop } = search(a, "controlling", one, []);
    let syns = 0;
    internet.onPacket = ({ at, what, packet }) => {
      if (at === a.name && what === "sent" && packet.protocol === "tcp") syns++;
    };
    for (let i = 0; i < 100; i++) {
      const nonce = i.toString(16).padStart(32, "0");
      const relayed = [{ ip: "198.51.100.1", port: 5000 + i }];
      await other.send(encodeRelayState({ ...SILENT_STATE, nonce, relayed }));
    }
    await delay(300);
    assertEquals(syns, 1);
    await stop();
    await path.catch(() => {});
  }));

Deno.test("a flood of changes is acknowledged ten times a second, the last one included", () =>
  atRelays(async ({ a }) => {
    const [one, other] = memoryChannelPair({ delayMs: 10 });
    const { path, stop } = search(a, "controlling", one, []);
    for (let version = 1; version <= 200; version++) {
      await other.send(encodeRelayState({ ...SILENT_STATE, version, acknowledged: 2 }));
      await delay(5);
    }
    await delay(3000);
    let last: RelayState | undefined;
    let count = 0;
    const { signal } = new AbortController();
    for (; count < one.sent; count++) last = decodeRelayState(await other.receive({ signal }));
    assertEquals(last?.acknowledged, 200);
    assert(count <= 16, `${count} messages`);
    await stop();
    await path.catch(() => {});
  }));

Deno.test("a hidden side publishes no address but its relay's, and dials from its relay only", () =>
  atRelays(async ({ internet, a, relay }) => {
    const [one, other] = memoryChannelPair({ delayMs: 10 });
    const hidden = { ips: ["203.0.113.77"], isHidden: true };
    const { path, stop } = search(a, "controlling", one, [relay], hidden);
    const sources = new Set<string>();
    internet.onPacket = ({ what, packet }) => {
      if (what === "sent" && packet.protocol === "tcp") sources.add(packet.source.ip);
    };
    const relayed = [{ ip: "198.51.100.1", port: 5000 }];
    await other.send(encodeRelayState({ ...SILENT_STATE, relayed }));
    await delay(1000);
    const published = new Set<string>();
    for (let count = 0; count < one.sent; count++) {
      for (const ip of decodeRelayState(await other.receive()).ips) published.add(ip);
    }
    assertEquals([[...published], [...sources]], [[relay.ip], [relay.ip]]);
    await stop();
    await path.catch(() => {});
  }));

Deno.test("two hidden sides are connected from relay to relay, and a side that is not hidden dials the other's relay", () =>
  atRelays(async ({ internet, a, b, relay }) => {
    const another = testRelay(internet.host("another relay", {}));
    for (const isHidden of [true, false]) {
      const [one, other] = memoryChannelPair({ delayMs: 50 });
      await showThatItWorks(
        search(a, "controlling", one, [relay], { isHidden: true }),
        search(b, "controlled", other, isHidden ? [another] : [], { isHidden }),
      );
    }
  }));

interface Search {
  readonly path: Promise<RelayedPath>;
  stop(): Promise<void>;
}

function search(
  { network }: Host,
  role: PunchRole,
  channel: SignalChannel,
  relays: readonly RelayOpener[],
  { ips = [], isHidden = false }: { ips?: readonly string[]; isHidden?: boolean } = {},
): Search {
  const controller = new AbortController();
  const path = openRelayPath({
    network,
    role,
    channel,
    relays,
    rendezvous: [],
    ips,
    isHidden,
    whyNotRelay: (relay) => Promise.resolve(whyNotRelay(relay)),
    budget: new DialBudget(),
    connectionKey: new Uint8Array(32).fill(7),
    onAttempt: () => {},
    signal: controller.signal,
  });
  path.catch(() => {});
  const stop = async () => {
    controller.abort(new Error("enough"));
    await path.catch(() => {});
  };
  return { path, stop };
}

async function showThatItWorks(one: Search, other: Search): Promise<void> {
  const [{ connection: a, ...atA }, { connection: b, ...atB }] = await Promise.all([
    one.path,
    other.path,
  ]);
  assertEquals(atA.channelBinding, atB.channelBinding);
  await a.write(toBytes("hello"));
  assertEquals(await readText(b, 5), "hello");
  a.close();
  b.close();
  await delay(1000);
}

async function atRelays(
  test: (place: {
    readonly internet: Internet;
    readonly a: Host;
    readonly b: Host;
    readonly relay: ReturnType<typeof testRelay>;
  }) => Promise<void>,
): Promise<void> {
  await simulate(async ({ internet }) => {
    const [a, b] = [internet.host("a", {}), internet.host("b", {})];
    await test({ internet, a, b, relay: testRelay(internet.host("relay", {})) });
  }, { limitMs: 600_000 });
}

const SILENT_STATE: RelayState = {
  nonce: "00".repeat(16),
  mayOffer: true,
  version: 1,
  acknowledged: 0,
  ips: [],
  relayed: [],
  rendezvous: [],
  refusalCode: null,
};
