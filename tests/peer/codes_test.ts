import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../../lib/base/errors.ts";
import type { CodeEvent } from "../../lib/code/offer.ts";
import { manualTransport } from "../../lib/signal/manual.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import { inPeerScene } from "../scenes/peer_scene.ts";

Deno.test("a peer connects with a code, whose ticket stays good", () =>
  inPeerScene({}, async ({ a, b, hub, open }) => {
    await using alice = await open(a, { signaling: [hub], listen: false });
    await using bob = await open(b, { signaling: [hub] });
    const events: CodeEvent[] = [];
    await using offer = await bob.offerCode({ onEvent: (event) => events.push(event) });
    assertMatch(offer.code!, /^\d{1,4}(?:-[a-z]{4,6}){3}$/);
    const accepted = (async () => await (await bob.nextIncoming()).accept())();
    await using conn = await alice.connect(` ${offer.code!.toUpperCase().replaceAll("-", " ")}\n`);
    await using other = await accepted;
    await conn.write(toBytes("hello"));
    assertEquals(await readText(other, 5), "hello");
    assertEquals(offer.code, undefined);
    assertEquals(events.map(({ kind }) => kind), ["offered", "spent"]);

    const again = (async () => await (await bob.nextIncoming()).accept())();
    await using second = await alice.connect(bob.ticket);
    await using _other = await again;
    assertEquals(second.remoteId, bob.id);
  }));

Deno.test("redeemCode() gives the ticket that the code was offered for", () =>
  inPeerScene({}, async ({ a, b, hub, open }) => {
    await using alice = await open(a, { signaling: [hub], listen: false });
    await using bob = await open(b, { signaling: [hub] });
    const ticket = bob.createTicket({ once: true });
    await using offer = await bob.offerCode({ ticket });
    const { code } = offer;
    assertEquals(await alice.redeemCode(code!), ticket);
    await assertRejects(() => alice.redeemCode(code!), RefusedError, "used before");
    await assertRejects(() => alice.redeemCode("7"), MalformedMessageError, "3 words");
  }));

Deno.test("a code leads to the peer's own ticket as it is when the code is used", () =>
  inPeerScene({}, async ({ a, b, hub, open }) => {
    await using alice = await open(a, { signaling: [hub], listen: false });
    await using bob = await open(b, { signaling: [hub] });
    await using offer = await bob.offerCode();
    const { ticket } = bob;
    bob.revokeTicket(ticket);
    assertNotEquals(bob.ticket, ticket);
    assertEquals(await alice.redeemCode(offer.code!), bob.ticket);
  }));

Deno.test("a code is withdrawn when its offer is disposed of, or the peer is closed", () =>
  inPeerScene({}, async ({ a, b, hub, open }) => {
    await using alice = await open(a, {
      signaling: [hub],
      listen: false,
      timings: { answerMs: 5000 },
    });
    const bob = await open(b, { signaling: [hub] });
    const offer = await bob.offerCode();
    const code = offer.code!;
    await offer[Symbol.asyncDispose]();
    await assertRejects(() => alice.redeemCode(code), NoResponseError, "no one answers");
    await bob.offerCode();
    await bob.close();
    assertEquals([...hub.subscribers.values()].reduce((sum, each) => sum + each.size, 0), 0);
  }));

Deno.test("offerCode() rejects what makes no sense, and reports that there is no server", () =>
  inPeerScene({}, async ({ a, b, hub, open }) => {
    await using alice = await open(a, { signaling: [hub], listen: false });
    await assertRejects(() => alice.offerCode(), TypeError, "does not listen");
    await using bob = await open(b, { signaling: [hub] });
    for (const expiresMs of [0, -1, NaN]) {
      await assertRejects(() => bob.offerCode({ expiresMs }), RangeError, "expiresMs");
    }
    const manual = manualTransport({ write() {}, lines: nothing() });
    await using carol = await open(b, { signaling: [manual] });
    const error = await assertRejects(() => carol.offerCode(), NetworkError);
    assert(error.message.includes("use the ticket"), error.message);
  }));

async function* nothing(): AsyncGenerator<string> {}
