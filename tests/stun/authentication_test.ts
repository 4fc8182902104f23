import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { NoResponseError, RefusedError } from "../../lib/base/errors.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import { answerChallenge } from "../../lib/stun/transaction.ts";
import { longTermKey, userHash } from "../../lib/stun/credentials.ts";
import { type MessageIntegrity, verifyIntegrity } from "../../lib/stun/integrity.ts";
import { BINDING, getAttribute, type StunMessage } from "../../lib/stun/message.ts";
import type { PasswordAlgorithm } from "../../lib/stun/attribute_tables.ts";
import { at, withHosts } from "./client_hosts.ts";
import {
  type Arrived,
  refusal,
  respond,
  type Script,
  scriptTcp,
  scriptUdp,
  success,
} from "./scripted_server.ts";
import { nonceWithFeatures } from "./nonces.ts";

const CREDENTIAL = { username: "someone", password: "secret" };
const REALM: StunAttribute = { type: "REALM", value: "example.org" };
const KEY = {
  md5: longTermKey(CREDENTIAL, { realm: "example.org", algorithm: "MD5" }),
  sha256: longTermKey(CREDENTIAL, { realm: "example.org", algorithm: "SHA-256" }),
};
const NO_PARAMETERS = new Uint8Array();
const MD5: PasswordAlgorithm = { algorithm: "MD5", parameters: NO_PARAMETERS };
const SHA256: PasswordAlgorithm = { algorithm: "SHA-256", parameters: NO_PARAMETERS };

Deno.test("answerChallenge() answers RFC 5389 with MD5 and MESSAGE-INTEGRITY", () => {
  assertEquals(answerChallenge(challenge("plain"), CREDENTIAL), {
    algorithm: "MD5",
    attributes: [
      { type: "USERNAME", value: "someone" },
      REALM,
      { type: "NONCE", value: "plain" },
    ],
    integrity: { algorithm: "sha1", key: KEY.md5 },
  });
});

Deno.test("answerChallenge() chooses SHA-256 whatever its position, and returns the list", () => {
  const nonce = nonceWithFeatures({ passwordAlgorithms: true, usernameAnonymity: false }, "x");
  const offered = [{ algorithm: 0x7777, parameters: NO_PARAMETERS }, MD5, SHA256];
  assertEquals(answerChallenge(challenge(nonce, offered), CREDENTIAL), {
    algorithm: "SHA-256",
    attributes: [
      { type: "USERNAME", value: "someone" },
      REALM,
      { type: "NONCE", value: nonce },
      { type: "PASSWORD-ALGORITHMS", value: offered },
      { type: "PASSWORD-ALGORITHM", value: SHA256 },
    ],
    integrity: { algorithm: "sha256", key: KEY.sha256 },
  });
});

Deno.test("answerChallenge() uses MD5 with MESSAGE-INTEGRITY-SHA256 if nothing else is offered", () => {
  const nonce = nonceWithFeatures({ passwordAlgorithms: true, usernameAnonymity: false }, "x");
  const { integrity } = answerChallenge(challenge(nonce, [MD5]), CREDENTIAL);
  assertEquals(integrity, { algorithm: "sha256", key: KEY.md5 });
});

Deno.test("answerChallenge() hides the username where the nonce allows it", () => {
  const nonce = nonceWithFeatures({ passwordAlgorithms: false, usernameAnonymity: true }, "x");
  const { attributes } = answerChallenge(challenge(nonce), CREDENTIAL);
  assertEquals(attributes[0], { type: "USERHASH", value: userHash("someone", "example.org") });
});

Deno.test("answerChallenge() ignores PASSWORD-ALGORITHMS that the nonce does not announce", () => {
  for (
    const nonce of [
      "plain",
      nonceWithFeatures({ passwordAlgorithms: false, usernameAnonymity: false }, "x"),
    ]
  ) {
    const { integrity } = answerChallenge(challenge(nonce, [SHA256]), CREDENTIAL);
    assertEquals(integrity, { algorithm: "sha1", key: KEY.md5 });
  }
});

Deno.test("answerChallenge() detects that PASSWORD-ALGORITHMS was removed", () => {
  const nonce = nonceWithFeatures({ passwordAlgorithms: true, usernameAnonymity: false }, "x");
  const error = assertThrows(
    () => answerChallenge(challenge(nonce), CREDENTIAL),
    RefusedError,
    "the nonce announces PASSWORD-ALGORITHMS",
  );
  assertEquals(error.code, 401);
});

