import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { UnreachableError } from "../../lib/base/errors.ts";
import type { PunchDescription } from "../../lib/punch/candidates.ts";
import type { NatProfile } from "../../lib/punch/nat_profile.ts";
import { encodeOffer, type PunchOffer, type PunchRole } from "../../lib/punch/offer.ts";
import {
  MAX_OFFERS,
  OfferExchange,
  type OfferExchangeOptions,
  type OfferSource,
} from "../../lib/punch/offer_exchange.ts";
import {
  type MemoryChannel,
  type MemoryChannelOptions,
  memoryChannelPair,
} from "../signal/memory_channel.ts";
import { SeededRandomness } from "../simnet/random.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";
import { punchSide, SEQUENTIAL } from "./fixtures.ts";

Deno.test("OfferExchange delivers both offers within a one-way delay", () =>
  virtually({ delayMs: 25 }, async ({ side }) => {
    const [a, b] = [side(0, "controlling"), side(1, "controlled")];
    await delay(26);
    assertEquals([a.received.length, b.received.length], [1, 1]);
    assertEquals([a.received[0]!.role, b.received[0]!.role], ["controlled", "controlling"]);
  }));

Deno.test("OfferExchange stops sending once both sides have their offers", () =>
  virtually({ delayMs: 25 }, async ({ side, channels }) => {
    side(0, "controlling");
    await delay(100);
    side(1, "controlled");
    await delay(10_000);
    assert(channels[0].sent <= 3, `${channels[0].sent}`);
    assert(channels[1].sent <= 3, `${channels[1].sent}`);
  }));

for (const [laterMs, headStartMs] of [[0, 0], [10, 10], [25, 25], [30, 25], [5000, 25]] as const) {
  Deno.test(`OfferExchange knows both offers ${headStartMs} ms earlier if the other side starts ${laterMs} ms later`, () =>
    virtually({ delayMs: 25 }, async ({ side }) => {
      const headStarts: number[] = [];
      const a = side(0, "controlling", {
        onOffer: () => headStarts.push(a.exchange.headStartMs),
      });
      if (laterMs > 0) await delay(laterMs);
      const b = side(1, "controlled", {
        onOffer: () => headStarts.push(b.exchange.headStartMs),
      });
      await delay(100);
      const [early, late] = headStarts;
      assertEquals([Math.round(early!), Math.round(late!)], [headStartMs, 0]);
    }));
}

Deno.test("OfferExchange repeats the offer at growing intervals while no answer comes", () =>
  virtually({}, async ({ side, channels }) => {
    side(0, "controlling");
    await delay(30_000);
    assertEquals(channels[0].sent, 17); // at 0, 0.3, 0.9, 2.1, 4.1, 6.1 s and so on
  }));

Deno.test("OfferExchange confirms that the other side has the offer", () =>
  virtually({ delayMs: 25 }, async ({ side }) => {
    const [a, b] = [side(0, "controlling"), side(1, "controlled")];
    await Promise.all([a.confirmed, b.confirmed]);
  }));

for (let seed = 1; seed <= 40; seed++) {
  Deno.test(`OfferExchange survives loss, duplication and reordering, seed ${seed}`, () =>
    virtually(
      { delayMs: 50, jitterMs: 50, loss: 0.4, duplication: 0.3, reordering: 0.5, seed },
      async ({ side }) => {
        const [a, b] = [side(0, "controlling"), side(1, "controlled")];
        await delay(25_000);
        assertEquals([keysOf(a), keysOf(b)], [[b.exchange.localOffer.key], [
          a.exchange.localOffer.key,
        ]]);
      },
    ));
}

Deno.test("OfferExchange takes a leftover offer, and replaces it with the peer's", () =>
  virtually({ delayMs: 25 }, async ({ side, channels }) => {
    const a = side(0, "controlling");
    channels[0].deliver(forge({ key: "1".repeat(64) }));
    await delay(100);
    const b = side(1, "controlled");
    await delay(100);
    assertEquals(keysOf(a), ["1".repeat(64), b.exchange.localOffer.key]);
    // It is not taken a second time.
    channels[0].deliver(forge({ key: "1".repeat(64) }));
    await delay(100);
    assertEquals(keysOf(a).length, 2);
  }));

