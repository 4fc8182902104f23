// A bus that is kept open although whoever carries it does what no server should.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import type { SignalBus } from "../../lib/signal/transport.ts";
import { keepBus } from "../../lib/signal/reconnecting.ts";
import { openBus } from "../../lib/signal/open.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import { simulate } from "../simnet/simulate.ts";
import type { VirtualTime } from "../simnet/virtual_time.ts";
import { never, ScriptedTransport } from "./scripted_transport.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";

Deno.test("a server that lets in only to throw out is asked ever more rarely", () =>
  keep(async ({ transport, time }) => {
    const startedAtMs = time.nowMs;
    while (time.nowMs - startedAtMs < 600_000) {
      transport.bus.lose();
      const { length } = transport.buses;
      while (transport.buses.length === length) await delay(100);
    }
    assert(transport.attempts < 25, `${transport.attempts} times in ten minutes`);
  }));

Deno.test("a bus that has lasted is opened again as soon as the first time", () =>
  keep(async ({ transport, time }) => {
    for (let i = 0; i < 5; i++) {
      await delay(60_000);
      transport.bus.lose();
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
    const opening = openBus(`ws://${host.addresses[0]}:3480`, { network });
    const error = await assertRejects(() => opening, NetworkError, "in 15 s");
    assertEquals(error.reason, "timed-out");
    (await listener.accept()).close();
    assertEquals(time.pendingTimers, 0);
  }));

Deno.test("a server that fell silent while it was away is tried again until it speaks", () =>
  keep(async ({ bus, transport }) => {
    transport.opening = never;
    transport.bus.lose();
    await delay(60_000);
    assert(transport.attempts > 2, `${transport.attempts} attempts`);
    transport.opening = () => Promise.resolve();
    await delay(60_000);
    await bus.publish(TOPIC, toBytes("hello"));
    assertEquals(transport.bus.published, [TOPIC]);
  }));

Deno.test("a topic that is refused when the bus is back is asked for until it is granted", () =>
  keep(async ({ bus, transport }) => {
    const heard: string[] = [];
    await bus.subscribe(TOPIC, (message) => heard.push(toText(message)));
    transport.agree = () => Promise.reject(new RefusedError("Cannot subscribe: full", 503));
    transport.bus.lose();
    await delay(5000);
    transport.agree = () => Promise.resolve();
    await delay(10_000);
    transport.bus.hear(TOPIC, toBytes("hello"));
    assertEquals(heard, ["hello"]);
    assertEquals(transport.buses.length, 2);
  }));

Deno.test("a topic that is refused is not asked for when nobody wants it any more", () =>
  keep(async ({ bus, transport, time }) => {
    const subscription = await bus.subscribe(TOPIC, () => {});
    let asked = 0;
    transport.agree = () => {
      asked++;
      return Promise.reject(new RefusedError("Cannot subscribe: full", 503));
    };
    transport.bus.lose();
    await delay(5000);
    await subscription[Symbol.asyncDispose]();
    const before = asked;
    await delay(60_000);
    assertEquals([asked, time.pendingTimers], [before, 0]);
  }));

Deno.test("who subscribes is told that the server refuses", () =>
  keep(async ({ bus, transport }) => {
    transport.agree = () => Promise.reject(new RefusedError("Cannot subscribe: full", 503));
    await assertRejects(() => bus.subscribe(TOPIC, () => {}), RefusedError);
    transport.agree = () => Promise.resolve();
    await bus.subscribe(TOPIC, () => {}); // anew: the refused one is forgotten
    assertEquals(transport.bus.topics, 1);
  }));

Deno.test("a subscription ends at once when it is given up, although the server says nothing", () =>
  keep(async ({ bus, transport }) => {
    transport.agree = (_, signal) => never(signal);
    const controller = new AbortController();
    const subscribing = bus.subscribe(TOPIC, () => {}, { signal: controller.signal });
    controller.abort(new Error("enough"));
    await assertRejects(() => subscribing, Error, "enough");
    assertEquals(transport.bus.topics, 0);
  }));

Deno.test("who subscribes while another unsubscribes hears everything once, and leaves nothing", () =>
  keep(async ({ bus, transport }) => {
    const first = await bus.subscribe(TOPIC, () => assert(false, "the first heard it"));
    const ending = first[Symbol.asyncDispose]();
    const heard: string[] = [];
    const second = await bus.subscribe(TOPIC, (message) => heard.push(toText(message)));
    await ending;
    transport.bus.hear(TOPIC, toBytes("hello"));
    assertEquals(heard, ["hello"]);
    await second[Symbol.asyncDispose]();
    assertEquals(transport.bus.topics, 0);
  }));

Deno.test("what is no topic, or too long, is refused while the bus is away as well", () =>
  keep(async ({ bus, transport, time }) => {
    transport.opening = never;
    transport.bus.lose();
    await delay(10);
    const startedAtMs = time.nowMs;
    await assertRejects(() => bus.subscribe("kitchen", () => {}), TypeError);
    await assertRejects(() => bus.publish(TOPIC, new Uint8Array(4097)), RangeError);
    assertEquals(time.nowMs, startedAtMs);
  }));

Deno.test("what waits for a bus that is lost as soon as it is back goes by that one or fails", () =>
  keep(async ({ bus, transport }) => {
    transport.bus.lose();
    await delay(10);
    const publishing = bus.publish(TOPIC, toBytes("hello"));
    transport.opening = async () => {
      await Promise.resolve();
      queueMicrotask(() => transport.bus.lose());
    };
    await publishing.catch((error) => assert(error instanceof NetworkError, `${error}`));
  }));

Deno.test("a bus that is closed says that it is closed, not that it is lost", () =>
  keep(async ({ bus }) => {
    await bus[Symbol.asyncDispose]();
    const error = await assertRejects(() => bus.publish(TOPIC, toBytes("hello")), NetworkError);
    assertEquals(error.reason, "closed");
    await assertRejects(() => bus.subscribe(TOPIC, () => {}), NetworkError, "it is closed");
  }));

interface Kept {
  readonly bus: SignalBus;
  readonly transport: ScriptedTransport;
  readonly time: VirtualTime;
}

/** Runs a job with a bus that is kept, in virtual time; no timer may be left. */
function keep(job: (kept: Kept) => Promise<void>): Promise<void> {
  return simulate(async ({ internet, time }) => {
    const { network } = internet.host("a");
    const transport = new ScriptedTransport();
    {
      await using bus = await keepBus(transport, { network });
      await job({ bus, transport, time });
    }
    assertEquals(time.pendingTimers, 0);
  });
}
