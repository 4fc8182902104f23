/**
 * Code scenes: those who offer tickets for codes, those who redeem them, and the hubs between them, in virtual time.
 *
 * @module
 */

import { type CodeEvent, CodeOffering } from "../../lib/code/offer.ts";
import { type Code, parseCode } from "../../lib/code/code.ts";
import { redeemCode } from "../../lib/code/redeem.ts";
import { WORDS } from "../../lib/code/words.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import { TestHub } from "../scenes/peer_scene.ts";
import { SeededRandomness } from "../simnet/random.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";
import { assertEquals } from "@std/assert";

/** What each test gets. */
export interface CodeScene {
  readonly time: VirtualTime;
  readonly hub: TestHub;
  /** Offers the ticket over the hub, or over others. */
  offer(options?: { hubs?: readonly TestHub[]; expiresMs?: number; ticket?: string }): Offer;
  /** Redeems a code over the hub, or over others. */
  redeem(code: Code | string, options?: RedeemOptions): Promise<string>;
}

/** How to redeem. */
export interface RedeemOptions {
  readonly hubs?: readonly TestHub[];
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** An offering, and what it has reported. */
export class Offer implements AsyncDisposable {
  readonly events: CodeEvent[] = [];
  readonly offering: CodeOffering;
  readonly #ways: Promise<SignalingConnection>[];
  #changed = Promise.withResolvers<void>();

  constructor(hubs: readonly TestHub[], options: { expiresMs: number; ticket: string }) {
    this.#ways = hubs.map((hub) => hub.open());
    this.offering = new CodeOffering({
      ways: this.#ways,
      ticket: () => options.ticket,
      expiresMs: options.expiresMs,
      onEvent: (event) => {
        this.events.push(event);
        this.#changed.resolve();
        this.#changed = Promise.withResolvers();
      },
    });
  }

  /** Waits for an event of this kind; those that were seen before do not count. */
  async next<K extends CodeEvent["kind"]>(kind: K): Promise<Extract<CodeEvent, { kind: K }>> {
    const seen = this.#seen;
    for (;;) {
      const index = this.events.findIndex((each, index) => index >= seen && each.kind === kind);
      if (index >= 0) {
        this.#seen = index + 1;
        return this.events[index] as Extract<CodeEvent, { kind: K }>;
      }
      await this.#changed.promise;
    }
  }
  #seen = 0;

  /** The next code that is offered. */
  async code(): Promise<Code> {
    return parseCode((await this.next("offered")).code);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.offering[Symbol.asyncDispose]();
    for (const way of await Promise.allSettled(this.#ways)) {
      if (way.status === "fulfilled") await way.value[Symbol.asyncDispose]();
    }
  }
}

/** Runs a test in virtual time, and checks that it leaves no subscription and no timer. */
export async function inCodeScene(
  test: (scene: CodeScene) => Promise<void>,
  options: { seed?: number } = {},
): Promise<void> {
  using time = new VirtualTime();
  using _randomness = new SeededRandomness(options.seed ?? 1);
  const hub = new TestHub();
  await time.run(() =>
    test({
      time,
      hub,
      offer: ({ hubs = [hub], expiresMs = 3_600_000, ticket = "punchline:ticket" } = {}) =>
        new Offer(hubs, { expiresMs, ticket }),
      redeem: async (code, { hubs = [hub], timeoutMs = 30_000, signal } = {}) => {
        const ways = hubs.map((each) => each.open());
        try {
          const parsed = typeof code === "string" ? parseCode(code) : code;
          return await redeemCode(parsed, { ways, timeoutMs, signal });
        } finally {
          for (const way of await Promise.allSettled(ways)) {
            if (way.status === "fulfilled") await way.value[Symbol.asyncDispose]();
          }
        }
      },
    })
  );
  const left = [...hub.subscribers.values()].reduce((sum, each) => sum + each.size, 0);
  assertEquals(left, 0, "subscriptions were left");
}

/** The same number with other words. */
export function withWrongWords({ number, words }: Code): Code {
  const next = WORDS[(WORDS.indexOf(words[0]!) + 1) % WORDS.length]!;
  return { number, words: [next, ...words.slice(1)] };
}
