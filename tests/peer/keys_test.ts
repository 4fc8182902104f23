import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { toHex } from "../../lib/base/bytes.ts";
import { TicketSecrets } from "../../lib/peer/ticket.ts";
import { generateKeyPair } from "../../lib/noise/handshake.ts";

const HOUR_MS = 3_600_000;
const NOW_MS = 1_790_000_000_000;

Deno.test("TicketSecrets derives the keys, topics and MACs that the protocol specifies", () => {
  const secrets = new TicketSecrets({
    publicKey: new Uint8Array(32).fill(1),
    secret: new Uint8Array(16).fill(2),
  });
  assertEquals(toHex(secrets.presharedKey), GOLDEN.presharedKey);
  assertEquals(secrets.topicAt(NOW_MS), GOLDEN.topic);
  assertEquals(secrets.replyTopic(new Uint8Array(32).fill(3)), GOLDEN.replyTopic);
  assertEquals(toHex(secrets.mac("request", Uint8Array.of(4))), GOLDEN.requestMac);
  assertEquals(toHex(secrets.mac("answer", Uint8Array.of(4))), GOLDEN.answerMac);
});

Deno.test("topics change by the hour, and peers whose clocks differ by an hour share one", () => {
  const secrets = randomSecrets();
  assertNotEquals(secrets.topicAt(NOW_MS), secrets.topicAt(NOW_MS + HOUR_MS));
  for (const skewMs of [-HOUR_MS, -1, 0, 1, HOUR_MS]) {
    assert(secrets.topicsAround(NOW_MS + skewMs).includes(secrets.topicAt(NOW_MS)), `${skewMs}`);
  }
  assertEquals(/^[A-Za-z0-9_-]{22}$/.test(secrets.topicAt(NOW_MS)), true);
});

Deno.test("two tickets share no topic, nor do two sessions", () => {
  const [one, other] = [randomSecrets(), randomSecrets()];
  assertNotEquals(one.topicAt(NOW_MS), other.topicAt(NOW_MS));
  const [a, b] = [generateKeyPair().publicKey, generateKeyPair().publicKey];
  assertNotEquals(one.replyTopic(a), one.replyTopic(b));
});

function randomSecrets(): TicketSecrets {
  const { publicKey } = generateKeyPair();
  return new TicketSecrets({ publicKey, secret: crypto.getRandomValues(new Uint8Array(16)) });
}

/** Computed by Python's hmac and hashlib. */
const GOLDEN = {
  presharedKey: "1d3816e79d2468030b1f0490190fdeb441f386d892c945ad1426275e76982c67",
  topic: "35xBimNOa6hA1kXr3mp-Qw",
  replyTopic: "ijQerKJf8Dw3SDKYGpdRJg",
  requestMac: "efcadc883e7c4e0f0c4e95cd6ff6ca59",
  answerMac: "79fba050b72ba1aeefb64865ecd7c864",
};