Deno.test("OfferExchange keeps the peer's offer if an old one comes before the answer", () =>
  virtually({ delayMs: 25 }, async ({ side, channels }) => {
    const a = side(0, "controlling");
    const b = side(1, "controlled");
    await delay(26); // the peer's offer has arrived, its answer has not
    channels[0].deliver(forge({ key: "1".repeat(64) }));
    await delay(100);
    assertEquals(keysOf(a).at(-1), b.exchange.localOffer.key);
  }));

Deno.test("OfferExchange takes the offer of a peer that starts over", () =>
  virtually({ delayMs: 25 }, async ({ side }) => {
    const a = side(0, "controlling");
    const b = side(1, "controlled");
    await delay(1000);
    await b.stop();
    const startedMs = performance.now();
    const again = side(1, "controlled");
    while (keysOf(a).at(-1) !== again.exchange.localOffer.key) await delay(5);
    assert(performance.now() - startedMs < 200, `after ${performance.now() - startedMs} ms`);
    assertEquals(keysOf(again), [a.exchange.localOffer.key]);
  }));

Deno.test("OfferExchange reports that the other side has gone on to a later round", () =>
  virtually({ delayMs: 25 }, async ({ side }) => {
    const a = side(0, "controlling", { round: 1 });
    const b = side(1, "controlled", { round: 2 });
    assertEquals(await a.laterRound, 2);
    assertEquals(b.received, []);
  }));

Deno.test("OfferExchange waits for new samples if the first ones are too old to predict from", () =>
  virtually({ delayMs: 25 }, async ({ side }) => {
    const old = countingSource(5000);
    const a = side(0, "controlling", { source: old });
    const b = side(1, "controlled", { source: countingSource(0) });
    await delay(500);
    assertEquals(old.refreshed, 1);
    assertEquals(a.received.length, 1);
    assert(b.received[0]!.sampleAgeMs < 750, `${b.received[0]!.sampleAgeMs}`);
  }));

for (const who of [0, 1] as const) {
  Deno.test(`OfferExchange waits for what side ${who} learns if a port cannot be known`, () =>
    virtually({ delayMs: 25 }, async ({ side }) => {
      const pair: readonly OfferSource[] = [countingSource(0), countingSource(0)];
      const sources = pair.with(who, learningSource(EASY, 400));
      const a = side(0, "controlling", { source: sources[0] });
      const b = side(1, "controlled", { source: sources[1] });
      await delay(390);
      assertEquals([a.received.length, b.received.length], [0, 0]);
      await delay(200);
      assertEquals([a.received.length, b.received.length], [1, 1]);
      const [learner, other] = who === 0 ? [a, b] : [b, a];
      assertEquals(other.received[0]!.side, learner.exchange.localOffer.side);
      assertEquals(learner.received[0]!.side, other.exchange.localOffer.side);
      assertEquals(other.received[0]!.side.profile.filtering, "none");
    }));
}

Deno.test("OfferExchange waits for what both sides learn, each as long as it takes", () =>
  virtually({ delayMs: 25 }, async ({ side }) => {
    const a = side(0, "controlling", { source: learningSource(SEQUENTIAL, 100) });
    const b = side(1, "controlled", { source: learningSource(EASY, 500) });
    await delay(600);
    for (const { received } of [a, b]) {
      assertEquals(received.map(({ side }) => side.profile.filtering), ["none"]);
    }
  }));

Deno.test("OfferExchange waits for nothing to be learned if both ports are known", () =>
  virtually({ delayMs: 25 }, async ({ side }) => {
    const a = side(0, "controlling", { source: learningSource(EASY, 10_000) });
    const b = side(1, "controlled", { source: learningSource(EASY, 10_000) });
    await delay(60);
    assertEquals([a.received.length, b.received.length], [1, 1]);
  }));

