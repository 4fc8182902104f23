/**
 * Certificates that a program makes for itself, without `openssl`: what two peers would need for TLS.
 *
 * @module
 */

import { concat } from "../lib/base/bytes.ts";
import { generateKeyPairSync, sign } from "node:crypto";

/** A certificate and its key, both PEM. */
export interface Identity {
  readonly cert: string;
  readonly key: string;
}

/** Makes a P-256 key and a certificate for it (RFC 5280 §4.1), which the key itself has signed. Valid for a day. */
export function makeIdentity(name: string): Identity {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const serial = crypto.getRandomValues(new Uint8Array(8));
  serial[0] = serial[0]! & 0x3f | 0x40; // positive, and without leading zeros
  const subject = sequence(element(SET, sequence(COMMON_NAME, element(UTF8_STRING, text(name)))));
  const validity = sequence(utcTime(Date.now() - DAY_MS), utcTime(Date.now() + DAY_MS));
  const names = sequence(element(DNS_NAME, text(name)));
  const signed = sequence(
    element(EXPLICIT_0, element(INTEGER, Uint8Array.of(2))), // version 3
    element(INTEGER, serial),
    ECDSA_WITH_SHA256,
    subject, // the issuer
    validity,
    subject,
    publicKey.export({ format: "der", type: "spki" }),
    element(EXPLICIT_3, sequence(sequence(SUBJECT_ALT_NAME, element(OCTET_STRING, names)))),
  );
  const signature = element(BIT_STRING, Uint8Array.of(0), sign("sha256", signed, privateKey));
  const base64 = sequence(signed, ECDSA_WITH_SHA256, signature).toBase64();
  const lines = base64.match(/.{1,64}/g)!.join("\n");
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ format: "pem", type: "pkcs8" }).toString(),
  };
}

function sequence(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  return element(SEQUENCE, ...parts);
}

/** An element in DER (X.690 §8.1), of less than 64 KiB. */
function element(tag: number, ...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const { length } = concat(...parts);
  const header = length < 0x80
    ? [tag, length]
    : length < 0x100
    ? [tag, 0x81, length]
    : [tag, 0x82, length >> 8, length & 0xff];
  return concat(Uint8Array.from(header), ...parts);
}

function utcTime(ms: number): Uint8Array {
  const digits = new Date(ms).toISOString().replace(/\.\d+|[-:T]/g, "");
  return element(UTC_TIME, text(digits.slice(2)));
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

const DAY_MS = 86_400_000;

const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_IDENTIFIER = 0x06;
const UTF8_STRING = 0x0c;
const UTC_TIME = 0x17;
const SEQUENCE = 0x30;
const SET = 0x31;
const DNS_NAME = 0x82;
const EXPLICIT_0 = 0xa0;
const EXPLICIT_3 = 0xa3;

/** 2.5.4.3 */
const COMMON_NAME = element(OBJECT_IDENTIFIER, Uint8Array.of(0x55, 0x04, 0x03));
/** 2.5.29.17 */
const SUBJECT_ALT_NAME = element(OBJECT_IDENTIFIER, Uint8Array.of(0x55, 0x1d, 0x11));
/** 1.2.840.10045.4.3.2 */
const ECDSA_WITH_SHA256 = sequence(
  element(OBJECT_IDENTIFIER, Uint8Array.of(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02)),
);
