// Codes against those who carry the messages, who guess, and who stand in for either side.

import { assert, assertEquals, assertFalse, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { toHex } from "../../lib/base/bytes.ts";
import { NoResponseError, RefusedError, undefinedIfMalformed } from "../../lib/base/errors.ts";
import { type Code, newCode } from "../../lib/code/code.ts";
import { codeKeys, offererShare, openTicket, redeemerShare } from "../../lib/code/exchange.ts";
import { type CodeMessage, decodeCodeMessage, encodeCodeMessage } from "../../lib/code/message.ts";
import { MAX_GUESSES } from "../../lib/code/offer_engine.ts";
import { WORDS } from "../../lib/code/words.ts";
import { answerTopic, meetingTopic } from "../../lib/signal/transport.ts";
import { inCodeScene, withWrongWords } from "../code/code_scene.ts";
import { TestHub } from "../scenes/peer_scene.ts";

Deno.test("the odds of an attacker are 2^-28 for each code", () => {
  const guesses = MAX_GUESSES + 1; // and the one that a redeemer lets an impostor make
  assert(guesses / WORDS.length ** 3 <= 2 ** -28);
});

Deno.test("an eavesdropper sees the number, and nothing that follows from the words or the ticket", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    await using offered = offer({ ticket: "punchline:AAAA" });
    const code = await offered.code();
    await redeem(code);
    assert(hub.published.length >= 4);
    for (const { topic, message } of hub.published) {
      const { id, kind } = decodeCodeMessage(message);
      const isMeeting = kind === "hello" || kind === "confirm" || kind === "probe";
      assertEquals(topic, isMeeting ? meetingTopic(code.number) : answerTopic(id));
      assertFalse(new TextDecoder().decode(message).includes("punchline:"));
    }
    // Each of the words would lead to the same messages: shares are uniform, and tags depend on a key that only the two
    // sides have. What can be tested is that no guess at the words opens what was sent, without either side's secret.
    const messages = hub.published.map(({ message }) => decodeCodeMessage(message));
    const hello = messages.find(({ kind }) => kind === "hello")! as Message<"hello">;
    const share = messages.find(({ kind }) => kind === "share")! as Message<"share">;
    const ticket = messages.find(({ kind }) => kind === "ticket")! as Message<"ticket">;
    const confirm = messages.find(({ kind }) => kind === "confirm")! as Message<"confirm">;
    const { id } = hello;
    for (const remote of [hello.share, share.share]) {
      for (const role of ["redeemer", "offerer"] as const) {
        const keys = codeKeys(id, { ...redeemerShare(code, id), role }, remote)!; // even with the right words
        assertEquals(openTicket(keys, ticket), undefined);
        assertFalse(toHex(keys.redeemerTag) === toHex(confirm.tag));
      }
    }
  }));

Deno.test("an impostor at the number who does not know the words gets one guess, and no ticket goes astray", () =>
  inCodeScene(async ({ hub, redeem }) => {
    const code = newCode(7, crypto.getRandomValues(new Uint8Array(6)));
    await using mallory = await Mallory.join(hub, code.number);
    const confirms: CodeMessage[] = [];
    mallory.onMessage = (message) => {
      if (message.kind === "confirm") confirms.push(message);
      if (message.kind !== "hello") return;
      for (let guess = 0; guess < 5; guess++) { // another guess in each share
        const own = offererShare(withWrongWords(code), new Uint8Array(32).fill(guess), message);
        mallory.send(answerTopic(message.id), {
          kind: "share",
          id: message.id,
          share: own.share,
        });
      }
    };
    await assertRejects(() => redeem(code), NoResponseError, "stopped answering");
    assertEquals(new Set(confirms.map((each) => toHex(encodeCodeMessage(each)))).size, 1);
  }));

Deno.test("a redeemer that fell for an impostor costs the offerer no guess", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    await using mallory = await Mallory.join(hub, code.number);
    const impostor = (message: CodeMessage) => {
      if (message.kind !== "hello") return;
      const { id } = message;
      const { share } = offererShare(withWrongWords(code), SECRET, message);
      hub.deliver(answerTopic(id), encodeCodeMessage({ kind: "share", id, share })); // it is faster
    };
    mallory.onMessage = impostor;
    for (let i = 0; i < 4; i++) {
      await assertRejects(() => redeem(code), NoResponseError, "stopped answering");
    }
    assertEquals(offered.events.map(({ kind }) => kind), ["offered"]);
    mallory.onMessage = () => {};
    assertEquals(await redeem(code), "punchline:ticket");
  }));