Deno.test("answerChallenge() refuses a downgrade from SHA-256", () => {
  const nonce = nonceWithFeatures({ passwordAlgorithms: true, usernameAnonymity: false }, "x");
  const previous = answerChallenge(challenge(nonce, [SHA256]), CREDENTIAL);
  assertThrows(
    () => answerChallenge(challenge("plain"), CREDENTIAL, previous),
    RefusedError,
    "accepted SHA-256 before and now asks for MD5",
  );
  assertThrows(
    () => answerChallenge(challenge(nonce, [MD5]), CREDENTIAL, previous),
    RefusedError,
    "accepted SHA-256 before and now asks for MD5",
  );
});

Deno.test("answerChallenge() refuses a challenge without a realm, a nonce or a known algorithm", () => {
  const cannot = (attributes: StunAttribute[], message: string) =>
    assertThrows(
      () => answerChallenge(errorOf(attributes), CREDENTIAL),
      RefusedError,
      message,
    );
  cannot([REALM], "no REALM or no NONCE");
  cannot([{ type: "NONCE", value: "n" }], "no REALM or no NONCE");
  const nonce = nonceWithFeatures({ passwordAlgorithms: true, usernameAnonymity: false }, "x");
  const offered = [{ algorithm: 3, parameters: NO_PARAMETERS }];
  cannot(
    [REALM, { type: "NONCE", value: nonce }, { type: "PASSWORD-ALGORITHMS", value: offered }],
    "neither SHA-256 nor MD5",
  );
});

for (const [start, transport] of [[scriptUdp, "udp"], [scriptTcp, "tcp"]] as const) {
  Deno.test(`requestBinding() authenticates when challenged, over ${transport}`, async () => {
    await withHosts(async ({ server, ask }) => {
      const integrity: MessageIntegrity = { algorithm: "sha1", key: KEY.md5 };
      using scripted = await start(server.network, at(server, 3478), demand(integrity, "n"));
      const { mapped } = await ask(scripted.address, { transport, credential: CREDENTIAL });
      assertEquals(mapped, scripted.arrived[0]!.from);
      const [first, second] = scripted.arrived;
      assertEquals(first!.request.attributes, []);
      assertEquals(second!.from, first!.from);
    });
  });
}

Deno.test("requestBinding() authenticates with SHA-256", async () => {
  await withHosts(async ({ server, ask }) => {
    const nonce = nonceWithFeatures({ passwordAlgorithms: true, usernameAnonymity: true }, "x");
    const integrity: MessageIntegrity = { algorithm: "sha256", key: KEY.sha256 };
    const script = demand(integrity, nonce, [MD5, SHA256]);
    using scripted = await scriptUdp(server.network, at(server, 3478), script);
    const { mapped, response } = await ask(scripted.address, { credential: CREDENTIAL });
    assertEquals(mapped, scripted.arrived[0]!.from);
    assertEquals(response.attributes.at(-1)?.type, "MESSAGE-INTEGRITY-SHA256");
  });
});

Deno.test("requestBinding() uses a new nonce when its own is stale", async () => {
  await withHosts(async ({ server, ask }) => {
    const integrity: MessageIntegrity = { algorithm: "sha1", key: KEY.md5 };
    const before = demand(integrity, "old");
    const after = demand(integrity, "new", undefined, 438);
    const script: Script = (one) => one.index === 0 ? before(one) : after(one);
    using scripted = await scriptUdp(server.network, at(server, 3478), script);
    await ask(scripted.address, { credential: CREDENTIAL });
    assertEquals(
      scripted.arrived.map(({ request }) => getAttribute(request, "NONCE")),
      [undefined, "old", "new"],
    );
  });
});

Deno.test("requestBinding() gives up when every nonce is stale", async () => {
  await withHosts(async ({ server, ask }) => {
    using scripted = await scriptUdp(
      server.network,
      at(server, 3478),
      (one) => [refusal(one, one.index === 0 ? 401 : 438, [REALM, nonceOf(`n${one.index}`)])],
    );
    const error = await assertRejects(
      () => ask(scripted.address, { credential: CREDENTIAL }),
      RefusedError,
    );
    assertEquals([error.code, scripted.arrived.length], [438, 4]);
  });
});

Deno.test("requestBinding() does not answer a second 401", async () => {
  await withHosts(async ({ server, ask }) => {
    const integrity: MessageIntegrity = { algorithm: "sha1", key: KEY.md5 };
    using scripted = await scriptUdp(server.network, at(server, 3478), demand(integrity, "n"));
    const credential = { ...CREDENTIAL, password: "wrong" };
    const error = await assertRejects(() => ask(scripted.address, { credential }), RefusedError);
    assertEquals([error.code, scripted.arrived.length], [401, 2]);
  });
});

