import { assert, assertEquals, assertRejects } from "@std/assert";
import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";
import {
  acceptFirst,
  acceptOrReport,
  forEachIncoming,
  type IncomingSource,
} from "../../lib/cli/accept_first.ts";
import type { IncomingConnection } from "../../lib/peer/incoming.ts";
import type { PeerConnection } from "../../lib/peer/connection.ts";
import { RefusedError } from "../../lib/base/errors.ts";
import { inPeerScene } from "../scenes/peer_scene.ts";
import { ScriptedDialer } from "../peer/scripted_dialer.ts";

const accept = (incoming: IncomingConnection, signal: AbortSignal) =>
  acceptOrReport(incoming, () => {}, { signal });

Deno.test("acceptFirst() does not let a peer that goes silent keep the next one waiting", () =>
  inPeerScene({}, async ({ a, b, hub, open, time }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const never = new AbortController();
    const first = acceptFirst(bob, accept, never);
    using mallory = await ScriptedDialer.open(hub, bob.ticket);
    await mallory.request();
    await delay(500);
    const startedAtMs = time.nowMs;
    await using _conn = await alice.connect(bob.ticket);
    await using connection = await first;
    assert(time.nowMs - startedAtMs < 1000, `${time.nowMs - startedAtMs} ms`);
    assert(connection.remoteId === alice.id);
  }));

Deno.test("acceptFirst() does not let dozens of silent peers keep the next one out", () =>
  inPeerScene({}, async ({ a, b, hub, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const first = acceptFirst(bob, accept, new AbortController());
    using crowd = new DisposableStack();
    for (let i = 0; i < 48; i++) {
      const each = crowd.use(await ScriptedDialer.open(hub, bob.ticket));
      await each.request();
      await delay(20);
    }
    await delay(1000);
    await using _conn = await alice.connect(bob.ticket);
    await using connection = await first;
    assertEquals(connection.remoteId, alice.id);
  }));

Deno.test("acceptFirst() accepts nothing after a fault of the program", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const failing = () => Promise.reject(new TypeError("a mistake"));
    const first = assertRejects(
      () => acceptFirst(bob, failing, new AbortController()),
      TypeError,
      "a mistake",
    );
    const never = { signal: AbortSignal.timeout(2000) };
    await Promise.all([first, assertRejects(() => alice.connect(bob.ticket, never))]);
    const next = bob.nextIncoming(never);
    await assertRejects(() => next, DOMException);
  }));

Deno.test("acceptFirst() keeps the first connection, and forEachIncoming() gets the rest", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using carol = await open(a, { listen: false });
    await using bob = await open(b);
    const first = acceptFirst(bob, accept, new AbortController());
    const callers = await Promise.allSettled(
      [alice, carol].map((peer) => peer.connect(bob.ticket)),
    );
    await using connection = await first;
    const over = new AbortController();
    const refusing = forEachIncoming(bob, (incoming) => incoming.refuse("busy"), over);
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

Deno.test("acceptFirst() takes the next connection after a failure, and stops on abort", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    let calls = 0;
    const acceptSecond = async (incoming: IncomingConnection, signal: AbortSignal) => {
      if (++calls > 1) return await accept(incoming, signal);
      incoming.refuse();
      return undefined;
    };
    const first = acceptFirst(bob, acceptSecond, new AbortController());
    await assertRejects(() => alice.connect(bob.ticket), RefusedError);
    await using _conn = await alice.connect(bob.ticket);
    await using _connection = await first;
    await assertRejects(
      () => acceptFirst(bob, accept, { signal: AbortSignal.timeout(100) }),
      DOMException,
      "timed out",
    );
  }));

Deno.test("an abort ends the attempts of acceptFirst(), and none of them is told that it came too late", async () => {
  const interrupted = new AbortController();
  const ended = Promise.withResolvers<unknown>();
  const attempt = (_incoming: IncomingConnection, signal: AbortSignal) => {
    return new Promise<never>((_resolve, reject) => {
      const end = () => {
        ended.resolve(signal.reason);
        reject(signal.reason);
      };
      signal.addEventListener("abort", end, { once: true });
      interrupted.abort(new Error("TERM"));
    });
  };
  const newcomers = [{ remoteId: "a newcomer" } as IncomingConnection];
  const source: IncomingSource = {
    nextIncoming: (options) => {
      const newcomer = newcomers.pop();
      if (newcomer !== undefined) return Promise.resolve(newcomer);
      return abortable(new Promise<never>(() => {}), options!.signal!);
    },
  };
  const turnAway = () => assert(false, "it was turned away");
  const accepting = acceptFirst(source, attempt, { signal: interrupted.signal, turnAway });
  await assertRejects(() => accepting, Error, "TERM");
  assertEquals(await ended.promise, interrupted.signal.reason);
});
