import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { HandshakeState } from "../../lib/noise/handshake.ts";
import { KeyPair } from "../../lib/noise/handshake.ts";

Deno.test("exportKey() gives both sides the same key, and a different one for each label", () => {
  const [alice, bob] = completedHandshake();
  const key = alice.exportKey("messages");
  assertEquals(key.length, 32);
  assertEquals(bob.exportKey("messages"), key);
  assertNotEquals(alice.exportKey("connection"), key);
  assertNotEquals(completedHandshake()[0].exportKey("messages"), key);
});

Deno.test("exportKey() does not change the keys of the split", () => {
  const [alice, bob] = completedHandshake();
  alice.exportKey("messages");
  const text = new TextEncoder().encode("hello");
  const sealed = alice.split().send.encryptWithAd(new Uint8Array(0), text);
  assertEquals(bob.split().receive.decryptWithAd(new Uint8Array(0), sealed), text);
});

Deno.test("exportKey() throws before the handshake is complete and after the split", () => {
  const state = new HandshakeState({ pattern: "NN", role: "initiator", ephemeralKey: fresh() });
  assertThrows(() => state.exportKey("messages"), TypeError);
  const [alice] = completedHandshake();
  alice.split();
  assertThrows(() => alice.exportKey("messages"), TypeError);
});

function completedHandshake(): [HandshakeState, HandshakeState] {
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
