import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { generateKeyPair } from "../../lib/noise/handshake.ts";
import {
  type HandshakeOptions,
  HandshakeState,
  parsePattern,
  type PatternName,
} from "../../lib/noise/handshake.ts";

Deno.test("parsePattern() puts pre-shared keys in their places", () => {
  assertEquals(parsePattern("XXpsk0+psk3").messages, [
    ["psk", "e"],
    ["e", "ee", "s", "es"],
    ["s", "se", "psk"],
  ]);
  assertEquals(parsePattern("KK").preMessages, ["initiator", "responder"]);
});

Deno.test("parsePattern() rejects unknown names", () => {
  for (
    const name of ["", "N", "QQ", "XXX", "NNpsk3", "NNpsk", "NNpsk0+psk0", "NN psk0", "toString"]
  ) {
    assertThrows(() => parsePattern(name as PatternName), TypeError, "is unknown");
  }
});

Deno.test("HandshakeState takes exactly the keys that its pattern needs", () => {
  const [staticKey, remoteStaticKey] = [generateKeyPair(), generateKeyPair().publicKey];
  const missing: [string, Partial<HandshakeOptions>][] = [
    ["needs a static key", { pattern: "IK", remoteStaticKey }],
    ["needs a static key", { pattern: "XX" }],
    ["needs a static key", { pattern: "NK", role: "responder" }],
    ["needs the other side's static key", { pattern: "NK" }],
    ["takes no remote static key", { pattern: "XX", staticKey, remoteStaticKey }],
    ["takes 1 pre-shared keys, not 0", { pattern: "NNpsk0" }],
    ["takes 0 pre-shared keys, not 1", { pattern: "NN", psks: [new Uint8Array(32)] }],
    ["31 bytes, not 32", { pattern: "NNpsk0", psks: [new Uint8Array(31)] }],
    ["33 bytes, not 32", { pattern: "NK", remoteStaticKey: new Uint8Array(33) }],
  ];
  for (const [message, options] of missing) {
    const all = { pattern: "NN", role: "initiator", ephemeralKey: generateKeyPair() } as const;
    assertThrows(() => new HandshakeState({ ...all, ...options }), TypeError, message);
  }
});

Deno.test("HandshakeState throws when it is called out of turn", () => {
  const { initiator, responder } = pair("NN");
  assertThrows(() => responder.writeMessage(), TypeError, "next step is read");
  assertThrows(() => initiator.readMessage(new Uint8Array(32)), TypeError, "next step is write");
  assertThrows(() => initiator.split(), TypeError, "next step is write");
  shakeHands(initiator, responder);
  assertThrows(() => initiator.writeMessage(), TypeError, "next step is split");
  initiator.split();
  assertThrows(() => initiator.split(), TypeError, "next step is nothing");
});

Deno.test("HandshakeState has a different hash in every handshake", () => {
  const [one, other] = [pair("NN"), pair("NN")];
  shakeHands(one.initiator, one.responder);
  shakeHands(other.initiator, other.responder);
  assertEquals(one.initiator.handshakeHash, one.responder.handshakeHash);
  assertNotEquals(one.initiator.handshakeHash, other.initiator.handshakeHash);
});

Deno.test("HandshakeState fails if the prologue, a pre-shared key or a static key differs", () => {
  const wrong: [PatternName, Partial<HandshakeOptions>][] = [
    ["NN", { prologue: Uint8Array.of(1) }],
    ["NNpsk0", { psks: [new Uint8Array(32).fill(1)] }],
    ["NK", { staticKey: generateKeyPair() }],
    ["IK", { staticKey: generateKeyPair() }],
    ["KK", { remoteStaticKey: generateKeyPair().publicKey }],
  ];
  for (const [pattern, options] of wrong) {
    const { initiator, responder } = pair(pattern, options);
    assertThrows(() => shakeHands(initiator, responder), MalformedMessageError, "not authentic");
  }
});

Deno.test("HandshakeState rejects an ephemeral key of low order", () => {
  const { responder } = pair("NN");
  responder.readMessage(new Uint8Array(32));
  assertThrows(() => responder.writeMessage(), MalformedMessageError, "low order");
  assertEquals(responder.nextStep, "nothing");
});