for (const who of ["side 0", "side 1", "both sides"] as const) {
  Deno.test(`OfferExchange waits for a description for UDP of ${who} if an address is not known over TCP`, () =>
    virtually({ delayMs: 25 }, async ({ side }) => {
      const isLate = [who !== "side 1", who !== "side 0"];
      const source = (index: 0 | 1) => udpSource(NO_ADDRESS, isLate[index] ? 400 : 0);
      const a = side(0, "controlling", { source: source(0) });
      const b = side(1, "controlled", { source: source(1) });
      await delay(390);
      assertEquals([a.received.length, b.received.length], [0, 0]);
      await delay(100);
      assert(a.awaited.udp > 0 && b.awaited.udp > 0);
      for (const [self, other] of [[a, b], [b, a]] as const) {
        assertEquals(self.received.map(({ udp }) => udp), [UDP_SIDE]);
        assertEquals(other.exchange.localOffer.udp, UDP_SIDE);
      }
    }));
}

Deno.test("OfferExchange waits for its own description for UDP if TCP loses its way after the first offer", () =>
  virtually({ delayMs: 25 }, async ({ side }) => {
    const noWay = udpSource(NO_ADDRESS, 600);
    const source: OfferSource = {
      ...udpSource(NO_ADDRESS, 600),
      get description() {
        const isKnown = performance.now() < learnedAtMs;
        return isKnown ? { ...punchSide("192.0.2.1"), udpFollows: true } : noWay.description;
      },
      get udp() {
        return noWay.udp;
      },
    };
    const learnedAtMs = performance.now() + 100;
    const a = side(0, "controlling", { source });
    await delay(150);
    const b = side(1, "controlled", { source: udpSource(punchSide("192.0.2.2"), 0) });
    await delay(400);
    assertEquals(a.received, []);
    await delay(1000);
    assertEquals(a.received.map(({ udp }) => udp), [UDP_SIDE]);
    assertEquals(a.exchange.localOffer.udp, UDP_SIDE);
    assertEquals([...b.received, ...b.late].at(-1)!.udp, UDP_SIDE);
  }));

Deno.test("OfferExchange does without the description for UDP that is blocked, but not at once", () =>
  virtually({ delayMs: 25 }, async ({ side }) => {
    const a = side(0, "controlling", { source: udpSource(NO_ADDRESS, 400, null) });
    const b = side(1, "controlled", { source: udpSource(NO_ADDRESS, 0) });
    await delay(500);
    assertEquals(b.received.map(({ udp }) => udp), [undefined]);
    assertEquals(a.received.map(({ udp }) => udp), [UDP_SIDE]);
  }));

for (
  const [what, one, other] of [
    ["both addresses are known", () => punchSide("192.0.2.1"), () => punchSide("192.0.2.2")],
    [
      "the ports of one side can be predicted",
      () => punchSide("192.0.2.1"),
      () => punchSide("192.0.2.2", SEQUENTIAL),
    ],
    ["a LAN connects both", () => inLan(2), () => inLan(3)],
    ["both may be on one host", () => inLan(2), () => inLan(2)],
  ] as const
) {
  for (const isBoth of [false, true]) {
    Deno.test(`OfferExchange does not wait for UDP of ${isBoth ? "both sides" : "one side"} if ${what}, and tells it later`, () =>
      virtually({ delayMs: 25 }, async ({ side, channels }) => {
        const a = side(0, "controlling", { source: udpSource(one(), 400) });
        const b = side(1, "controlled", { source: udpSource(other(), isBoth ? 500 : 0) });
        await delay(60);
        assertEquals([a.received.length, b.received.length], [1, 1]);
        assertEquals([a.awaited.udp, b.awaited.udp], [0, 0]);
        assertEquals(b.received[0]!.udp, undefined);
        await delay(400);
        if (!isBoth) await a.exchange.tellUdp();
        await delay(600); // if it is not told, it is asked for
        for (const { received, late } of [a, b]) {
          assertEquals(received.length, 1);
          assertEquals(late.map(({ udp }) => udp), [UDP_SIDE]);
        }
        await delay(5000);
        assert(channels[0].sent < 10 && channels[1].sent < 10);
        assertEquals([a.late.length, b.late.length], [1, 1]);
      }));
  }
}