Deno.test("an impostor cannot make up a ticket", () =>
  inCodeScene(async ({ hub, redeem }) => {
    const code = newCode(7, crypto.getRandomValues(new Uint8Array(6)));
    await using mallory = await Mallory.join(hub, code.number);
    mallory.onMessage = (message) => {
      const { id } = message;
      const own = "share" in message
        ? offererShare(withWrongWords(code), SECRET, { id, share: message.share })
        : undefined;
      if (message.kind === "hello") {
        mallory.send(answerTopic(id), { kind: "share", id, share: own!.share });
      } else if (message.kind === "confirm") {
        const keys = codeKeys(id, { ...own!, role: "offerer" }, message.share)!;
        for (const tag of [keys.offererTag, message.tag, new Uint8Array(32)]) {
          mallory.send(answerTopic(id), {
            kind: "ticket",
            id,
            tag,
            ciphertext: new Uint8Array(40),
          });
        }
      }
    };
    await assertRejects(() => redeem(code), NoResponseError);
  }));

Deno.test("messages that are reflected to their sender lead nowhere", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    const code = newCode(7, crypto.getRandomValues(new Uint8Array(6)));
    await using mallory = await Mallory.join(hub, code.number);
    mallory.onMessage = (message) => {
      if (message.kind !== "hello" && message.kind !== "confirm") return;
      mallory.send(answerTopic(message.id), message);
      const { id, share } = message;
      mallory.send(answerTopic(id), { kind: "share", id, share });
    };
    await assertRejects(() => redeem(code), NoResponseError, "no one answers");
    await using offered = offer();
    const other = await offered.code();
    hub.published.length = 0;
    await redeem(other);
    for (const { topic, message } of [...hub.published]) { // the offerer's answers, back to itself
      if (topic !== meetingTopic(other.number)) hub.deliver(meetingTopic(other.number), message);
    }
    await delay(1000);
    assertEquals(offered.events.map(({ kind }) => kind), ["offered", "spent"]);
  }));

Deno.test("a relay to another number with the same words leads nowhere, and costs its guess there", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    const wanted: Code = { ...code, number: (code.number + 1) % 10_000 };
    await using mallory = await Mallory.join(hub, wanted.number);
    mallory.onMessage = (message) => mallory.send(meetingTopic(code.number), message);
    await assertRejects(() => redeem(wanted), RefusedError, "words are wrong");
    assertEquals(offered.events.map(({ kind }) => kind), ["offered", "wrong-guess"]);
  }));

Deno.test("a relay at the same number learns nothing, and can change nothing", () =>
  inCodeScene(async ({ offer, redeem }) => {
    const near = new TestHub("ws://192.0.2.1:3480");
    const far = new TestHub("ws://192.0.2.2:3480");
    await using offered = offer({ hubs: [far] });
    const code = await offered.code();
    await using there = await Mallory.join(far, code.number);
    await using here = await Mallory.join(near, code.number);
    here.onMessage = async (message) => {
      if (message.kind === "confirm") { // first with one bit changed in each of its fields
        for (const field of ["id", "tag"] as const) {
          const bytes = message[field].slice();
          bytes[5]! ^= 1;
          there.send(meetingTopic(code.number), { ...message, [field]: bytes });
        }
      }
      await there.listen(answerTopic(message.id), (answer) => {
        here.send(answerTopic(message.id), answer);
      });
      await delay(1);
      there.send(meetingTopic(code.number), message);
    };
    assertEquals(await redeem(code, { hubs: [near] }), "punchline:ticket");
    const kinds = offered.events.map(({ kind }) => kind);
    assertEquals(kinds, ["offered", "wrong-guess", "spent"]); // with the other ID no exchange takes it
  }));