Deno.test("HandshakeState ends after a failure, and destroys its ephemeral key", () => {
  const ephemeralKey = generateKeyPair();
  const state = new HandshakeState({ pattern: "NN", role: "initiator", ephemeralKey });
  state.writeMessage();
  assertThrows(() => state.readMessage(new Uint8Array(31)), MalformedMessageError, "e needs 32");
  assertThrows(() => state.readMessage(new Uint8Array(48)), TypeError, "next step is nothing");
  assertThrows(() => ephemeralKey.dh(ephemeralKey.publicKey), TypeError, "destroyed");
});

Deno.test("HandshakeState cannot use the ephemeral key of an earlier handshake", () => {
  const ephemeralKey = generateKeyPair();
  const { responder } = pair("NN");
  const first = new HandshakeState({ pattern: "NN", role: "initiator", ephemeralKey });
  shakeHands(first, responder);
  first.split();
  const again = new HandshakeState({ pattern: "NN", role: "initiator", ephemeralKey });
  assertThrows(() => shakeHands(again, pair("NN").responder), TypeError, "destroyed");
});

Deno.test("HandshakeState refuses to write a message over 65,535 bytes", () => {
  assertEquals(pair("NN").initiator.writeMessage(new Uint8Array(65_503)).length, 65_535);
  const { initiator } = pair("NN");
  assertThrows(() => initiator.writeMessage(new Uint8Array(65_504)), RangeError, "65536 bytes");
});

Deno.test("HandshakeState.readMessage() throws nothing but MalformedMessageError, whatever it reads", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...PATTERNS),
      fc.uint8Array({ maxLength: 200 }),
      (pattern, bytes) => {
        const { responder } = pair(pattern);
        try {
          responder.readMessage(bytes);
        } catch (error) {
          assert(error instanceof MalformedMessageError, `${error}`);
        }
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("a handshake fails if a message is modified, truncated or extended", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...PATTERNS),
      fc.nat(2),
      fc.nat(),
      fc.constantFrom("flip", "cut", "lengthen"),
      (pattern, at, position, how) => {
        const { initiator, responder } = pair(pattern);
        const which = at % parsePattern(pattern).messages.length;
        const change = (message: Uint8Array, index: number) => {
          if (index !== which) return message;
          const offset = position % message.length;
          if (how === "cut") return message.subarray(0, offset);
          if (how === "lengthen") return Uint8Array.of(...message, 0);
          return message.with(offset, message[offset]! ^ (1 << position % 8));
        };
        assertThrows(
          () => {
            shakeHands(initiator, responder, change);
            // A change to the unauthenticated part of the last message shows in the keys.
            const sealed = initiator.split().send.encryptWithAd(NO_AD, NO_AD);
            responder.split().receive.decryptWithAd(NO_AD, sealed);
          },
          MalformedMessageError,
        );
      },
    ),
    { numRuns: 400 },
  );
});

/** Both sides of a handshake. The options override the responder's. */
function pair(
  pattern: PatternName,
  options: Partial<HandshakeOptions> = {},
): { initiator: HandshakeState; responder: HandshakeState } {
  const [initiatorKey, responderKey] = [generateKeyPair(), generateKeyPair()];
  const psks = pattern.includes("psk") ? [new Uint8Array(32)] : [];
  const initiator = new HandshakeState({
    pattern,
    role: "initiator",
    psks,
    ephemeralKey: generateKeyPair(),
    staticKey: pattern[0] === "N" ? undefined : initiatorKey,
    remoteStaticKey: pattern[1] === "K" ? responderKey.publicKey : undefined,
  });
  const responder = new HandshakeState({
    pattern,
    role: "responder",
    psks,
    ephemeralKey: generateKeyPair(),
    staticKey: pattern[1] === "N" ? undefined : responderKey,
    remoteStaticKey: pattern[0] === "K" ? initiatorKey.publicKey : undefined,
    ...options,
  });
  return { initiator, responder };
}

function shakeHands(
  initiator: HandshakeState,
  responder: HandshakeState,
  change = (message: Uint8Array, _index: number): Uint8Array => message,
): void {
  let [from, to] = [initiator, responder];
  for (let index = 0; from.nextStep === "write"; index++) {
    to.readMessage(change(from.writeMessage(Uint8Array.of(index, 1, 2)), index));
    [from, to] = [to, from];
  }
}

const PATTERNS: readonly PatternName[] = [
  "NN",
  "NK",
  "KK",
  "IK",
  "XX",
  "IX",
  "XK",
  "NNpsk0",
  "IKpsk2",
];
const NO_AD = new Uint8Array(0);
