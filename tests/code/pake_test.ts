import { concat, toHex } from "../../lib/base/bytes.ts";
import {
  generatorOf,
  isPakeShare,
  multiply,
  type PakeContext,
  pakeKey,
  pakeShare,
  withLengths,
} from "../../lib/code/pake.ts";
import { assert, assertEquals, assertFalse, assertNotEquals } from "@std/assert";

/** The test vectors of draft-irtf-cfrg-cpace for ristretto255 and SHA-512. */
const VECTOR = {
  password: utf8("Password"),
  channel: bytes("0b415f696e69746961746f720b425f726573706f6e646572"),
  sessionId: bytes("7e4b4791d6a8ef019b936c79fb7f2c57"),
  generator: "222b6b195fe84b1652badb6f6a3ae3d24341e7306967f0b8115b40d5698c7e56",
  initiator: {
    scalar: bytes("da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08"),
    share: "d6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0eec482b9157",
    data: utf8("ADa"),
  },
  responder: {
    scalar: bytes("d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d"),
    share: "3ea7e0b19560d7c0b0f5734f63b955286dfa8232b5ebe63324e2d9e7433f7258",
    data: utf8("ADb"),
  },
  shared: "80b69a8a76457ab6a4d7f887a4bf6b55a2f80ac19c333f917a05fc9887c8b40f",
  key: "b69effbf61b51d56401c0f65601abe428de8206feaaf0e32198896dcae7b35cd" +
    "2b38950a39dfd5d4a79164614c2984f7daa460b588c1e80c3fa2068af7900447",
} as const;

Deno.test("generatorOf() gives the generator of the draft's test vector", () => {
  assertEquals(toHex(generatorOf(VECTOR)), VECTOR.generator);
});

Deno.test("pakeShare() gives the messages of the draft's test vector", () => {
  for (const { scalar, share } of [VECTOR.initiator, VECTOR.responder]) {
    assertEquals(toHex(pakeShare(VECTOR, scalar).share), share);
  }
});

Deno.test("multiply() gives the secret point of the draft's test vector", () => {
  const { initiator, responder } = VECTOR;
  assertEquals(toHex(multiply(initiator.scalar, bytes(responder.share))!), VECTOR.shared);
  assertEquals(toHex(multiply(responder.scalar, bytes(initiator.share))!), VECTOR.shared);
  const scalar = bytes("7cd0e075fa7955ba52c02759a6c90dbbfc10e6d40aea8d283e407d88cf538a05");
  const element = bytes("2c3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c");
  const product = "7c13645fe790a468f62c39beb7388e541d8405d1ade69d1778c5fe3e7f6b600e";
  assertEquals(toHex(multiply(scalar, element)!), product);
});

Deno.test("pakeKey() gives the key of the draft's test vector to both sides", () => {
  const data = { initiator: VECTOR.initiator.data, responder: VECTOR.responder.data };
  for (const role of ["initiator", "responder"] as const) {
    const remote = bytes(VECTOR[role === "initiator" ? "responder" : "initiator"].share);
    const own = { ...pakeShare(VECTOR, VECTOR[role].scalar), role };
    assertEquals(toHex(pakeKey(VECTOR, own, remote, data)!), VECTOR.key);
  }
});

Deno.test("multiply() and pakeKey() reject the draft's invalid elements", () => {
  const invalid = [
    "2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c",
    "0000000000000000000000000000000000000000000000000000000000000000",
  ];
  const own = { ...pakeShare(VECTOR, VECTOR.initiator.scalar), role: "initiator" as const };
  for (const each of [...invalid.map(bytes), new Uint8Array(31), new Uint8Array(33)]) {
    assertEquals(multiply(VECTOR.initiator.scalar, each), undefined);
    assertEquals(pakeKey(VECTOR, own, each), undefined);
    assertFalse(isPakeShare(each));
  }
});

Deno.test("withLengths() gives the test vector of lv_cat", () => {
  const joined = withLengths(utf8("1234"), utf8("5"), utf8(""), utf8("678"));
  assertEquals(toHex(joined), "043132333401350003363738");
  assertEquals(toHex(withLengths(new Uint8Array(128)).subarray(0, 2)), "8001");
});

Deno.test("pakeKey() differs if the password, the channel, the session or the roles differ", () => {
  const key = (context: PakeContext, role: "initiator" | "responder", other = context) => {
    const own = { ...pakeShare(context, VECTOR.initiator.scalar), role };
    return pakeKey(context, own, pakeShare(other, VECTOR.responder.scalar).share)!;
  };
  const right = key(VECTOR, "initiator");
  const changed: PakeContext[] = [
    { ...VECTOR, password: utf8("password") },
    { ...VECTOR, channel: utf8("") },
    { ...VECTOR, sessionId: utf8("") },
  ];
  for (const each of changed) {
    assertNotEquals(key(each, "initiator"), right);
    assertNotEquals(key(VECTOR, "initiator", each), right);
  }
  assertNotEquals(key(VECTOR, "responder"), right);
});

Deno.test("pakeShare() gives another share for other random bytes, all of them valid", () => {
  const shares = new Set<string>();
  for (let i = 0; i < 20; i++) {
    const { share } = pakeShare(VECTOR, crypto.getRandomValues(new Uint8Array(64)));
    assert(isPakeShare(share));
    shares.add(toHex(share));
  }
  assertEquals(shares.size, 20);
  const order = bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
  assert(isPakeShare(pakeShare(VECTOR, concat(order, new Uint8Array(32))).share)); // zero becomes one
});

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

function bytes(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(hex);
}
