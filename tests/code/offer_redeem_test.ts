// Codes between two sides that keep to the rules.

import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError, NoResponseError, RefusedError } from "../../lib/base/errors.ts";
import { formatCode, newCode } from "../../lib/code/code.ts";
import { CODE_REFUSALS, redeemCode } from "../../lib/code/redeem.ts";
import { meetingTopic, type SignalingConnection } from "../../lib/signal/transport.ts";
import { TestHub } from "../scenes/peer_scene.ts";
import { inCodeScene, withWrongWords } from "./code_scene.ts";

Deno.test("redeemCode() gets the ticket, in two round trips between the sides", () =>
  inCodeScene(async ({ hub, time, offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    const startMs = time.nowMs;
    assertEquals(await redeem(code), "punchline:ticket");
    assertEquals(time.nowMs - startMs, 4 * hub.delayMs);
    await offered.next("spent");
    assertEquals(offered.offering.code, undefined);
  }));

Deno.test("redeemCode() may come before the other side has opened its connection", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    const late = new TestHub();
    await using offered = offer({ hubs: [hub] });
    const code = await offered.code();
    const redeemed = redeem(code, { hubs: [late, hub] });
    assertEquals(await redeemed, "punchline:ticket");
  }));

Deno.test("a code works if only one of the ways to signal is common to both sides, or works", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    const down = new TestHub("ws://192.0.2.1:3480");
    down.isDown = true;
    const mute = new TestHub("ws://192.0.2.2:3480");
    mute.isMute = true;
    await using offered = offer({ hubs: [down, mute, hub] });
    const code = await offered.code();
    assertEquals(await redeem(code, { hubs: [mute, down, hub] }), "punchline:ticket");
  }));

Deno.test("a code that arrives over several ways is redeemed once", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    const hubs = [hub, new TestHub("ws://192.0.2.1:3480", 20), new TestHub("ws://192.0.2.2:3480")];
    await using offered = offer({ hubs });
    const code = await offered.code();
    assertEquals(await redeem(code, { hubs }), "punchline:ticket");
    await delay(1000);
    assertEquals(offered.events.map(({ kind }) => kind), ["offered", "spent"]);
  }));

Deno.test("a slow way does not delay the code by more than two seconds, and carries it once it is open", () =>
  inCodeScene(async ({ hub, time, offer, redeem }) => {
    const slow = new TestHub("ws://192.0.2.1:3480");
    const open = slow.open.bind(slow);
    slow.open = () => delay(10_000).then(open);
    await using offered = offer({ hubs: [hub, slow] });
    const code = await offered.code();
    assert(time.nowMs < 3500, `${time.nowMs} ms`);
    await delay(12_000);
    slow.open = open;
    assertEquals(await redeem(code, { hubs: [slow] }), "punchline:ticket");
  }));

Deno.test("a way on which the number is taken does not carry the code if it opens late", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    const late = new TestHub("ws://192.0.2.1:3480");
    const open = late.open.bind(late);
    await using first = offer({ hubs: [late], ticket: "punchline:first" });
    const code = await first.code();
    using _chance = drawing(code.number);
    late.open = () => delay(5000).then(open);
    await using second = offer({ hubs: [hub, late], ticket: "punchline:second" });
    const other = await second.code();
    assertEquals(other.number, code.number);
    await delay(8000);
    late.open = open;
    assertEquals(await redeem(code, { hubs: [late] }), "punchline:first");
    assertEquals(await redeem(other), "punchline:second");
  }));

Deno.test("a code works if the hub loses half of all messages, and repeats the others", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    const deliver = hub.deliver.bind(hub);
    hub.deliver = (topic, message) => {
      if (Math.random() < 0.5) return;
      deliver(topic, message);
      deliver(topic, message);
    };
    assertEquals(await redeem(code), "punchline:ticket");
    assertEquals(offered.events.map(({ kind }) => kind), ["offered", "spent"]);
  }));

