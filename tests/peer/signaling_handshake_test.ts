import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  type Content,
  decodeEnvelope,
  ENVELOPE_LENGTHS,
  type HandshakeEnvelope,
  MAX_BODY_LENGTH,
  type TransportEnvelope,
} from "../../lib/peer/signaling_message.ts";
import {
  ephemeralKeyOf,
  InitiatorHandshake,
  isAuthenticRequest,
  ResponderHandshake,
} from "../../lib/peer/signaling_handshake.ts";
import { TicketSecrets } from "../../lib/peer/ticket.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { generateKeyPair } from "../../lib/noise/handshake.ts";

Deno.test("two peers agree on keys with two messages, each of which carries contents", () => {
  const { initiator, responder } = requested(contentOf("may I?"));
  assertEquals(textOf(responder.content), "may I?");
  const answer = responder.writeAnswer(contentOf("you may"));
  const read = initiator.readAnswer(handshake(answer.message));
  assertEquals(textOf(read.content), "you may");
  assertEquals(read.cipher.connectionKey, answer.cipher.connectionKey);
  for (
    const [one, other] of [[read.cipher, answer.cipher], [answer.cipher, read.cipher]] as const
  ) {
    assertEquals(textOf(other.decrypt(transport(one.encrypt(contentOf("go on"))))), "go on");
  }
});

Deno.test("the responder learns the initiator's key", () => {
  const { responder, alice } = requested(contentOf(""));
  assertEquals(responder.remoteKey, alice.publicKey);
});

Deno.test("every session has a connection key of its own", () => {
  const [one, other] = [openSession(), openSession()];
  assertNotEquals(one.cipher.connectionKey, other.cipher.connectionKey);
});

Deno.test("messages have one of two lengths, whatever they contain", () => {
  const { initiator } = parties();
  const lengths = new Set<number>();
  for (const length of [0, 1, 500, 1900, 2100, MAX_BODY_LENGTH]) {
    const { cipher } = openSession();
    const body = new Uint8Array(length);
    lengths.add(cipher.encrypt({ channel: 0, body }).length);
  }
  lengths.add(initiator.writeRequest(contentOf("x")).length);
  assertEquals([...lengths].sort((a, b) => a - b), [...ENVELOPE_LENGTHS]);
});

Deno.test("a body that is too long for a message is rejected, not truncated", () => {
  const { cipher } = openSession();
  assertThrows(() => cipher.encrypt({ channel: 0, body: new Uint8Array(4096) }), RangeError);
});

Deno.test("the contents of a request cannot be read without the responder's key", () => {
  const { initiator } = parties();
  const body = new TextEncoder().encode("192.168.1.2 and other secrets");
  const request = new TextDecoder("latin1").decode(initiator.writeRequest({ channel: 0, body }));
  assert(!request.includes("192.168"));
});

Deno.test("isAuthenticRequest() accepts a ticket holder's request, and no changed byte", () => {
  const { initiator, secrets } = parties();
  const message = initiator.writeRequest(contentOf("may I?"));
  assert(isAuthenticRequest(handshake(message), secrets));
  const otherSecrets = new TicketSecrets(ticketOf(generateKeyPair()));
  assert(!isAuthenticRequest(handshake(message), otherSecrets));
  for (let index = 1; index < message.length; index += 7) {
    const changed = message.slice();
    changed[index]! ^= 1;
    assert(!isAuthenticRequest(handshake(changed), secrets), `byte ${index}`);
  }
});

Deno.test("a request to another peer cannot be read", () => {
  const { initiator, secrets } = parties();
  const request = handshake(initiator.writeRequest(contentOf("may I?")));
  const keys = { secrets, staticKey: generateKeyPair(), ephemeralKey: generateKeyPair() };
  assertThrows(() => new ResponderHandshake(request, keys), MalformedMessageError);
});

Deno.test("a request made with another ticket's secret cannot be read", () => {
  const { initiator, bob } = parties();
  const request = handshake(initiator.writeRequest(contentOf("may I?")));
  const secrets = new TicketSecrets({ publicKey: bob.publicKey, secret: new Uint8Array(16) });
  const keys = { secrets, staticKey: bob, ephemeralKey: generateKeyPair() };
  assertThrows(() => new ResponderHandshake(request, keys), MalformedMessageError);
});

