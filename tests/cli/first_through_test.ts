import { assert, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { firstThrough, refuseOthers } from "../../lib/cli/first_through.ts";
import type { IncomingConnection } from "../../lib/connect/incoming.ts";
import type { PeerConnection } from "../../lib/connect/peer_connection.ts";
import { RefusedError } from "../../lib/errors.ts";
import { atPlace } from "../connect/place.ts";
import { ScriptedDialer } from "../connect/scripted_dialer.ts";

const accept = (incoming: IncomingConnection, signal: AbortSignal) => incoming.accept({ signal });

Deno.test("who comes and says no more does not keep the next one waiting", () =>
  atPlace({}, async ({ a, b, hub, open, time }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const never = new AbortController();
    const first = firstThrough(bob, accept, never);
    using _mallory = await ScriptedDialer.open(hub, bob.ticket);
    await delay(500);
    const startedAtMs = time.nowMs;
    await using _conn = await alice.connect(bob.ticket);
    await using connection = await first;
    assert(time.nowMs - startedAtMs < 1000, `${time.nowMs - startedAtMs} ms`);
    assert(connection.remoteId === alice.id);
  }));

Deno.test("who is through first is the one, and others hear that they are not", () =>
  atPlace({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using carol = await open(a, { listen: false });
    await using bob = await open(b);
    const first = firstThrough(bob, accept, new AbortController());
    const callers = await Promise.allSettled(
      [alice, carol].map((peer) => peer.connect(bob.ticket)),
    );
    await using connection = await first;
    const over = new AbortController();
    const refusing = refuseOthers(bob, over);
    const through = callers.filter(({ status }) => status === "fulfilled");
    assert(through.length >= 1);
    await assertRejects(() => alice.connect(bob.ticket), RefusedError, "busy");
    connection.reset();
    for (const { value } of through as PromiseFulfilledResult<PeerConnection>[]) {
      value.reset();
      await value[Symbol.asyncDispose]();
    }
    over.abort();
    await refusing;
  }));

Deno.test("a failure lets the next one in, and where nobody comes the signal ends it", () =>
  atPlace({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    let calls = 0;
    const acceptSecond = async (incoming: IncomingConnection, signal: AbortSignal) => {
      if (++calls > 1) return await accept(incoming, signal);
      incoming.refuse();
      return undefined;
    };
    const first = firstThrough(bob, acceptSecond, new AbortController());
    await assertRejects(() => alice.connect(bob.ticket), RefusedError);
    await using _conn = await alice.connect(bob.ticket);
    await using _connection = await first;
    await assertRejects(
      () => firstThrough(bob, accept, { signal: AbortSignal.timeout(100) }),
      DOMException,
      "timed out",
    );
  }));