Deno.test("OfferExchange asks no longer for what does not follow", () =>
  virtually({ delayMs: 25 }, async ({ side, channels }) => {
    const [one, other] = [punchSide("192.0.2.1"), punchSide("192.0.2.2")];
    const a = side(0, "controlling", { source: udpSource(one, 400, null) });
    const b = side(1, "controlled", { source: udpSource(other, 0) });
    await delay(2000);
    const sent = channels[0].sent;
    await delay(10_000);
    assertEquals(channels[0].sent, sent);
    assertEquals([a.late.length, b.late.length], [0, 0]);
    assertEquals(b.exchange.localOffer.isWaiting, false);
  }));

Deno.test("OfferExchange repeats what followed, until it has arrived", () =>
  virtually({ delayMs: 25, loss: 0.4, seed: 3 }, async ({ side }) => {
    const a = side(0, "controlling", { source: udpSource(NO_ADDRESS, 400) });
    const b = side(1, "controlled", { source: udpSource(NO_ADDRESS, 300) });
    await delay(10_000);
    for (const { received } of [a, b]) assertEquals(received.map(({ udp }) => udp), [UDP_SIDE]);
  }));

Deno.test("OfferExchange takes new samples if those of both sides are too old", () =>
  virtually({ delayMs: 25 }, async ({ side }) => {
    const a = side(0, "controlling", { source: countingSource(5000) });
    const b = side(1, "controlled", { source: countingSource(5000) });
    await delay(500);
    for (const { received } of [a, b]) {
      assert(received.length === 1 && received[0]!.sampleAgeMs < 750, JSON.stringify(received));
    }
  }));

Deno.test("OfferExchange ignores its own offer on a channel that echoes", () =>
  virtually({}, async ({ side, channels }) => {
    const a = side(0, "controlling");
    channels[0].deliver(encodeOffer(a.exchange.localOffer, NO_SECRET));
    await delay(1);
    channels[0].deliver(encodeOffer(a.exchange.localOffer, NO_SECRET));
    await delay(5000);
    assertEquals(a.received, []);
  }));

for (const skewMs of [0, 50, 1000, 12_345]) {
  Deno.test(`OfferExchange fails on both sides if they have the same role, ${skewMs} ms apart`, () =>
    virtually({ delayMs: 25 }, async ({ side }) => {
      const a = side(0, "controlled");
      await delay(skewMs);
      const b = side(1, "controlled");
      for (const { running } of [a, b]) {
        const error = await assertRejects(() => running, UnreachableError);
        assertEquals(
          error.message,
          "Cannot punch: both sides are controlled, and one must be controlling",
        );
      }
      assert(performance.now() < skewMs + 1000, `${performance.now()} ms`);
    }));
}

Deno.test("OfferExchange tolerates an old offer in its own role, however often it comes", () =>
  virtually({ delayMs: 25 }, async ({ side, channels }) => {
    const a = side(0, "controlling");
    for (let i = 0; i < 5; i++) channels[0].deliver(forge({ role: "controlling" }));
    await delay(100);
    side(1, "controlled");
    await delay(100);
    assertEquals(a.received.length, 1);
  }));

Deno.test("OfferExchange takes only a few of 10 000 offers", () =>
  virtually({ delayMs: 25 }, async ({ side, channels }) => {
    const a = side(0, "controlling");
    await delay(1);
    const { key } = a.exchange.localOffer;
    for (let i = 0; i < 10_000; i++) {
      const forged = forge({ key: i.toString(16).padStart(64, "0"), answers: key });
      channels[0].deliver(forged);
      if (i % 100 === 99) await delay(1);
    }
    await delay(100);
    assertEquals(a.received.length, MAX_OFFERS);
    assert(channels[0].sent < 20, `${channels[0].sent} sent`);
  }));

