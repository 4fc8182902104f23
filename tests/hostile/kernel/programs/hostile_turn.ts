/**
 * A TURN server as an attacker would program it, at 44.0.0.9, port 3478, over UDP and TCP:
 *
 *     hostile_turn.ts ATTACK
 *
 * It asks for credentials as RFC 8656 says, and trusts whatever comes then. Own sockets and own bytes: nothing of the
 * library is used here.
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { attribute, COOKIE, junk, text } from "./stun_bytes.ts";

const SERVER = "44.0.0.9";
const NEIGHBOUR = "192.168.1.50";
const VICTIM = "44.0.0.66";

const [ALLOCATE, REFRESH, SEND, PERMISSION, BIND] = [3, 4, 6, 8, 9];

interface Asked {
  readonly request: Uint8Array;
  readonly method: number;
  readonly from: { readonly hostname: string; readonly port: number };
  readonly index: number;
  /** Signs a response with the password. */
  sign(bytes: Uint8Array): Uint8Array;
}

type Attack = (asked: Asked) => Iterable<Uint8Array>;

const grantedAt = (ip: string, port: number, lifetime = 600): Attack => (asked) => [
  asked.sign(
    asked.method === ALLOCATE
      ? success(
        asked,
        xor(0x16, ip, port),
        xor(0x20, asked.from.hostname, asked.from.port),
        u32(0x0d, lifetime),
      )
      : success(asked, u32(0x0d, lifetime)),
  ),
];

const honest = grantedAt(SERVER, 50_000);

const ATTACKS: Record<string, Attack> = {
  silent: () => [],
  "challenge without end": (
    asked,
  ) => [challenge(asked, asked.index % 2 ? 438 : 401, `${asked.index}`)],
  "realm of many kilobytes": (asked) => [
    error(
      asked,
      401,
      "x",
      attribute(0x14, new Uint8Array(30_000).fill(97)),
      attribute(0x15, text("n")),
    ),
  ],
  "sends to itself": (asked) => [
    asked.sign(error(asked, 300, "Try", attribute(0x8023, address(SERVER, 3478)))),
  ],
  "sends to a neighbour": (asked) => [
    asked.sign(error(asked, 300, "Try", attribute(0x8023, address(NEIGHBOUR, 6379)))),
  ],
  "sends to loopback": (asked) => [
    asked.sign(error(asked, 300, "Try", attribute(0x8023, address("127.0.0.1", 6379)))),
  ],
  "sends to system ports of a third party": (asked) => [
    asked.sign(error(asked, 300, "Try", attribute(0x8023, address(VICTIM, 25)))),
  ],
  "relayed address is a neighbour": grantedAt(NEIGHBOUR, 9100),
  "relayed address is loopback": grantedAt("127.0.0.1", 6379),
  "relayed address is a third party": grantedAt(VICTIM, 25),
  "lifetime of one second": grantedAt(SERVER, 50_000, 1),
  "lifetime without end": grantedAt(SERVER, 50_000, 0xffffffff),
  "grants and then forgets": (asked) =>
    asked.method === ALLOCATE ? honest(asked) : [asked.sign(error(asked, 437, "Mismatch"))],
  "grants and then falls silent": (asked) => asked.method === ALLOCATE ? honest(asked) : [],
  "refuses everything": (asked) => [asked.sign(error(asked, 403, ESCAPES))],
  "terminal escapes": (asked) => [
    asked.sign(error(asked, 486, ESCAPES, attribute(0x8022, text(ESCAPES)))),
  ],
  "flood of data": function* (asked) {
    yield* honest(asked);
    if (asked.method !== PERMISSION && asked.method !== BIND && asked.method !== REFRESH) return;
    for (let i = 0; i < 20_000; i++) {
      const id = crypto.getRandomValues(new Uint8Array(12));
      yield indication(
        7,
        id,
        xor(0x12, i % 2 ? VICTIM : `44.0.2.${i % 250}`, 1 + i),
        attribute(0x13, junk(1200)),
      );
      yield Uint8Array.of(0x40, i % 256, 0x04, 0xb0, ...junk(1200));
    }
  },
  "flood of connection attempts": function* (asked) {
    yield* honest(asked);
    for (let i = 0; i < 20_000; i++) {
      const id = crypto.getRandomValues(new Uint8Array(12));
      yield indication(0x0c, id, u32(0x2a, i), xor(0x12, VICTIM, 1 + i));
    }
  },
  "flood of answers": function* (asked) {
    for (let i = 0; i < 5000; i++) yield junk(1300);
    for (let i = 0; i < 5000; i++) yield* honest(asked);
  },
};

const ESCAPES = "\u009b2J\u009b31mEVIL\u202egnp.exe\u0007\u007f\u001b[2J\u0085nl\u2028ls";
function u32(type: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return attribute(type, bytes);
}

