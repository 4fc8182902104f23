/**
 * The handshake against published test vectors: every message of both sides, byte for byte.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { toHex } from "../../lib/base/bytes.ts";
import { HandshakeState, type PatternName } from "../../lib/noise/handshake.ts";
import { KeyPair } from "../../lib/noise/handshake.ts";
import {
  HANDSHAKES,
  INITIATOR_EPHEMERAL,
  INITIATOR_STATIC,
  PAYLOADS,
  PSK,
  RESPONDER_EPHEMERAL,
  RESPONDER_STATIC,
  TRANSPORT,
} from "../vectors/noise_handshakes.ts";

Deno.test("HandshakeState matches the vectors of Cacophony and Noise-C", async (t) => {
  for (const { source, pattern, prologue, messages, ...hashes } of HANDSHAKES) {
    await t.step(`${source} ${pattern}`, () => {
      const found = exchange({
        pattern,
        prologue,
        initiatorStatic: INITIATOR_STATIC,
        initiatorEphemeral: INITIATOR_EPHEMERAL,
        responderStatic: RESPONDER_STATIC,
        responderEphemeral: RESPONDER_EPHEMERAL,
        psk: pattern.includes("psk") ? PSK : undefined,
        payloads: PAYLOADS,
        afterwards: "in turns",
      });
      assertEquals(found.messages, [...messages, ...TRANSPORT[pattern]!]);
      const { handshakeHash = found.hashes.at(-1), earlierHash = found.hashes.at(-2) } = hashes;
      assertEquals(found.hashes.slice(-2), [earlierHash, handshakeHash]);
    });
  }
});

Deno.test("HandshakeState matches the vectors of flynn/noise", async (t) => {
  const text = await Deno.readTextFile(new URL("../vectors/noise_flynn.txt", import.meta.url));
  const vectors = text.split("\n\n").filter((block) => block.startsWith("handshake=")).map(parse);
  assertEquals(vectors.length, 204);
  for (const [number, { handshake, messages, ...options }] of vectors.entries()) {
    await t.step(`${number + 1}: ${handshake}`, () => {
      assertEquals(exchange(options).messages, messages);
    });
  }
});

interface Exchange {
  readonly pattern: PatternName;
  readonly prologue: string;
  readonly initiatorStatic?: string;
  readonly initiatorEphemeral: string;
  readonly responderStatic?: string;
  readonly responderEphemeral: string;
  readonly psk?: string;
  readonly payloads: readonly string[];
  /** The first sender after the handshake: the receiver of its last message, or always the initiator. */
  readonly afterwards: "in turns" | "initiator first";
}

/** Sends the payloads in the handshake and after it. Returns the messages on the wire, and the hash after each. */
function exchange(options: Exchange): { messages: string[]; hashes: string[] } {
  const { pattern, payloads } = options;
  const common = {
    pattern,
    prologue: fromHex(options.prologue),
    psks: options.psk === undefined ? [] : [fromHex(options.psk)],
  };
  const initiatorKey = toKeyPair(options.initiatorStatic);
  const responderKey = toKeyPair(options.responderStatic);
  const initiator = new HandshakeState({
    ...common,
    role: "initiator",
    staticKey: initiatorKey,
    ephemeralKey: toKeyPair(options.initiatorEphemeral)!,
    remoteStaticKey: pattern[1] === "K" ? responderKey?.publicKey : undefined,
  });
  const responder = new HandshakeState({
    ...common,
    role: "responder",
    staticKey: responderKey,
    ephemeralKey: toKeyPair(options.responderEphemeral)!,
    remoteStaticKey: pattern[0] === "K" ? initiatorKey?.publicKey : undefined,
  });

  const unsent = [...payloads];
  const messages: string[] = [];
  const hashes: string[] = [];
  let [sender, receiver] = [initiator, responder];
  while (initiator.nextStep !== "split") {
    const payload = unsent.shift()!;
    const message = sender.writeMessage(fromHex(payload));
    messages.push(toHex(message));
    assertEquals(toHex(receiver.readMessage(message)), payload);
    hashes.push(toHex(sender.handshakeHash));
    assertEquals(toHex(receiver.handshakeHash), hashes.at(-1));
    [sender, receiver] = [receiver, sender];
  }
  assertEquals(initiator.remoteStaticKey, pattern[1] === "N" ? undefined : responderKey!.publicKey);
  assertEquals(responder.remoteStaticKey, pattern[0] === "N" ? undefined : initiatorKey!.publicKey);

  if (options.afterwards === "initiator first") [sender, receiver] = [initiator, responder];
  let [from, to] = [sender.split(), receiver.split()];
  for (const payload of unsent) {
    const message = from.send.encryptWithAd(NO_AD, fromHex(payload));
    messages.push(toHex(message));
    assertEquals(toHex(to.receive.decryptWithAd(NO_AD, message)), payload);
    [from, to] = [to, from];
  }
  return { messages, hashes };
}

function parse(block: string): Exchange & { handshake: string; messages: string[] } {
  const fields = new Map(
    block.trim().split("\n").map((line) => line.split("=", 2) as [string, string]),
  );
  const handshake = fields.get("handshake")!;
  const payloads: string[] = [];
  const messages: string[] = [];
  for (let i = 0; fields.has(`msg_${i}_payload`); i++) {
    payloads.push(fields.get(`msg_${i}_payload`)!);
    messages.push(fields.get(`msg_${i}_ciphertext`)!);
  }
  return {
    handshake,
    pattern: handshake.split("_")[1] as PatternName,
    prologue: fields.get("prologue") ?? "",
    initiatorStatic: fields.get("init_static"),
    initiatorEphemeral: fields.get("gen_init_ephemeral")!,
    responderStatic: fields.get("resp_static"),
    responderEphemeral: fields.get("gen_resp_ephemeral")!,
    psk: fields.get("preshared_key"),
    payloads,
    messages,
    afterwards: "initiator first",
  };
}

function toKeyPair(secretKey: string | undefined): KeyPair | undefined {
  return secretKey === undefined ? undefined : new KeyPair(fromHex(secretKey));
}

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
}

const NO_AD = new Uint8Array(0);