Deno.test("OfferExchange takes one description for UDP later, of 10 000, and answers few of those who wait", () =>
  virtually({ delayMs: 25 }, async ({ side, channels }) => {
    const a = side(0, "controlling", { source: udpSource(punchSide("192.0.2.1"), 0) });
    await delay(1);
    for (let i = 0; i < 10_000; i++) {
      const ip = `192.0.2.${i % 200}`;
      const udpFollows = i % 2 === 0;
      const forged = forge({
        answers: a.exchange.localOffer.key,
        side: { ...punchSide("192.0.2.66"), udpFollows },
        ...!udpFollows && { udp: punchSide(ip) },
      });
      channels[0].deliver(forged);
      if (i % 100 === 99) await delay(1);
    }
    await delay(10_000);
    assertEquals([a.received.length, a.late.length], [1, 1]);
    assert(channels[0].sent < 20, `${channels[0].sent} sent`);
  }));

Deno.test("OfferExchange ignores offers that were not authenticated with the secret", () =>
  virtually({ delayMs: 25 }, async ({ side, channels }) => {
    const sharedSecret = Uint8Array.of(1, 2, 3);
    const a = side(0, "controlling", { sharedSecret });
    channels[0].deliver(forge({}));
    channels[0].deliver(new Uint8Array(5000));
    channels[0].deliver(new Uint8Array(0));
    await delay(100);
    assertEquals(a.received, []);
    side(1, "controlled", { sharedSecret });
    await delay(600);
    assertEquals(a.received.length, 1);
  }));

for (const when of ["before the peer's offer", "after it"] as const) {
  Deno.test(`OfferExchange fails if the channel breaks ${when}`, () =>
    virtually({ delayMs: 25 }, async ({ side, channels }) => {
      const a = side(0, "controlling");
      if (when === "after it") side(1, "controlled");
      await delay(100);
      channels[0].break();
      await assertRejects(() => a.running, Error, "signal channel");
    }));
}

interface Side {
  readonly exchange: OfferExchange;
  readonly received: PunchOffer[];
  /** Offers with which UDP joins. */
  readonly late: PunchOffer[];
  /** How often it was said that a plan waits for UDP. */
  readonly awaited: { udp: number };
  readonly confirmed: Promise<void>;
  readonly laterRound: Promise<number>;
  readonly running: Promise<never>;
  stop(): Promise<void>;
}

interface PeerScene {
  readonly channels: readonly [MemoryChannel, MemoryChannel];
  side(index: 0 | 1, role: PunchRole, changes?: Partial<OfferExchangeOptions>): Side;
}

/** Runs a test in virtual time, and checks that nothing is left waiting. */
async function virtually(
  options: MemoryChannelOptions,
  test: (place: PeerScene) => Promise<void>,
): Promise<void> {
  using time = new VirtualTime();
  using _randomness = new SeededRandomness(options.seed ?? 1);
  const channels = memoryChannelPair(options);
  const sides: Side[] = [];
  await time.run(async () => {
    await test({
      channels,
      side: (index, role, changes) => {
        sides.push(start(channels[index], role, changes));
        return sides.at(-1)!;
      },
    });
    for (const side of sides) await side.stop();
    await delay(1000); // for messages that are on their way
  });
  assertEquals(time.pendingTimers, 0);
}