function address(ip: string, port: number): Uint8Array {
  return Uint8Array.of(0, 1, port >> 8, port & 255, ...ip.split(".").map(Number));
}

function xor(type: number, ip: string, port: number): Uint8Array {
  const value = address(ip, port);
  for (let i = 0; i < 2; i++) value[2 + i]! ^= COOKIE[i]!;
  for (let i = 0; i < 4; i++) value[4 + i]! ^= COOKIE[i]!;
  return attribute(type, value);
}

function message(type: number, id: Uint8Array, attributes: readonly Uint8Array[]): Uint8Array {
  const length = attributes.reduce((sum, each) => sum + each.length, 0);
  const bytes = new Uint8Array(20 + length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, type);
  view.setUint16(2, Math.min(length, 0xffff));
  bytes.set([...COOKIE, ...id], 4);
  let at = 20;
  for (const each of attributes) {
    bytes.set(each, at);
    at += each.length;
  }
  return bytes;
}

function success({ request, method }: Asked, ...attributes: Uint8Array[]): Uint8Array {
  return message(0x0100 | method, request.subarray(8, 20), attributes);
}

function error(asked: Asked, code: number, reason: string, ...more: Uint8Array[]): Uint8Array {
  const value = Uint8Array.of(0, 0, Math.floor(code / 100), code % 100, ...text(reason));
  return message(0x0110 | asked.method, asked.request.subarray(8, 20), [
    attribute(9, value),
    ...more,
  ]);
}

function challenge(asked: Asked, code: number, nonce: string): Uint8Array {
  return error(
    asked,
    code,
    "again",
    attribute(0x14, text(`realm${nonce}`)),
    attribute(0x15, text(nonce)),
  );
}

function indication(method: number, id: Uint8Array, ...attributes: Uint8Array[]): Uint8Array {
  return message(0x0010 | method, id, attributes);
}

// MESSAGE-INTEGRITY takes MD5, which WebCrypto does not have.
const { createHash, createHmac } = await import("node:crypto");
const KEY = createHash("md5").update("someone:realm:secret").digest();

function sign(bytes: Uint8Array): Uint8Array {
  const signed = new Uint8Array(bytes.length + 24);
  signed.set(bytes);
  new DataView(signed.buffer).setUint16(2, signed.length - 20);
  const mac = createHmac("sha1", KEY).update(signed.subarray(0, bytes.length)).digest();
  signed.set(attribute(8, new Uint8Array(mac)), bytes.length);
  return signed;
}

/** Whether a request has MESSAGE-INTEGRITY; those that have not are challenged. */
function isSigned(request: Uint8Array): boolean {
  const view = new DataView(request.buffer, request.byteOffset);
  for (let at = 20; at + 4 <= request.length;) {
    if (view.getUint16(at) === 8) return true;
    at += 4 + Math.ceil(view.getUint16(at + 2) / 4) * 4;
  }
  return false;
}

function* answer(attack: Attack, request: Uint8Array, from: Deno.NetAddr, index: number) {
  const method = (request[0]! & 1) << 8 | request[1]! & 0x0f;
  if (method === SEND || (request[1]! & 0x10) !== 0) return;
  const asked = { request, method, from, index, sign };
  if (isSigned(request)) yield* attack(asked);
  else if (PUBLIC.has(name)) yield* attack(asked);
  else yield challenge(asked, 401, "");
}

async function serveUdp(attack: Attack): Promise<void> {
  const socket = Deno.listenDatagram({ transport: "udp", hostname: SERVER, port: 3478 });
  let index = 0;
  for await (const [request, from] of socket) {
    if (request.length < 20 || request[0]! > 1) continue;
    for (const bytes of answer(attack, request, from as Deno.NetAddr, index++)) {
      await socket.send(bytes, from).catch(() => {});
    }
  }
}

async function serveTcp(attack: Attack): Promise<void> {
  let index = 0;
  const serve = async (connection: Deno.TcpConn) => {
    try {
      const buffer = new Uint8Array(65_536);
      for (let count; (count = await connection.read(buffer) ?? 0) >= 20;) {
        const request = buffer.slice(0, count);
        for (const bytes of answer(attack, request, connection.remoteAddr, index++)) {
          for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
        }
      }
    } catch { // the victim has had enough
    } finally {
      connection.close();
    }
  };
  for await (const connection of Deno.listen({ hostname: SERVER, port: 3478 })) serve(connection);
}

const [name = ""] = Deno.args;
const PUBLIC = new Set(["silent", "challenge without end", "realm of many kilobytes"]);
if (name === "--list") {
  console.log(JSON.stringify(Object.keys(ATTACKS)));
  Deno.exit();
}
const attack = ATTACKS[name];
if (attack === undefined) throw new Error(`Cannot attack: no attack is called ${name}`);
serveUdp(attack);
serveTcp(attack);
console.log("ready");
