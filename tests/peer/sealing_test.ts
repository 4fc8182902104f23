import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  type Content,
  decodeEnvelope,
  encodeEnvelope,
  type Envelope,
  ENVELOPE_LENGTHS,
  MAX_BODY_LENGTH,
} from "../../lib/peer/signaling_message.ts";
import {
  ephemeralKeyOf,
  type HandshakeEnvelope,
  InitiatorHandshake,
  isKnockOf,
  ResponderHandshake,
} from "../../lib/peer/signaling_handshake.ts";
import { TicketSecrets } from "../../lib/peer/keys.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { generateKeyPair } from "../../lib/noise/key_pair.ts";

Deno.test("two peers agree on a seal by two messages, each of which carries something", () => {
  const { knocker, answerer } = knocked(content("may I?"));
  assertEquals(text(answerer.content), "may I?");
  const answer = answerer.answer(content("you may"));
  const read = knocker.readAnswer(handshake(answer.message));
  assertEquals(text(read.content), "you may");
  assertEquals(read.cipher.connectionKey, answer.cipher.connectionKey);
  for (
    const [one, other] of [[read.cipher, answer.cipher], [answer.cipher, read.cipher]] as const
  ) {
    assertEquals(text(other.open(sealed(one.encrypt(content("go on"))))), "go on");
  }
});

Deno.test("the responder learns who knocks, whoever that is", () => {
  const { answerer, alice } = knocked(content(""));
  assertEquals(answerer.remoteKey, alice.publicKey);
});

Deno.test("a conversation has a key of its own", () => {
  const [one, other] = [talk(), talk()];
  assertNotEquals(one.cipher.connectionKey, other.cipher.connectionKey);
});

Deno.test("messages are of two lengths, whatever they say", () => {
  const { knocker } = parties();
  const lengths = new Set<number>();
  for (const length of [0, 1, 500, 1900, 2100, MAX_BODY_LENGTH]) {
    const { cipher } = talk();
    const body = new Uint8Array(length);
    lengths.add(cipher.encrypt({ channel: 0, body }).length);
  }
  lengths.add(knocker.knock(content("x")).length);
  assertEquals([...lengths].sort((a, b) => a - b), [...ENVELOPE_LENGTHS]);
});

Deno.test("a body that is too long for a message is refused, not cut", () => {
  const { cipher } = talk();
  assertThrows(() => cipher.encrypt({ channel: 0, body: new Uint8Array(4096) }), RangeError);
});

Deno.test("nothing of a knock can be read without the peer's key", () => {
  const { knocker } = parties();
  const body = new TextEncoder().encode("192.168.1.2 and other secrets");
  const knock = new TextDecoder("latin1").decode(knocker.knock({ channel: 0, body }));
  assert(!knock.includes("192.168"));
});

Deno.test("isKnockOf() knows a knock of who has the ticket, and each changed byte", () => {
  const { knocker, secrets } = parties();
  const message = knocker.knock(content("may I?"));
  assert(isKnockOf(handshake(message), secrets));
  assert(!isKnockOf(handshake(message), new TicketSecrets(ticketOf(generateKeyPair()))));
  for (let index = 1; index < message.length; index += 7) {
    const changed = message.slice();
    changed[index]! ^= 1;
    assert(!isKnockOf(handshake(changed), secrets), `byte ${index}`);
  }
});

Deno.test("a knock for somebody else cannot be read", () => {
  const { knocker, secrets } = parties();
  const knock = handshake(knocker.knock(content("may I?")));
  const eve = generateKeyPair();
  assertThrows(
    () =>
      new ResponderHandshake(knock, { secrets, staticKey: eve, ephemeralKey: generateKeyPair() }),
    MalformedMessageError,
  );
});

Deno.test("a knock without the ticket's secret cannot be read", () => {
  const { knocker, bob } = parties();
  const knock = handshake(knocker.knock(content("may I?")));
  const secrets = new TicketSecrets({ publicKey: bob.publicKey, secret: new Uint8Array(16) });
  assertThrows(
    () =>
      new ResponderHandshake(knock, { secrets, staticKey: bob, ephemeralKey: generateKeyPair() }),
    MalformedMessageError,
  );
});

Deno.test("isAnswer() knows an answer to this knock from those to others", () => {
  const one = knocked(content("may I?"));
  const other = knocked(content("may I?"));
  const answer = handshake(one.answerer.answer(content("yes")).message);
  assert(one.knocker.isAnswer(answer));
  assert(!other.knocker.isAnswer(answer));
});

Deno.test("a sealed message is opened once", () => {
  const { cipher, other } = talk();
  const message = sealed(cipher.encrypt(content("once")));
  other.open(message);
  assertThrows(() => other.open(message), MalformedMessageError);
});

