// A reconnecting connection whose server does what no server should.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import { openReconnecting } from "../../lib/signal/open.ts";
import { openSignaling } from "../../lib/signal/open.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import { simulate } from "../simnet/simulate.ts";
import type { VirtualTime } from "../simnet/virtual_time.ts";
import { never, ScriptedTransport } from "./scripted_transport.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";

Deno.test("a server that accepts clients only to drop them is tried less and less often", () =>
  withConnection(async ({ transport, time }) => {
    const startedAtMs = time.nowMs;
    while (time.nowMs - startedAtMs < 600_000) {
      transport.signaling.lose();
      const { length } = transport.connections;
      while (transport.connections.length === length) await delay(100);
    }
    assert(transport.attempts < 25, `${transport.attempts} times in ten minutes`);
  }));

Deno.test("a connection that has lasted is opened again as soon as the first time", () =>
  withConnection(async ({ transport, time }) => {
    for (let i = 0; i < 5; i++) {
      await delay(60_000);
      transport.signaling.lose();
      const lostAtMs = time.nowMs;
      const { length } = transport.connections;
      while (transport.connections.length === length) await delay(10);
      assert(time.nowMs - lostAtMs < 1000, `${time.nowMs - lostAtMs} ms`);
    }
  }));

Deno.test("opening times out if the server accepts the connection and does not answer", () =>
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

Deno.test("a server that is silent after a loss is tried until it answers", () =>
  withConnection(async ({ signaling, transport }) => {
    transport.opening = never;
    transport.signaling.lose();
    await delay(60_000);
    assert(transport.attempts > 2, `${transport.attempts} attempts`);
    transport.opening = () => Promise.resolve();
    await delay(60_000);
    await signaling.publish(TOPIC, toBytes("hello"));
    assertEquals(transport.signaling.published, [TOPIC]);
  }));

Deno.test("a topic that is refused after a reconnection is retried until it is granted", () =>
  withConnection(async ({ signaling, transport }) => {
    const received: string[] = [];
    await signaling.subscribe(TOPIC, (message) => received.push(toText(message)));
    transport.confirm = () => Promise.reject(new RefusedError("Cannot subscribe: full", 503));
    transport.signaling.lose();
    await delay(5000);
    transport.confirm = () => Promise.resolve();
    await delay(10_000);
    transport.signaling.deliver(TOPIC, toBytes("hello"));
    assertEquals(received, ["hello"]);
    assertEquals(transport.connections.length, 2);
  }));

Deno.test("a refused topic is not retried once it has no listener", () =>
  withConnection(async ({ signaling, transport, time }) => {
    const subscription = await signaling.subscribe(TOPIC, () => {});
    let attempts = 0;
    transport.confirm = () => {
      attempts++;
      return Promise.reject(new RefusedError("Cannot subscribe: full", 503));
    };
    transport.signaling.lose();
    await delay(5000);
    await subscription[Symbol.asyncDispose]();
    const before = attempts;
    await delay(60_000);
    assertEquals([attempts, time.pendingTimers], [before, 0]);
  }));

Deno.test("subscribe() rejects if the server refuses", () =>
  withConnection(async ({ signaling, transport }) => {
    transport.confirm = () => Promise.reject(new RefusedError("Cannot subscribe: full", 503));
    await assertRejects(() => signaling.subscribe(TOPIC, () => {}), RefusedError);
    transport.confirm = () => Promise.resolve();
    await signaling.subscribe(TOPIC, () => {}); // the refusal is forgotten
    assertEquals(transport.signaling.topics, 1);
  }));

Deno.test("an aborted subscribe() rejects at once even if the server does not answer", () =>
  withConnection(async ({ signaling, transport }) => {
    transport.confirm = (_, signal) => never(signal);
    const controller = new AbortController();
    const subscribing = signaling.subscribe(TOPIC, () => {}, { signal: controller.signal });
    controller.abort(new Error("enough"));
    await assertRejects(() => subscribing, Error, "enough");
    assertEquals(transport.signaling.topics, 0);
  }));

Deno.test("subscribing while another listener unsubscribes delivers everything once, and leaves nothing behind", () =>
  withConnection(async ({ signaling, transport }) => {
    const first = await signaling.subscribe(
      TOPIC,
      () => assert(false, "the first listener was called"),
    );
    const ending = first[Symbol.asyncDispose]();
    const received: string[] = [];
    const second = await signaling.subscribe(TOPIC, (message) => received.push(toText(message)));
    await ending;
    transport.signaling.deliver(TOPIC, toBytes("hello"));
    assertEquals(received, ["hello"]);
    await second[Symbol.asyncDispose]();
    assertEquals(transport.signaling.topics, 0);
  }));

Deno.test("subscribe() that is pending while the connection is lost takes effect with the next one", () =>
  withConnection(async ({ signaling, transport }) => {
    transport.confirm = (_, signal) => never(signal);
    const received: string[] = [];
    const subscribing = signaling.subscribe(TOPIC, (message) => received.push(toText(message)));
    transport.confirm = () => Promise.resolve();
    transport.signaling.lose();
    await subscribing;
    await delay(1000);
    transport.signaling.deliver(TOPIC, toBytes("hello"));
    assertEquals(received, ["hello"]);
  }));

Deno.test("the next connection is opened once the last one has been released", () =>
  withConnection(async ({ signaling, transport }) => {
    const released = Promise.withResolvers<void>();
    transport.signaling.releasing = released.promise;
    transport.signaling.lose();
    await delay(10);
    signaling.check!();
    await delay(1000);
    assertEquals(transport.attempts, 1);
    released.resolve();
    await signaling.publish(TOPIC, toBytes("hello"));
    assertEquals(transport.attempts, 2);
  }));

Deno.test("what happens to a connection is logged", () =>
  withConnection(async ({ transport, logged }) => {
    transport.opening = () =>
      Promise.reject(new NetworkError("Cannot connect: refused", "refused"));
    transport.signaling.lose();
    await delay(800);
    assertEquals(logged, [
      "warn scripted:: connection lost: Cannot use the connection: it was cut",
      "debug scripted:: cannot reconnect: Cannot connect: refused",
    ]);
  }));

Deno.test("invalid topics and messages are rejected while the connection is lost, too", () =>
  withConnection(async ({ signaling, transport, time }) => {
    transport.opening = never;
    transport.signaling.lose();
    await delay(10);
    const startedAtMs = time.nowMs;
    await assertRejects(() => signaling.subscribe("kitchen", () => {}), TypeError);
    await assertRejects(() => signaling.publish(TOPIC, new Uint8Array(4097)), RangeError);
    assertEquals(time.nowMs, startedAtMs);
  }));

Deno.test("publish() through a connection that is lost as soon as it is back succeeds or fails", () =>
  withConnection(async ({ signaling, transport }) => {
    transport.signaling.lose();
    await delay(10);
    const publishing = signaling.publish(TOPIC, toBytes("hello"));
    transport.opening = async () => {
      await Promise.resolve();
      queueMicrotask(() => transport.signaling.lose());
    };
    await publishing.catch((error) => assert(error instanceof NetworkError, `${error}`));
  }));

Deno.test("a closed connection reports that it is closed, not that it is lost", () =>
  withConnection(async ({ signaling }) => {
    await signaling[Symbol.asyncDispose]();
    const error = await assertRejects(
      () => signaling.publish(TOPIC, toBytes("hello")),
      NetworkError,
    );
    assertEquals(error.reason, "closed");
    await assertRejects(() => signaling.subscribe(TOPIC, () => {}), NetworkError, "it is closed");
  }));

interface PeerScene {
  readonly signaling: SignalingConnection;
  readonly transport: ScriptedTransport;
  readonly time: VirtualTime;
  /** What it has logged. */
  readonly logged: readonly string[];
}

/** Runs a job with a reconnecting connection, in virtual time; no timer may be left. */
function withConnection(job: (place: PeerScene) => Promise<void>): Promise<void> {
  return simulate(async ({ internet, time }) => {
    const { network } = internet.host("a");
    const transport = new ScriptedTransport();
    {
      const logged: string[] = [];
      const log = (level: string) => (message: string) => void logged.push(`${level} ${message}`);
      const logger = { debug: log("debug"), info: log("info"), warn: log("warn") };
      await using signaling = await openReconnecting(transport, { network, logger });
      await job({ signaling, transport, time, logged });
    }
    assertEquals(time.pendingTimers, 0);
  });
}
