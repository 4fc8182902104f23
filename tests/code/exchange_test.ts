import { assertEquals, assertNotEquals } from "@std/assert";
import { toHex } from "../../lib/base/bytes.ts";
import type { Code } from "../../lib/code/code.ts";
import {
  codeKeys,
  offererShare,
  openTicket,
  redeemerShare,
  sealTicket,
} from "../../lib/code/exchange.ts";

const CODE: Code = { number: 7, words: ["amber", "walrus", "otter"] };
const ID = Uint8Array.from({ length: 16 }, (_, index) => index);
const SECRET = new Uint8Array(32).fill(1);
const RANDOM = new Uint8Array(64).fill(2);

Deno.test("an exchange with fixed random numbers has these bytes, which are part of the protocol", () => {
  const redeemer = redeemerShare(CODE, ID, RANDOM);
  const offerer = offererShare(CODE, SECRET, { id: ID, share: redeemer.share });
  const keys = codeKeys(ID, { ...redeemer, role: "redeemer" }, offerer.share)!;
  const values = {
    redeemer: toHex(redeemer.share),
    offerer: toHex(offerer.share),
    redeemerTag: toHex(keys.redeemerTag),
    offererTag: toHex(keys.offererTag),
    ticket: toHex(sealTicket(keys, ID, "punchline:AAAA")),
  };
  assertEquals(values, GOLDEN);
});

Deno.test("both sides have the same keys, and the redeemer can open what the offerer has sealed", () => {
  const { redeemer, offerer } = exchange(CODE, CODE, ID);
  assertEquals(redeemer, offerer);
  const ciphertext = sealTicket(offerer, ID, "punchline:AAAA");
  const tag = offerer.offererTag;
  assertEquals(openTicket(redeemer, { id: ID, tag, ciphertext }), "punchline:AAAA");
  const changed = ciphertext.slice();
  changed[0]! ^= 1;
  assertEquals(openTicket(redeemer, { id: ID, tag, ciphertext: changed }), undefined);
  assertEquals(openTicket(redeemer, { id: ID, tag: redeemer.redeemerTag, ciphertext }), undefined);
  const otherId = ID.map((byte) => byte + 1);
  assertEquals(openTicket(redeemer, { id: otherId, tag, ciphertext }), undefined);
});

Deno.test("keys differ if the words, their order, the number or the ID differ", () => {
  const others: [string, Code, Uint8Array][] = [
    ["words", { ...CODE, words: ["amber", "walrus", "tulip"] }, ID],
    ["order", { ...CODE, words: ["walrus", "amber", "otter"] }, ID],
    ["number", { ...CODE, number: 8 }, ID],
    ["ID", CODE, ID.map((byte) => byte + 1)],
  ];
  for (const [what, code, id] of others) {
    const { redeemer, offerer } = exchange(CODE, code, ID, id);
    assertNotEquals(toHex(redeemer.redeemerTag), toHex(offerer.redeemerTag), what);
    assertNotEquals(toHex(redeemer.offererTag), toHex(offerer.offererTag), what);
    assertNotEquals(toHex(redeemer.ticketKey), toHex(offerer.ticketKey), what);
  }
});

Deno.test("an offerer's share is another one for each request, and the same for one that is repeated", () => {
  const { share } = redeemerShare(CODE, ID, RANDOM);
  const of = (id: Uint8Array, each: Uint8Array, secret = SECRET) =>
    toHex(offererShare(CODE, secret, { id, share: each }).share);
  const first = of(ID, share);
  assertEquals(of(ID, share), first);
  assertNotEquals(of(ID.map((byte) => byte + 1), share), first);
  assertNotEquals(of(ID, redeemerShare(CODE, ID).share), first);
  assertNotEquals(of(ID, share, new Uint8Array(32)), first);
});

Deno.test("one side's tag is never the other's, and neither role fits the other", () => {
  const redeemer = redeemerShare(CODE, ID, RANDOM);
  const other = redeemerShare(CODE, ID);
  const a = codeKeys(ID, { ...redeemer, role: "redeemer" }, other.share)!;
  const b = codeKeys(ID, { ...other, role: "redeemer" }, redeemer.share)!;
  assertNotEquals(toHex(a.redeemerTag), toHex(a.offererTag));
  assertNotEquals(toHex(a.redeemerTag), toHex(b.redeemerTag)); // two redeemers share no key
});

function exchange(redeeming: Code, offering: Code, id: Uint8Array, offererId = id) {
  const own = redeemerShare(redeeming, id);
  const other = offererShare(offering, SECRET, { id: offererId, share: own.share });
  return {
    redeemer: codeKeys(id, { ...own, role: "redeemer" }, other.share)!,
    offerer: codeKeys(offererId, { ...other, role: "offerer" }, own.share)!,
  };
}

/** As this implementation computed them first; the key exchange itself is tested with the vectors of its draft. */
const GOLDEN = {
  redeemer: "e08244160be40f2de8d88ff9c4e22a1ad9bffbba42be26c938c148604dced566",
  offerer: "86e12fe79ed1eef7fd30870615a783f4d600090d0105ba285b2e7bad88b3fb5b",
  redeemerTag: "ded6f3dd8c81e4920f8dd035f04874fb0c376cfaf8ad30c4a9da55018fee49a3",
  offererTag: "135cfb833d614b9f3db73d6fc1d4c64c66f1882ef657e6cffc019562b0ee89d9",
  ticket: "33f7cd84acc117b45122c03e7e94402970d7e6ac732a38d4f528cb30cdaa",
};