Deno.test("sealed messages may overtake each other, and be lost", () => {
  fc.assert(
    fc.property(fc.shuffledSubarray(Array.from({ length: 100 }, (_, i) => i)), (order) => {
      const { cipher, other } = talk();
      const messages = Array.from(
        { length: 100 },
        (_, i) => sealed(cipher.encrypt(content(`${i}`))),
      );
      for (const index of order) assertEquals(text(other.open(messages[index]!)), `${index}`);
      for (const index of order) {
        assertThrows(() => other.open(messages[index]!), MalformedMessageError);
      }
    }),
    { numRuns: 20 },
  );
});

Deno.test("a sealed message of long ago is not opened", () => {
  const { cipher, other } = talk();
  const old = sealed(cipher.encrypt(content("old")));
  for (let i = 0; i < 256; i++) other.open(sealed(cipher.encrypt(content("new"))));
  assertThrows(() => other.open(old), MalformedMessageError);
});

Deno.test("no changed bit of a sealed message passes", () => {
  const { cipher, other } = talk();
  const message = cipher.encrypt(content("hello"));
  for (let index = 9; index < message.length; index += 5) {
    const changed = message.slice();
    changed[index]! ^= 0x10;
    assertThrows(() => other.open(sealed(changed)), MalformedMessageError);
  }
  assertEquals(text(other.open(sealed(message))), "hello");
});

Deno.test("a side cannot be made to open its own messages", () => {
  const { cipher } = talk();
  assertThrows(() => cipher.open(sealed(cipher.encrypt(content("hello")))), MalformedMessageError);
});

Deno.test("decodeEnvelope() throws nothing but MalformedMessageError, and encodes to the same", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    try {
      assertEquals(encodeEnvelope(decodeEnvelope(bytes)), bytes);
    } catch (error) {
      assert(error instanceof MalformedMessageError, `${error}`);
    }
  }));
});

Deno.test("topics change with the hour, and two hours beside each other share the right ones", () => {
  const { secrets } = parties();
  const hour = 3_600_000;
  const nowMs = 1_790_000_000_000;
  assertNotEquals(secrets.topicAt(nowMs), secrets.topicAt(nowMs + hour));
  for (const skewMs of [-hour, -1, 0, 1, hour]) {
    assert(secrets.topicsAround(nowMs + skewMs).includes(secrets.topicAt(nowMs)), `${skewMs}`);
  }
  assertEquals(/^[A-Za-z0-9_-]{22}$/.test(secrets.topicAt(nowMs)), true);
});

Deno.test("topics of two tickets have nothing in common, nor those of two conversations", () => {
  const [one, other] = [parties(), parties()];
  const nowMs = Date.now();
  assertNotEquals(one.secrets.topicAt(nowMs), other.secrets.topicAt(nowMs));
  const [a, b] = [generateKeyPair().publicKey, generateKeyPair().publicKey];
  assertNotEquals(one.secrets.replyTopic(a), one.secrets.replyTopic(b));
});

function parties() {
  const [alice, bob] = [generateKeyPair(), generateKeyPair()];
  const secrets = new TicketSecrets(ticketOf(bob));
  const options = { secrets, staticKey: alice, ephemeralKey: generateKeyPair() };
  return { alice, bob, secrets, knocker: new InitiatorHandshake(options, bob.publicKey) };
}

function knocked(said: Content) {
  const { alice, bob, secrets, knocker } = parties();
  const knock = handshake(knocker.knock(said));
  assertEquals(ephemeralKeyOf(knock), knocker.ephemeralKey);
  const options = { secrets, staticKey: bob, ephemeralKey: generateKeyPair() };
  return { alice, bob, knocker, answerer: new ResponderHandshake(knock, options) };
}

function talk() {
  const { knocker, answerer } = knocked(content("may I?"));
  const { message, cipher: other } = answerer.answer(content("yes"));
  return { cipher: knocker.readAnswer(handshake(message)).cipher, other };
}

function ticketOf({ publicKey }: { publicKey: Uint8Array }) {
  return { publicKey, secret: crypto.getRandomValues(new Uint8Array(16)) };
}

function content(said: string): Content {
  return { channel: 3, body: new TextEncoder().encode(said) };
}

function text({ body }: Content): string {
  return new TextDecoder().decode(body);
}

function handshake(message: Uint8Array): HandshakeEnvelope {
  return decodeEnvelope(message) as HandshakeEnvelope;
}

function sealed(message: Uint8Array): Envelope & { kind: "sealed" } {
  return decodeEnvelope(message) as Envelope & { kind: "sealed" };
}
