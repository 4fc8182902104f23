// Connections that stay unused for a day, in virtual time.

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import { inPeerScene } from "../scenes/peer_scene.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";

const DAY_MS = 86_400_000;
const limitMs = DAY_MS + 600_000;

for (
  const [what, tcpEstablishedTimeoutMs] of [["the two hours of RFC 5382", 7_440_000], [
    "five minutes",
    300_000,
  ]] as const
) {
  const nat = natBehavior({ tcpEstablishedTimeoutMs }, NAT_BEHAVIORS.portRestricted);

  Deno.test(`a connection through NATs that forget after ${what} goes on after 24 h without a byte`, () =>
    inPeerScene({ a: nat, b: nat, limitMs }, async ({ connect, time }) => {
      await using ends = await connect();
      const { conn, other } = ends;
      await conn.write(toBytes("before"));
      assertEquals(await readText(other, 6), "before");
      const idleSinceMs = time.nowMs;
      await delay(DAY_MS);
      assert(time.nowMs - idleSinceMs >= DAY_MS);
      const askedAtMs = time.nowMs;
      await conn.write(toBytes("after"));
      assertEquals(await readText(other, 5), "after");
      await other.write(toBytes("back"));
      assertEquals(await readText(conn, 4), "back");
      assert(time.nowMs - askedAtMs < 1000, `${time.nowMs - askedAtMs} ms`);
    }));
}

Deno.test("a listener is found after 24 h in which no one asked for it", () =>
  inPeerScene({ limitMs }, async ({ a, b, open }) => {
    await using bob = await open(b);
    await delay(DAY_MS);
    await using alice = await open(a, { listen: false });
    const accepted = bob.nextIncoming().then((incoming) => incoming.accept());
    await using conn = await alice.connect(bob.ticket);
    await using other = await accepted;
    await conn.write(toBytes("hello"));
    assertEquals(await readText(other, 5), "hello");
  }));
