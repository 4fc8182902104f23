import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { toHex } from "../../lib/base/bytes.ts";
import { ChaChaPolySealer } from "../../lib/base/crypto.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { CipherState, Nonce, rekeyNonce } from "../../lib/noise/symmetric_state.ts";
import { KeyPair } from "../../lib/noise/handshake.ts";
import { RecordCipher, REKEY_INTERVAL } from "../../lib/noise/record.ts";

Deno.test("Nonce is 32 zero bits followed by a little-endian counter", () => {
  const nonce = new Nonce(0xfffen);
  assertEquals(toHex(nonce.bytes), "00000000feff000000000000");
  nonce.increment();
  nonce.increment();
  assertEquals(toHex(nonce.bytes), "000000000000010000000000");
});

Deno.test("Nonce stops before 2^64-1, which is reserved for rekeying", () => {
  const nonce = new Nonce(2n ** 64n - 2n);
  assertEquals(toHex(nonce.bytes), "00000000feffffffffffffff");
  nonce.increment();
  assertEquals(nonce.isSpent, true);
  assertThrows(() => nonce.bytes, RangeError, "nonces are spent");
  assertThrows(() => nonce.increment(), RangeError, "nonces are spent");
  assertEquals(toHex(rekeyNonce()), "00000000ffffffffffffffff");
});

Deno.test("CipherState encrypts equal messages to different ciphertexts", () => {
  const state = cipherState();
  const message = Uint8Array.of(1, 2, 3);
  assertNotEquals(state.encryptWithAd(NO_AD, message), state.encryptWithAd(NO_AD, message));
});

Deno.test("CipherState does not advance its nonce after a message that is not authentic", () => {
  const [sender, receiver] = [cipherState(), cipherState()];
  const sealed = sender.encryptWithAd(NO_AD, Uint8Array.of(1, 2, 3));
  const changed = sealed.with(0, sealed[0]! ^ 1);
  for (let i = 0; i < 3; i++) {
    assertThrows(() => receiver.decryptWithAd(NO_AD, changed), MalformedMessageError);
  }
  assertEquals([...receiver.decryptWithAd(NO_AD, sealed)], [1, 2, 3]);
});

Deno.test("CipherState authenticates the associated data", () => {
  const sealed = cipherState().encryptWithAd(Uint8Array.of(1), Uint8Array.of(1, 2, 3));
  assertThrows(() => cipherState().decryptWithAd(Uint8Array.of(2), sealed), MalformedMessageError);
});

Deno.test("CipherState rejects a ciphertext too short for its tag", () => {
  for (let length = 0; length < 16; length++) {
    assertThrows(
      () => cipherState().decryptWithAd(NO_AD, new Uint8Array(length)),
      MalformedMessageError,
    );
  }
});

Deno.test("CipherState uses the current key and nonce for messages of any length", () => {
  const [sender, receiver] = [cipherState(), cipherState()];
  const key = new Uint8Array(32);
  [1, 256, 257, 3, 70_000, 0].forEach((length, i) => {
    if (i === 3) {
      for (const state of [sender, receiver]) state.rekey();
      const next = new ChaChaPolySealer(key, rekeyNonce());
      key.set(next.seal(NO_AD, new Uint8Array(32), new Uint8Array(48)).subarray(0, 32));
    }
    const message = new Uint8Array(length).fill(i);
    const sealed = sender.encryptWithAd(NO_AD, message);
    const expected = new ChaChaPolySealer(key, new Nonce(BigInt(i)).bytes);
    assertEquals(sealed, expected.seal(NO_AD, message, new Uint8Array(length + 16)));
    assertEquals(receiver.decryptWithAd(NO_AD, sealed), message);
  });
});

Deno.test("CipherState never uses a nonce again, even after a failure to write", () => {
  const state = cipherState();
  const tooSmall = new Uint8Array(8);
  assertThrows(() => state.encryptInto(tooSmall, 0, NO_AD, new Uint8Array(300)), RangeError);
  const expected = new ChaChaPolySealer(new Uint8Array(32), new Nonce(1n).bytes);
  const message = Uint8Array.of(1);
  assertEquals(
    state.encryptWithAd(NO_AD, message),
    expected.seal(NO_AD, message, new Uint8Array(17)),
  );
});

Deno.test("CipherState.rekey() encrypts 32 zeros with the nonce 2^64-1 (§4.2)", () => {
  const state = cipherState();
  state.rekey();
  const sealer = new ChaChaPolySealer(new Uint8Array(32), rekeyNonce());
  const sealed = sealer.seal(NO_AD, new Uint8Array(32), new Uint8Array(48));
  const next = new CipherState(sealed.slice(0, 32) as Uint8Array<ArrayBuffer>);
  const message = Uint8Array.of(1, 2, 3);
  assertEquals(state.encryptWithAd(NO_AD, message), next.encryptWithAd(NO_AD, message));
});

Deno.test("CipherState.destroy() zeroes the key and makes all calls fail", () => {
  const key = new Uint8Array(32).fill(7);
  const state = new CipherState(key);
  state.encryptWithAd(NO_AD, NO_AD);
  state.destroy();
  state.destroy();
  assertEquals(key, new Uint8Array(32));
  assertThrows(() => state.encryptWithAd(NO_AD, NO_AD), TypeError, "destroyed");
  assertThrows(() => state.decryptWithAd(NO_AD, new Uint8Array(16)), TypeError, "destroyed");
  assertThrows(() => state.rekey(), TypeError, "destroyed");
});

Deno.test("RecordCipher rekeys after every interval, on both sides", () => {
  const [sender, receiver] = [new RecordCipher(cipherState()), new RecordCipher(cipherState())];
  const withoutRekey = cipherState();
  const record = new Uint8Array(64);
  for (let i = 0; i < 2 * REKEY_INTERVAL + 2; i++) {
    const sealed = record.slice(2, sender.encrypt(Uint8Array.of(i), record));
    assertEquals([...receiver.decrypt(sealed.slice())], [i & 0xff]);
    if (i < REKEY_INTERVAL) withoutRekey.decryptWithAd(NO_AD, sealed);
    else assertThrows(() => withoutRekey.decryptWithAd(NO_AD, sealed), MalformedMessageError);
  }
});

Deno.test("KeyPair.dh() computes the shared secret of RFC 7748 §6.1", () => {
  using bob = new KeyPair(
    fromHex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"),
  );
  assertEquals(
    toHex(bob.publicKey),
    "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
  );
  assertEquals(
    toHex(bob.dh(fromHex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"))),
    "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
  );
});

Deno.test("KeyPair.dh() rejects public keys of low order", () => {
  using keyPair = new KeyPair(new Uint8Array(32).fill(0x42));
  const lowOrder = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  ];
  for (const key of lowOrder) {
    assertThrows(() => keyPair.dh(fromHex(key)), MalformedMessageError, "low order");
  }
});

Deno.test("KeyPair takes exactly 32 bytes, copies them and erases them when disposed", () => {
  assertThrows(() => new KeyPair(new Uint8Array(31)), TypeError, "31 bytes, not 32");
  const secretKey = new Uint8Array(32).fill(0x42);
  const keyPair = new KeyPair(secretKey);
  const shared = keyPair.dh(keyPair.publicKey);
  secretKey.fill(0);
  assertEquals(keyPair.dh(keyPair.publicKey), shared);
  keyPair[Symbol.dispose]();
  assertThrows(() => keyPair.dh(keyPair.publicKey), TypeError, "destroyed");
});

function cipherState(): CipherState {
  return new CipherState(new Uint8Array(32));
}

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
}

const NO_AD = new Uint8Array(0);
