/**
 * Messages that once broke our decoder, and the shapes that broke those of others.
 *
 * @module
 */

import { concat } from "../../lib/base/bytes.ts";
import { fromHex } from "./stun_hex.ts";

/** Each with what went wrong. */
export const STUN_CORPUS: readonly { readonly what: string; readonly bytes: Uint8Array }[] = [
  {
    what: "32,000 numbers in UNKNOWN-ATTRIBUTES took 2 ms",
    bytes: one("000a", Uint8Array.from({ length: 64_000 }, (_, i) => i)),
  },
  {
    what: "as many attributes as fit, an object for each",
    bytes: message(new Uint8Array(0xfffc)),
  },
  {
    what: "as many algorithms as fit, two objects for each",
    bytes: one("8002", new Uint8Array(0xfff8)),
  },
  {
    what: "the longest text, none of it UTF-8",
    bytes: one("8022", new Uint8Array(764).fill(0xff)),
  },
  {
    what: "an attribute whose padding is beyond the end",
    bytes: message(fromHex("8022 0001 61")),
  },
  {
    what: "an attribute as long as a length can say",
    bytes: message(fromHex("8022 ffff 00000000")),
  },
  {
    what: "an RFC 3489 message that fits neither with padding nor without",
    bytes: concat(fromHex("0101 0005"), new Uint8Array(16), fromHex("c001 0009 61")),
  },
];

function one(code: string, value: Uint8Array): Uint8Array {
  const length = Uint8Array.of(value.length >> 8, value.length);
  return message(concat(fromHex(code), length, value));
}

function message(body: Uint8Array): Uint8Array {
  const length = Uint8Array.of(body.length >> 8, body.length);
  return concat(fromHex("0101"), length, fromHex("2112a442 000102030405060708090a0b"), body);
}