Deno.test("wrong words are reported to both sides, and the right ones still work", () =>
  inCodeScene(async ({ offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    const error = await assertRejects(() => redeem(withWrongWords(code)), RefusedError, "wrong");
    assertEquals(error.code, CODE_REFUSALS.wrong);
    assertEquals((await offered.next("wrong-guess")).guessesLeft, 2);
    assertEquals(await redeem(code), "punchline:ticket");
  }));

Deno.test("after three wrong guesses there is another code at once, and the ticket is the same", () =>
  inCodeScene(async ({ offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    for (let i = 0; i < 3; i++) {
      await assertRejects(() => redeem(withWrongWords(code)), RefusedError, "wrong");
    }
    await offered.next("out-of-guesses");
    const next = await offered.code();
    assertNotEquals(formatCode(next), formatCode(code));
    await assertRejects(() => redeem(code), NoResponseError);
    assertEquals(await redeem(next), "punchline:ticket");
  }));

Deno.test("a code is spent at the first success: the second side is told so", () =>
  inCodeScene(async ({ offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    assertEquals(await redeem(code), "punchline:ticket");
    const error = await assertRejects(() => redeem(code), RefusedError, "used before");
    assertEquals(error.code, CODE_REFUSALS.spent);
  }));

Deno.test("one of two sides that redeem a code at the same time gets the ticket", () =>
  inCodeScene(async ({ offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    const results = await Promise.allSettled([redeem(code), redeem(code)]);
    const kinds = results.map((each) =>
      each.status === "fulfilled" ? each.value : `${each.reason}`
    );
    assertEquals(kinds.filter((each) => each === "punchline:ticket").length, 1);
    assertEquals(kinds.filter((each) => each.includes("used before")).length, 1);
  }));

Deno.test("a code expires when its time is over, and then opens nothing", () =>
  inCodeScene(async ({ time, offer, redeem }) => {
    await using offered = offer({ expiresMs: 60_000 });
    const code = await offered.code();
    const startMs = time.nowMs;
    await offered.next("expired");
    assertEquals(time.nowMs - startMs, 60_000);
    assertEquals(offered.offering.code, undefined);
    for (const words of [code, withWrongWords(code)]) { // whoever guesses learns nothing from the answer
      const error = await assertRejects(() => redeem(words), RefusedError, "it has expired");
      assertEquals(error.code, CODE_REFUSALS.expired);
    }
  }));

Deno.test("redeemCode() gives up after its timeout if no peer offers a ticket", () =>
  inCodeScene(async ({ time, redeem }) => {
    const startMs = time.nowMs;
    await assertRejects(() => redeem("7-abacus-abbey-absent"), NoResponseError, "code 7-…");
    assertEquals(time.nowMs - startMs, 30_000);
  }));

Deno.test("redeemCode() fails at once if no signaling server can be reached", () =>
  inCodeScene(async ({ hub, time, redeem }) => {
    hub.isDown = true;
    const startMs = time.nowMs;
    await assertRejects(() => redeem("7-abacus-abbey-absent"), NetworkError, "is down");
    assertEquals(time.nowMs, startMs);
  }));

Deno.test("redeemCode() rejects with the signal's reason on abort", () =>
  inCodeScene(async ({ redeem }) => {
    const reason = new Error("enough");
    const aborted = new AbortController();
    const redeemed = redeem("7-abacus-abbey-absent", { signal: aborted.signal });
    setTimeout(() => aborted.abort(reason), 1000);
    assertEquals(await assertRejects(() => redeemed), reason);
  }));

Deno.test("a number that another code has is noticed before the code is shown", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    await using first = offer({ ticket: "punchline:first" });
    const code = await first.code();
    using _chance = drawing(code.number, 4321);
    await using second = offer({ ticket: "punchline:second" });
    const other = await second.code();
    assertEquals(other.number, 4321);
    assertEquals(await redeem(other), "punchline:second");
    assertEquals(await redeem(code), "punchline:first");
    assertEquals(hub.subscribers.get(meetingTopic(code.number))?.size, 1);
  }));

Deno.test("two that draw the same number at the same time both draw another", () =>
  inCodeScene(async ({ offer }) => {
    using _chance = drawing(7, 7, 8, 9);
    await using first = offer();
    await using second = offer();
    const numbers = [(await first.code()).number, (await second.code()).number];
    assertEquals(numbers.sort(), [8, 9]);
  }));

Deno.test("if all numbers seem to be taken there is no code, and that is said", () =>
  inCodeScene(async ({ hub, offer }) => {
    const publish = hub.deliver.bind(hub);
    hub.deliver = (topic, message) => {
      publish(topic, message);
      const id = message.slice(5, 21); // a hostile hub that answers each probe
      const taken = Uint8Array.of(...message.slice(0, 4), 7, ...id);
      if (message[4] === 6) { for (const topic of hub.subscribers.keys()) publish(topic, taken); }
    };
    await using offered = offer();
    assert((await offered.next("unavailable")).reason.includes("taken"));
  }));

/** Makes those who draw a number draw these. */
function drawing(...numbers: number[]): Disposable {
  const { getRandomValues } = crypto;
  crypto.getRandomValues = <T extends ArrayBufferView | null>(array: T): T => {
    if (!(array instanceof Uint32Array)) return getRandomValues.call(crypto, array!) as T;
    array[0] = numbers.shift() ?? 5555;
    return array;
  };
  return { [Symbol.dispose]: () => void (crypto.getRandomValues = getRandomValues) };
}

Deno.test("a code for which no server is reached in time says so, and not that no one answers", async () => {
  const silent = new Promise<SignalingConnection>(() => {});
  const code = newCode(7, crypto.getRandomValues(new Uint8Array(6)));
  const error = await assertRejects(
    () => redeemCode(code, { ways: [silent], timeoutMs: 20 }),
    NetworkError,
    "no signaling server could be reached in time",
  );
  assertEquals(error.reason, "unreachable");
});
