import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { HandshakeState } from "../../lib/noise/handshake.ts";
import { KeyPair } from "../../lib/noise/key_pair.ts";

Deno.test("exportKey() gives both sides the same key, and each label another", () => {
  const [alice, bob] = shaken();
  const key = alice.exportKey("messages");
  assertEquals(key.length, 32);
  assertEquals(bob.exportKey("messages"), key);
  assertNotEquals(alice.exportKey("connection"), key);
  assertNotEquals(shaken()[0].exportKey("messages"), key);
});

Deno.test("exportKey() leaves the keys of the split as they are", () => {
  const [alice, bob] = shaken();
  alice.exportKey("messages");
  const text = new TextEncoder().encode("hello");
  const sealed = alice.split().send.encryptWithAd(new Uint8Array(0), text);
  assertEquals(bob.split().receive.decryptWithAd(new Uint8Array(0), sealed), text);
});

Deno.test("exportKey() refuses before the handshake is through, and after the split", () => {
  const state = new HandshakeState({ pattern: "NN", role: "initiator", ephemeralKey: fresh() });
  assertThrows(() => state.exportKey("messages"), TypeError);
  const [alice] = shaken();
  alice.split();
  assertThrows(() => alice.exportKey("messages"), TypeError);
});

function shaken(): [HandshakeState, HandshakeState] {
  const [alice, bob] = (["initiator", "responder"] as const).map((role) =>
    new HandshakeState({ pattern: "NN", role, ephemeralKey: fresh() })
  ) as [HandshakeState, HandshakeState];
  bob.readMessage(alice.writeMessage());
  alice.readMessage(bob.writeMessage());
  return [alice, bob];
}

function fresh(): KeyPair {
  return new KeyPair(crypto.getRandomValues(new Uint8Array(32)));
}
