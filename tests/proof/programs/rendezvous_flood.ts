/**
 * Attacks a rendezvous until a line arrives on stdin, and prints what it has done:
 *
 *     deno run --allow-net rendezvous_flood.ts 127.0.0.1:3480 SOURCES SEED
 *
 * Each source, an address of 127.2.0.0/16, runs four attacks at once: connections that are closed or reset at once; requests
 * whose head never ends; clients that subscribe to as many topics as they can; clients that publish as fast as they can
 * under topics that others of the attackers subscribe to.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { concat } from "../../../lib/base/bytes.ts";
import { writeAll } from "../../../lib/base/reader.ts";
import { parseTransportAddress } from "../../../lib/net/address.ts";
import type { TcpConnection } from "../../../lib/net/network.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import { encodeTopicMessage } from "../../../lib/signal/rendezvous/message.ts";
import { encodeWebSocketFrame } from "../../../lib/signal/websocket/frame.ts";
import { encodeUpgradeRequest } from "../../../lib/signal/websocket/handshake.ts";
import { seededRandom } from "../random.ts";

const [target, sources, seed] = Deno.args;
const to = parseTransportAddress(target!);
const random = seededRandom(Number(seed));
const done = { storms: 0, heads: 0, subscriptions: 0, publishes: 0, refused: 0, unsent: 0 };
let isOver = false;

const attacks = Array.from({ length: Number(sources) }, (_, i) => {
  const ip = `127.2.${i >> 8}.${1 + (i & 0xff)}`;
  return [storm(ip), slowHeads(ip), subscribe(ip), publish(ip)];
}).flat();
print({ started: Number(sources) });
await Deno.stdin.read(new Uint8Array(1));
isOver = true;
await Promise.race([Promise.allSettled(attacks), delay(2000)]);
print({ ...done, over: true });
Deno.exit(0); // the system closes what is left

async function storm(ip: string): Promise<void> {
  await repeat(async () => {
    const connection = await open(ip);
    done.storms++;
    if (random() < 0.5) connection.reset();
    else connection.close();
  });
}

async function slowHeads(ip: string): Promise<void> {
  const held: TcpConnection[] = [];
  await repeat(async () => {
    const connection = await open(ip);
    done.heads++;
    held.push(connection);
    await writeAll(connection, new TextEncoder().encode("GET /topics/1 HTTP/1.1\r\nHost: "));
    if (held.length >= 20) held.shift()!.close();
    await delay(50);
  });
}

async function subscribe(ip: string): Promise<void> {
  const held: TcpConnection[] = [];
  await repeat(async () => {
    const connection = await upgrade(ip);
    held.push(connection);
    if (held.length >= 20) held.shift()!.close();
    for (let i = 0; i < 100; i++) {
      const topic = i < 4 ? sharedTopic(i) : crypto.getRandomValues(new Uint8Array(16));
      await send(connection, encode("subscribe", topic));
      done.subscriptions++;
    }
    drain(connection);
    await delay(200);
  });
}

async function publish(ip: string): Promise<void> {
  await repeat(async () => {
    const connection = await upgrade(ip);
    drain(connection);
    try {
      for (let i = 0; !isOver; i++) {
        await send(connection, encode("publish", sharedTopic(i % 4), new Uint8Array(2000)));
        done.publishes++;
      }
    } finally {
      connection.close();
    }
  });
}

async function repeat(attack: () => Promise<void>): Promise<void> {
  while (!isOver) {
    try {
      await attack();
    } catch (error) {
      if (error instanceof Error && /EMFILE|EADDR/.test(error.message)) done.unsent++; // by our own system
      else done.refused++;
    }
    await delay(1); // others have their turn
  }
}

function open(ip: string): Promise<TcpConnection> {
  return systemNetwork.connectTcp(to, { local: { ip, port: 0 } });
}

async function upgrade(ip: string): Promise<TcpConnection> {
  const connection = await open(ip);
  const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16))));
  try {
    await writeAll(connection, encodeUpgradeRequest(target!, "/topics/1", key));
    if (await connection.read(new Uint8Array(4096)) === null) throw new Error("Refused");
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  }
}

function drain(connection: TcpConnection): void {
  const buffer = new Uint8Array(65_536);
  (async () => {
    while (await connection.read(buffer) !== null);
  })().catch(() => {});
}

async function send(connection: TcpConnection, message: Uint8Array): Promise<void> {
  await writeAll(connection, encodeWebSocketFrame("binary", message, Uint8Array.of(1, 2, 3, 4)));
}

function encode(
  kind: "subscribe" | "publish",
  topic: Uint8Array,
  message: Uint8Array = new Uint8Array(),
): Uint8Array {
  const name = btoa(String.fromCharCode(...topic)).replaceAll("+", "-").replaceAll("/", "_")
    .replaceAll("=", "");
  return kind === "publish"
    ? encodeTopicMessage({ kind, topic: name, message: concat(message) })
    : encodeTopicMessage({ kind, topic: name });
}

function sharedTopic(i: number): Uint8Array {
  return new Uint8Array(16).fill(i + 1);
}

function print(value: object): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(value)}\n`));
}