Deno.test("messages of an exchange that are replayed get the same answers, and open nothing", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    await redeem(code);
    const before = answersIn(hub);
    const replayed = hub.published.filter(({ topic }) => topic === meetingTopic(code.number));
    for (let i = 0; i < 3; i++) {
      for (const { topic, message } of replayed) hub.deliver(topic, message);
    }
    await delay(1000);
    const known = new Set(before.map((each) => toHex(each)));
    const fresh = answersIn(hub).filter((each) => !known.has(toHex(each)));
    // A hello gets a refusal now; a confirmation gets the ticket again, the same bytes, which only its sender can read.
    assert(fresh.every((each) => decodeCodeMessage(each).kind === "refusal"));
    assertEquals(offered.events.map(({ kind }) => kind), ["offered", "spent"]);
  }));

Deno.test("messages from one code are good for nothing at the next", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    await using first = offer();
    const code = await first.code();
    await redeem(code);
    const old = hub.published.filter(({ topic }) => topic === meetingTopic(code.number));
    await first[Symbol.asyncDispose]();
    await using second = offer({ ticket: "punchline:second" });
    const { number } = await second.code();
    hub.published.length = 0;
    for (const { message } of old) hub.deliver(meetingTopic(number), message);
    await delay(1000);
    const kinds = hub.published.map(({ message }) => decodeCodeMessage(message).kind);
    assertFalse(kinds.includes("ticket"));
  }));

Deno.test("a bot that guesses gets three evaluated guesses for each code, seven codes, and then none", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    await using offered = offer();
    let codes = 0;
    let isOver = false;
    while (!isOver) {
      const code = await offered.code();
      codes++;
      for (let i = 0; i < MAX_GUESSES; i++) {
        await assertRejects(() => redeem(withWrongWords(code)), RefusedError);
      }
      await offered.next("out-of-guesses");
      await delay(2000);
      isOver = offered.events.at(-1)!.kind === "unavailable";
    }
    assertEquals(codes, 7);
    assertEquals(hub.subscribers.get(meetingTopic(0))?.size ?? 0, 0);
    assertEquals(offered.offering.code, undefined);
  }));

Deno.test("malformed, invalid, unfinished and repeated attempts cost no guess", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    const topic = meetingTopic(code.number);
    await using mallory = await Mallory.join(hub, code.number);
    const id = new Uint8Array(16).fill(9);
    for (let length = 0; length < 100; length++) hub.deliver(topic, new Uint8Array(length));
    const notElements = [new Uint8Array(32), new Uint8Array(32).fill(255)];
    for (const share of notElements) {
      mallory.send(topic, { kind: "hello", id, share });
      mallory.send(topic, { kind: "confirm", id, share, offererShare: share, tag: TAG });
    }
    for (let i = 0; i < 20; i++) { // begun, and never finished
      const own = redeemerShare(withWrongWords(code), id);
      mallory.send(topic, { kind: "hello", id, share: own.share });
    }
    await delay(5000);
    assertEquals(offered.events.length, 1);
    const { share } = redeemerShare(withWrongWords(code), id);
    for (let i = 0; i < 20; i++) { // for another share than the offerer's
      mallory.send(topic, { kind: "confirm", id, share, offererShare: share, tag: TAG });
    }
    await delay(5000);
    assertEquals(offered.events.length, 1);
    const offererShare = await mallory.shareFor(code.number, { id, share });
    for (let i = 0; i < 20; i++) { // one wrong guess, sent twenty times
      mallory.send(topic, { kind: "confirm", id, share, offererShare, tag: TAG });
    }
    await delay(5000);
    assertEquals(offered.events.map(({ kind }) => kind), ["offered", "wrong-guess"]);
    assertEquals(await redeem(code), "punchline:ticket");
  }));

Deno.test("a flood at the number makes the offerer answer at most 32 times a second", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    await using mallory = await Mallory.join(hub, code.number);
    const before = hub.published.length;
    const { share } = redeemerShare(withWrongWords(code), new Uint8Array(16));
    let sent = 0;
    for (let second = 0; second < 10; second++) {
      for (let i = 0; i < 200; i++, sent++) {
        const id = new Uint8Array(16).fill(i).fill(second, 8);
        mallory.send(meetingTopic(code.number), { kind: "hello", id, share });
      }
      await delay(1000);
    }
    const answers = hub.published.length - before - sent;
    assert(answers <= 64 + 10 * 32, `${answers} answers`);
    await delay(3000); // the flood is over
    assertEquals(await redeem(code), "punchline:ticket");
  }));

