// A bus that is kept open although whoever carries it does what no server should.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import { openReconnecting } from "../../lib/signal/reconnecting.ts";
import { openSignaling } from "../../lib/signal/open.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import { simulate } from "../simnet/simulate.ts";
import type { VirtualTime } from "../simnet/virtual_time.ts";
import { never, ScriptedTransport } from "./scripted_transport.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";

Deno.test("a server that lets in only to throw out is asked ever more rarely", () =>
  keep(async ({ transport, time }) => {
    const startedAtMs = time.nowMs;
    while (time.nowMs - startedAtMs < 600_000) {
      transport.signaling.lose();
      const { length } = transport.buses;
      while (transport.buses.length === length) await delay(100);
    }
    assert(transport.attempts < 25, `${transport.attempts} times in ten minutes`);
  }));

Deno.test("a bus that has lasted is opened again as soon as the first time", () =>
  keep(async ({ transport, time }) => {
    for (let i = 0; i < 5; i++) {
      await delay(60_000);
      transport.signaling.lose();
      const lostAtMs = time.nowMs;
      const { length } = transport.buses;
      while (transport.buses.length === length) await delay(10);
      assert(time.nowMs - lostAtMs < 1000, `${time.nowMs - lostAtMs} ms`);
    }
  }));

Deno.test("a server that takes connections and says nothing is given up", () =>
  simulate(async ({ internet, time }) => {
    const host = internet.host("server");
    using listener = await host.network.listenTcp({ ip: host.addresses[0]!, port: 3480 });
    const { network } = internet.host("a");
    const opening = openSignaling(`ws://${host.addresses[0]}:3480`, { network });
    const error = await assertRejects(() => opening, NetworkError, "in 15 s");
    assertEquals(error.reason, "timed-out");
    (await listener.accept()).close();
    assertEquals(time.pendingTimers, 0);
  }));

Deno.test("a server that fell silent while it was away is tried again until it speaks", () =>
  keep(async ({ signaling, transport }) => {
    transport.opening = never;
    transport.signaling.lose();
    await delay(60_000);
    assert(transport.attempts > 2, `${transport.attempts} attempts`);
    transport.opening = () => Promise.resolve();
    await delay(60_000);
    await signaling.publish(TOPIC, toBytes("hello"));
    assertEquals(transport.signaling.published, [TOPIC]);
  }));

Deno.test("a topic that is refused when the bus is back is asked for until it is granted", () =>
  keep(async ({ signaling, transport }) => {
    const heard: string[] = [];
    await signaling.subscribe(TOPIC, (message) => heard.push(toText(message)));
    transport.agree = () => Promise.reject(new RefusedError("Cannot subscribe: full", 503));
    transport.signaling.lose();
    await delay(5000);
    transport.agree = () => Promise.resolve();
    await delay(10_000);
    transport.signaling.hear(TOPIC, toBytes("hello"));
    assertEquals(heard, ["hello"]);
    assertEquals(transport.buses.length, 2);
  }));

Deno.test("a topic that is refused is not asked for when nobody wants it any more", () =>
  keep(async ({ signaling, transport, time }) => {
    const subscription = await signaling.subscribe(TOPIC, () => {});
    let asked = 0;
    transport.agree = () => {
      asked++;
      return Promise.reject(new RefusedError("Cannot subscribe: full", 503));
    };
    transport.signaling.lose();
    await delay(5000);
    await subscription[Symbol.asyncDispose]();
    const before = asked;
    await delay(60_000);
    assertEquals([asked, time.pendingTimers], [before, 0]);
  }));

Deno.test("who subscribes is told that the server refuses", () =>
  keep(async ({ signaling, transport }) => {
    transport.agree = () => Promise.reject(new RefusedError("Cannot subscribe: full", 503));
    await assertRejects(() => signaling.subscribe(TOPIC, () => {}), RefusedError);
    transport.agree = () => Promise.resolve();
    await signaling.subscribe(TOPIC, () => {}); // anew: the refused one is forgotten
    assertEquals(transport.signaling.topics, 1);
  }));

Deno.test("a subscription ends at once when it is given up, although the server says nothing", () =>
  keep(async ({ signaling, transport }) => {
    transport.agree = (_, signal) => never(signal);
    const controller = new AbortController();
    const subscribing = signaling.subscribe(TOPIC, () => {}, { signal: controller.signal });
    controller.abort(new Error("enough"));
    await assertRejects(() => subscribing, Error, "enough");
    assertEquals(transport.signaling.topics, 0);
  }));

Deno.test("who subscribes while another unsubscribes hears everything once, and leaves nothing", () =>
  keep(async ({ signaling, transport }) => {
    const first = await signaling.subscribe(TOPIC, () => assert(false, "the first heard it"));
    const ending = first[Symbol.asyncDispose]();
    const heard: string[] = [];
    const second = await signaling.subscribe(TOPIC, (message) => heard.push(toText(message)));
    await ending;
    transport.signaling.hear(TOPIC, toBytes("hello"));
    assertEquals(heard, ["hello"]);
    await second[Symbol.asyncDispose]();
    assertEquals(transport.signaling.topics, 0);
  }));

Deno.test("what is no topic, or too long, is refused while the bus is away as well", () =>
  keep(async ({ signaling, transport, time }) => {
    transport.opening = never;
    transport.signaling.lose();
    await delay(10);
    const startedAtMs = time.nowMs;
    await assertRejects(() => signaling.subscribe("kitchen", () => {}), TypeError);
    await assertRejects(() => signaling.publish(TOPIC, new Uint8Array(4097)), RangeError);
    assertEquals(time.nowMs, startedAtMs);
  }));

Deno.test("what waits for a bus that is lost as soon as it is back goes by that one or fails", () =>
  keep(async ({ signaling, transport }) => {
    transport.signaling.lose();
    await delay(10);
    const publishing = signaling.publish(TOPIC, toBytes("hello"));
    transport.opening = async () => {
      await Promise.resolve();
      queueMicrotask(() => transport.signaling.lose());
    };
    await publishing.catch((error) => assert(error instanceof NetworkError, `${error}`));
  }));

Deno.test("a bus that is closed says that it is closed, not that it is lost", () =>
  keep(async ({ signaling }) => {
    await signaling[Symbol.asyncDispose]();
    const error = await assertRejects(
      () => signaling.publish(TOPIC, toBytes("hello")),
      NetworkError,
    );
    assertEquals(error.reason, "closed");
    await assertRejects(() => signaling.subscribe(TOPIC, () => {}), NetworkError, "it is closed");
  }));

interface Kept {
  readonly signaling: SignalingConnection;
  readonly transport: ScriptedTransport;
  readonly time: VirtualTime;
}

/** Runs a job with a bus that is kept, in virtual time; no timer may be left. */
function keep(job: (kept: Kept) => Promise<void>): Promise<void> {
  return simulate(async ({ internet, time }) => {
    const { network } = internet.host("a");
    const transport = new ScriptedTransport();
    {
      await using signaling = await openReconnecting(transport, { network });
      await job({ signaling, transport, time });
    }
    assertEquals(time.pendingTimers, 0);
  });
}