Deno.test("isAnswer() accepts the answer to this request, and not that to another", () => {
  const one = requested(contentOf("may I?"));
  const other = requested(contentOf("may I?"));
  const answer = handshake(one.responder.writeAnswer(contentOf("yes")).message);
  assert(one.initiator.isAnswer(answer));
  assert(!other.initiator.isAnswer(answer));
});

Deno.test("a message is decrypted once", () => {
  const { cipher, other } = openSession();
  const message = transport(cipher.encrypt(contentOf("once")));
  other.decrypt(message);
  assertThrows(() => other.decrypt(message), MalformedMessageError);
});

Deno.test("messages may be reordered and lost", () => {
  fc.assert(
    fc.property(fc.shuffledSubarray(Array.from({ length: 100 }, (_, i) => i)), (order) => {
      const { cipher, other } = openSession();
      const messages = Array.from(
        { length: 100 },
        (_, i) => transport(cipher.encrypt(contentOf(`${i}`))),
      );
      for (const index of order) {
        assertEquals(textOf(other.decrypt(messages[index]!)), `${index}`);
      }
      for (const index of order) {
        assertThrows(() => other.decrypt(messages[index]!), MalformedMessageError);
      }
    }),
    { numRuns: 20 },
  );
});

Deno.test("a message that is older than the replay window is not decrypted", () => {
  const { cipher, other } = openSession();
  const old = transport(cipher.encrypt(contentOf("old")));
  for (let i = 0; i < 256; i++) other.decrypt(transport(cipher.encrypt(contentOf("new"))));
  assertThrows(() => other.decrypt(old), MalformedMessageError);
});

Deno.test("a message with a changed bit is not decrypted", () => {
  const { cipher, other } = openSession();
  const message = cipher.encrypt(contentOf("hello"));
  for (let index = 9; index < message.length; index += 5) {
    const changed = message.slice();
    changed[index]! ^= 0x10;
    assertThrows(() => other.decrypt(transport(changed)), MalformedMessageError);
  }
  assertEquals(textOf(other.decrypt(transport(message))), "hello");
});

Deno.test("a side does not decrypt its own messages", () => {
  const { cipher } = openSession();
  const own = transport(cipher.encrypt(contentOf("hello")));
  assertThrows(() => cipher.decrypt(own), MalformedMessageError);
});

function parties() {
  const [alice, bob] = [generateKeyPair(), generateKeyPair()];
  const secrets = new TicketSecrets(ticketOf(bob));
  const keys = { secrets, staticKey: alice, ephemeralKey: generateKeyPair() };
  return { alice, bob, secrets, initiator: new InitiatorHandshake(keys, bob.publicKey) };
}

/** Both sides after the first message. */
function requested(content: Content) {
  const { alice, bob, secrets, initiator } = parties();
  const request = handshake(initiator.writeRequest(content));
  assertEquals(ephemeralKeyOf(request), initiator.ephemeralKey);
  const keys = { secrets, staticKey: bob, ephemeralKey: generateKeyPair() };
  return { alice, bob, initiator, responder: new ResponderHandshake(request, keys) };
}

/** Both sides after the handshake. */
function openSession() {
  const { initiator, responder } = requested(contentOf("may I?"));
  const { message, cipher: other } = responder.writeAnswer(contentOf("yes"));
  return { cipher: initiator.readAnswer(handshake(message)).cipher, other };
}

function ticketOf({ publicKey }: { publicKey: Uint8Array }) {
  return { publicKey, secret: crypto.getRandomValues(new Uint8Array(16)) };
}

function contentOf(text: string): Content {
  return { channel: 3, body: new TextEncoder().encode(text) };
}

function textOf({ body }: Content): string {
  return new TextDecoder().decode(body);
}

function handshake(message: Uint8Array): HandshakeEnvelope {
  return decodeEnvelope(message) as HandshakeEnvelope;
}

function transport(message: Uint8Array): TransportEnvelope {
  return decodeEnvelope(message) as TransportEnvelope;
}