Deno.test("forged refusals do not keep the ticket from its receiver", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    await using mallory = await Mallory.join(hub, code.number);
    mallory.onMessage = ({ id }) => {
      for (const reason of ["wrong", "spent"] as const) {
        mallory.send(answerTopic(id), { kind: "refusal", id, reason });
      }
    };
    assertEquals(await redeem(code), "punchline:ticket");
  }));

Deno.test("forged confirmations under the receiver's ID do not spoil its own", () =>
  inCodeScene(async ({ hub, offer, redeem }) => {
    await using offered = offer();
    const code = await offered.code();
    await using mallory = await Mallory.join(hub, code.number);
    mallory.onMessage = async (message) => {
      if (message.kind !== "hello") return;
      const { id, share } = message;
      await mallory.listen(answerTopic(id), (answer) => {
        if (answer.kind !== "share") return;
        for (const fill of [1, 2]) { // before the receiver's own arrives
          const tag = new Uint8Array(32).fill(fill);
          const forged = { id, share, offererShare: answer.share, tag };
          const bytes = encodeCodeMessage({ kind: "confirm", ...forged });
          hub.deliver(meetingTopic(code.number), bytes);
        }
      });
    };
    assertEquals(await redeem(code), "punchline:ticket");
    await delay(1000);
    const kinds = offered.events.map(({ kind }) => kind);
    assertEquals(kinds, ["offered", "wrong-guess", "wrong-guess", "spent"]);
  }));

Deno.test("a code message survives any bytes: it is decoded, or MalformedMessageError", () => {
  const random = crypto.getRandomValues(new Uint8Array(4096));
  const valid = encodeCodeMessage({
    kind: "hello",
    id: new Uint8Array(16),
    share: new Uint8Array(32),
  });
  for (let length = 0; length < 200; length++) {
    for (let kind = 0; kind < 9; kind++) {
      const bytes = random.slice(0, length);
      bytes.set(valid.subarray(0, 4).subarray(0, length));
      if (length > 4) bytes[4] = kind;
      const message = undefinedIfMalformed(() => decodeCodeMessage(bytes));
      if (message !== undefined) assertEquals(encodeCodeMessage(message), bytes);
    }
  }
});

type Message<K extends CodeMessage["kind"]> = Extract<CodeMessage, { kind: K }>;

/** One who knows the number, and so can listen and publish there. */
class Mallory implements AsyncDisposable {
  onMessage: (message: CodeMessage) => void = () => {};
  readonly #connection: Awaited<ReturnType<TestHub["open"]>>;

  private constructor(connection: Awaited<ReturnType<TestHub["open"]>>) {
    this.#connection = connection;
  }

  static async join(hub: TestHub, number: number): Promise<Mallory> {
    const mallory = new Mallory(await hub.open());
    await mallory.listen(meetingTopic(number), (message) => mallory.onMessage(message));
    return mallory;
  }

  async listen(topic: string, onMessage: (message: CodeMessage) => void): Promise<void> {
    await this.#connection.subscribe(topic, (bytes) => {
      const message = undefinedIfMalformed(() => decodeCodeMessage(bytes));
      if (message !== undefined) onMessage(message);
    });
  }

  /** The offerer's answer to a hello. */
  async shareFor(
    number: number,
    { id, share }: { readonly id: Uint8Array; readonly share: Uint8Array },
  ): Promise<Uint8Array> {
    const answered = Promise.withResolvers<Uint8Array>();
    await this.listen(answerTopic(id), (message) => {
      if (message.kind === "share") answered.resolve(message.share);
    });
    this.send(meetingTopic(number), { kind: "hello", id, share });
    return await answered.promise;
  }

  send(topic: string, message: CodeMessage): void {
    this.#connection.publish(topic, encodeCodeMessage(message));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection[Symbol.asyncDispose]();
  }
}

function answersIn(hub: TestHub): Uint8Array[] {
  return hub.published.map(({ message }) => message)
    .filter((message) => ["share", "ticket", "refusal"].includes(decodeCodeMessage(message).kind));
}

const TAG = new Uint8Array(32);

const SECRET = new Uint8Array(32).fill(7);