function start(
  channel: MemoryChannel,
  role: PunchRole,
  changes: Partial<OfferExchangeOptions> = {},
): Side {
  const received: PunchOffer[] = [];
  const late: PunchOffer[] = [];
  const awaited = { udp: 0 };
  const confirmed = Promise.withResolvers<void>();
  const laterRound = Promise.withResolvers<number>();
  const controller = new AbortController();
  const exchange = new OfferExchange({
    channel,
    role,
    sharedSecret: NO_SECRET,
    round: 1,
    source: {
      description: punchSide("192.0.2.1"),
      get sampleAgeMs() {
        return performance.now();
      },
      refresh: () => Promise.resolve(false),
      learned: () => Promise.resolve(false),
    },
    onOffer: (offer) => received.push(offer),
    onUdpOffer: (offer) => late.push(offer),
    onUdpAwaited: () => awaited.udp++,
    onConfirmed: confirmed.resolve,
    onLaterRound: laterRound.resolve,
    ...changes,
  });
  const running = exchange.run(controller.signal);
  const ended = running.catch(() => {});
  const stop = async () => {
    controller.abort();
    await ended;
  };
  return {
    exchange,
    received,
    late,
    awaited,
    confirmed: confirmed.promise,
    laterRound: laterRound.promise,
    running,
    stop,
  };
}

/** A sequential NAT, sampled `ageMs` ago; new samples take 40 ms. */
function countingSource(ageMs: number) {
  let learnedAtMs = performance.now() - ageMs;
  return {
    refreshed: 0,
    description: punchSide("192.0.2.1", SEQUENTIAL),
    get sampleAgeMs() {
      return performance.now() - learnedAtMs;
    },
    async refresh() {
      if (this.sampleAgeMs <= 750) return false;
      await delay(40);
      learnedAtMs = performance.now();
      this.refreshed++;
      return true;
    },
    learned: () => Promise.resolve(false),
  };
}

/** A side that learns what SYNs from outside get. */
function learningSource(profile: Partial<NatProfile>, learnMs: number) {
  const { isLearning: _, ...learned } = punchSide("192.0.2.1", { ...profile, filtering: "none" });
  const learnedAtMs = performance.now() + learnMs;
  let isOver = false;
  return {
    get description(): PunchDescription {
      return isOver ? learned : { ...punchSide("192.0.2.1", profile), isLearning: true };
    },
    get sampleAgeMs() {
      return 0;
    },
    refresh: () => Promise.resolve(false),
    async learned() {
      if (isOver) return false;
      await delay(Math.max(0, learnedAtMs - performance.now()));
      return isOver = true;
    },
  };
}

/** A side that has a description for UDP after a while, or has none then. */
function udpSource(
  known: PunchDescription,
  readyMs: number,
  udp: PunchDescription | null = UDP_SIDE,
): OfferSource {
  const readyAtMs = performance.now() + readyMs;
  const isReady = () => performance.now() >= readyAtMs;
  return {
    get description(): PunchDescription {
      return isReady() ? known : { ...known, udpFollows: true };
    },
    get udp() {
      return isReady() ? udp ?? undefined : undefined;
    },
    sampleAgeMs: 0,
    refresh: () => Promise.resolve(false),
    async learned() {
      if (isReady()) return false;
      await delay(readyAtMs - performance.now());
      return true;
    },
  };
}

function keysOf({ received }: Side): string[] {
  return received.map(({ key }) => key);
}

/** A forged offer. */
function forge(changes: Partial<PunchOffer>): Uint8Array {
  return encodeOffer({
    role: "controlled",
    key: "e".repeat(64),
    answers: null,
    isWaiting: true,
    round: 1,
    sampleAgeMs: 0,
    side: punchSide("192.0.2.66"),
    ...changes,
  }, NO_SECRET);
}

/** A side that no server has answered over TCP, in a LAN. */
function inLan(host: number): PunchDescription {
  const address = { ip: `192.168.1.${host}`, port: 40_000 };
  return { ...NO_ADDRESS, candidates: [{ kind: "host", address }] };
}

const EASY: Partial<NatProfile> = { filtering: "unknown" };

/** The same without an address in a LAN. */
const NO_ADDRESS: PunchDescription = {
  ...punchSide("192.0.2.1"),
  profile: { ...punchSide("192.0.2.1").profile, mapping: "unknown", externalIp: null },
  candidates: [],
};

const UDP_SIDE = punchSide("192.0.2.1", {}, { punchPort: 40_001 });
const NO_SECRET = new Uint8Array(0);
