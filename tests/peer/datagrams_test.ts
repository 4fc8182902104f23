import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError } from "../../lib/base/errors.ts";
import type { PeerConnection } from "../../lib/peer/connection.ts";
import { DATAGRAM_OVERHEAD, DatagramCipher } from "../../lib/udp/datagram_cipher.ts";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import { inPeerScene } from "../scenes/peer_scene.ts";

const { portRestricted } = NAT_BEHAVIORS;
const dropping = natBehavior({ crossedSyn: "drop" });

for (const [transport, nat] of [["udp", dropping], ["tcp", portRestricted]] as const) {
  Deno.test(`datagrams get through both ways over ${transport}, beside the stream`, () =>
    inPeerScene({ a: nat, b: nat }, async ({ connect }) => {
      await using ends = await connect();
      assertEquals(ends.conn.path.transport, transport);
      await ends.conn.write(toBytes("stream"));
      assertEquals(await readText(ends.other, 6), "stream");
      for (const [from, to] of [[ends.conn, ends.other], [ends.other, ends.conn]] as const) {
        const next = first(to);
        assertEquals(await from.sendDatagram(toBytes("datagram")), true);
        assertEquals(await next, toBytes("datagram"));
      }
    }));

  Deno.test(`a datagram of maxDatagramBytes arrives over ${transport}, and a longer one is refused`, () =>
    inPeerScene({ a: nat, b: nat }, async ({ connect }) => {
      await using ends = await connect();
      await delay(2000);
      const { maxDatagramBytes } = ends.conn;
      assert(maxDatagramBytes >= 1163, `${maxDatagramBytes}`);
      const next = first(ends.other);
      const longest = new Uint8Array(maxDatagramBytes).fill(7);
      assertEquals(await ends.conn.sendDatagram(longest), true);
      assertEquals(await next, longest);
      const longer = new Uint8Array(maxDatagramBytes + 1);
      await assertRejects(() => ends.conn.sendDatagram(longer), RangeError, "at most");
    }));

  Deno.test(`datagrams are dropped under pressure over ${transport}, and the stream is not`, () =>
    inPeerScene({ a: nat, b: nat }, async ({ connect }) => {
      await using ends = await connect();
      const message = new Uint8Array(1000);
      let sent = 0;
      for (let count = 0; count < 2000; count++) {
        if (await ends.conn.sendDatagram(message)) sent++;
      }
      assert(sent > 0 && sent < 2000, `${sent} of 2000`);
      await ends.conn.write(toBytes("stream"));
      assertEquals(await readText(ends.other, 6), "stream");
    }));
}

Deno.test("a side that reads no datagrams keeps a few, and the stream goes on", () =>
  inPeerScene({ a: dropping, b: dropping }, async ({ connect }) => {
    await using ends = await connect();
    for (let count = 0; count < 500; count++) {
      await ends.conn.sendDatagram(Uint8Array.of(count >> 8, count & 255));
      await delay(1);
    }
    await ends.conn.write(toBytes("stream"));
    assertEquals(await readText(ends.other, 6), "stream");
    let kept = 0;
    const reading = (async () => {
      for await (const _ of ends.other.datagrams) kept++;
    })();
    await delay(100);
    assertEquals(kept, 64);
    ends.other.reset();
    await reading;
  }));

Deno.test("a datagram that is longer than any path carries is not kept", () =>
  inPeerScene({ a: portRestricted, b: portRestricted }, async ({ connect }) => {
    await using ends = await connect();
    const next = first(ends.other);
    const hostile = ends.conn as unknown as { sendAsMessage(datagram: Uint8Array): boolean };
    assertEquals(hostile.sendAsMessage(new Uint8Array(1453)), true);
    assertEquals(hostile.sendAsMessage(new Uint8Array(1452).fill(7)), true);
    assertEquals(await next, new Uint8Array(1452).fill(7));
  }));

Deno.test("a connection that has ended sends no datagrams, and ends the iteration", () =>
  inPeerScene({ a: dropping, b: dropping }, async ({ connect }) => {
    await using ends = await connect();
    const messages: Uint8Array[] = [];
    const reading = (async () => {
      for await (const message of ends.other.datagrams) messages.push(message);
    })();
    ends.conn.reset();
    await delay(1);
    await assertRejects(() => ends.conn.sendDatagram(toBytes("late")), NetworkError, "ended");
    await reading;
    assertEquals(messages, []);
  }));

Deno.test("DatagramCipher opens what the other side sealed, in any order, and each message once", () => {
  const [a, b] = pair();
  const sealed = ["one", "two", "three"].map((text) => a.seal(toBytes(text)));
  assertEquals(sealed[0]!.length, 3 + DATAGRAM_OVERHEAD);
  assertEquals(b.open(sealed[2]!), toBytes("three"));
  assertEquals(b.open(sealed[0]!), toBytes("one"));
  assertEquals(b.open(sealed[0]!), undefined, "a replay");
  assertEquals(b.open(sealed[1]!), toBytes("two"));
});

Deno.test("DatagramCipher opens nothing that was changed, cut, sent back, or made with another key", () => {
  const [a, b] = pair();
  const sealed = a.seal(toBytes("message"));
  for (let index = 0; index < sealed.length; index++) {
    const changed = sealed.slice();
    changed[index]! ^= 1;
    assertEquals(b.open(changed), undefined, `byte ${index}`);
  }
  for (let length = 0; length < sealed.length; length++) {
    assertEquals(b.open(sealed.subarray(0, length)), undefined, `${length} bytes`);
  }
  assertEquals(a.open(sealed), undefined);
  assertEquals(b.open(sealed), toBytes("message"), "what was not authentic has moved nothing");
});

Deno.test("DatagramCipher drops a message that more than 256 have overtaken", () => {
  const [a, b] = pair();
  const [old, ...others] = Array.from({ length: 258 }, () => a.seal(new Uint8Array(1)));
  for (const each of others) assert(b.open(each) !== undefined);
  assertEquals(b.open(old!), undefined);
});

Deno.test("DatagramCipher writes the number, then what any implementation of RFC 8439 decrypts", () => {
  const [a] = pair();
  a.seal(new Uint8Array(0));
  const sealed = a.seal(new Uint8Array(0));
  assertEquals(sealed.subarray(0, 6), Uint8Array.of(0, 0, 0, 0, 0, 1));
  assertThrows(() => new DatagramCipher(new Uint8Array(3), KEYS[1]!).seal(new Uint8Array(1)));
});

const KEYS = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)] as const;

function pair(): [DatagramCipher, DatagramCipher] {
  return [new DatagramCipher(KEYS[0], KEYS[1]), new DatagramCipher(KEYS[1], KEYS[0])];
}

async function first(connection: PeerConnection): Promise<Uint8Array | undefined> {
  for await (const message of connection.datagrams) return message;
  return undefined;
}