Deno.test("requestBinding() without a credential rejects on a 401", async () => {
  await withHosts(async ({ server, ask }) => {
    const script: Script = (one) => [refusal(one, 401, [REALM, nonceOf("n")])];
    using scripted = await scriptUdp(server.network, at(server, 3478), script);
    const error = await assertRejects(() => ask(scripted.address), RefusedError, "answered 401");
    assertEquals([error.code, scripted.arrived.length], [401, 1]);
  });
});

for (
  const [what, answer] of [
    ["has no integrity", (one: Arrived) => success(one)],
    [
      "has the integrity of another key",
      (one: Arrived) => success(one, { integrity: { algorithm: "sha1", key: KEY.sha256 } }),
    ],
    [
      "has an integrity of the weaker algorithm",
      (one: Arrived) => success(one, { integrity: { algorithm: "sha1", key: KEY.md5 } }),
    ],
  ] as const
) {
  Deno.test(`requestBinding() ignores a response that ${what}`, async () => {
    await withHosts(async ({ server, ask }) => {
      const nonce = nonceWithFeatures({ passwordAlgorithms: true, usernameAnonymity: false }, "x");
      const attributes: StunAttribute[] = [
        REALM,
        nonceOf(nonce),
        { type: "PASSWORD-ALGORITHMS", value: [SHA256] },
      ];
      const script: Script = (one) =>
        one.index === 0 ? [refusal(one, 401, attributes)] : [answer(one)];
      using scripted = await scriptUdp(server.network, at(server, 3478), script);
      await assertRejects(
        () => ask(scripted.address, { credential: CREDENTIAL }),
        NoResponseError,
      );
    });
  });
}

Deno.test("requestBinding() ignores attributes that the integrity does not cover", async () => {
  await withHosts(async ({ server, ask }) => {
    const integrity: MessageIntegrity = { algorithm: "sha1", key: KEY.md5 };
    const appended = Uint8Array.of(0x80, 0x2c, 0, 8, 0, 1, 0, 1, 9, 9, 9, 9);
    const script: Script = (one) => {
      if (one.index === 0) return demand(integrity, "n")(one);
      const bytes = success(one, { integrity });
      const longer = Uint8Array.of(...bytes, ...appended);
      new DataView(longer.buffer).setUint16(2, longer.length - 20);
      return [longer];
    };
    using scripted = await scriptUdp(server.network, at(server, 3478), script);
    const { otherAddress } = await ask(scripted.address, { credential: CREDENTIAL });
    assertEquals(otherAddress, undefined);
  });
});

Deno.test("requestBinding() rejects credentials that RFC 8265 does not allow", async () => {
  await withHosts(async ({ server, ask }) => {
    const script: Script = (one) => [refusal(one, 401, [REALM, nonceOf("n")])];
    using scripted = await scriptUdp(server.network, at(server, 3478), script);
    const credential = { username: "a\u0000b", password: "secret" };
    await assertRejects(() => ask(scripted.address, { credential }), TypeError, "U+0000");
    assertEquals(scripted.arrived, []);
  });
});

function challenge(nonce: string, offered?: readonly PasswordAlgorithm[]): StunMessage {
  const list: StunAttribute[] = offered ? [{ type: "PASSWORD-ALGORITHMS", value: offered }] : [];
  return errorOf([REALM, nonceOf(nonce), ...list]);
}

function errorOf(attributes: readonly StunAttribute[]): StunMessage {
  const errorCode: StunAttribute = { type: "ERROR-CODE", value: { code: 401, reason: "" } };
  return {
    class: "error",
    method: BINDING,
    transactionId: new Uint8Array(12),
    attributes: [errorCode, ...attributes],
  };
}

function nonceOf(value: string): StunAttribute {
  return { type: "NONCE", value };
}

/** Answers requests that are authenticated with this key and nonce, and challenges all others. */
function demand(
  integrity: MessageIntegrity,
  nonce: string,
  offered?: readonly PasswordAlgorithm[],
  code = 401,
): Script {
  return (one) => {
    const { request, bytes } = one;
    const known = getAttribute(request, "NONCE") === nonce &&
      verifyIntegrity(bytes, integrity) === "valid";
    if (known) return [success(one, { integrity })];
    const { attributes } = challenge(nonce, offered);
    return [respond(request, "error", [
      { type: "ERROR-CODE", value: { code, reason: "" } },
      ...attributes.slice(1),
    ])];
  };
}
