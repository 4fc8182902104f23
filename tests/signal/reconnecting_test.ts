import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError } from "../../lib/base/errors.ts";
import { openSignaling, parseSignalUrl } from "../../lib/signal/open.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import type { Host } from "../simnet/host.ts";
import { never, ScriptedTransport } from "./scripted_transport.ts";
import { simulate } from "../simnet/simulate.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
const link = { delayMs: 5 };

Deno.test("a lost connection is opened again, with its subscriptions", () =>
  simulate(async ({ internet }) => {
    const host = internet.host("server", { link });
    const serve = () => serveRendezvous({ network: host.network, local: at(host.addresses[0]!) });
    const clients = ["a", "b"].map((name) => internet.host(name, { link }));
    const server = await serve();
    const [a, b] = await Promise.all(
      clients.map(({ network }) => openSignaling(server.url, { network })),
    );
    let received = Promise.withResolvers<Uint8Array>();
    await using _subscription = await a!.subscribe(TOPIC, (message) => received.resolve(message));
    await b!.publish(TOPIC, toBytes("before"));
    assertEquals(toText(await received.promise), "before");

    await server[Symbol.asyncDispose]();
    await delay(300);
    await using _again = await serve();
    received = Promise.withResolvers();
    await delay(10_000);
    await b!.publish(TOPIC, toBytes("after"));
    assertEquals(toText(await received.promise), "after");
    await Promise.all([a![Symbol.asyncDispose](), b![Symbol.asyncDispose]()]);
    await Promise.all([a!.finished, b!.finished]);
  }));

Deno.test("onState is told of every change, with the reason", () =>
  simulate(async ({ internet }) => {
    const host = internet.host("server", { link });
    const serve = () => serveRendezvous({ network: host.network, local: at(host.addresses[0]!) });
    const { network } = internet.host("a", { link });
    const states: [string, unknown][] = [];
    const onState = (state: string, error?: unknown) => states.push([state, error]);
    const server = await serve();
    await using _signaling = await openSignaling(server.url, { network, onState });
    await server[Symbol.asyncDispose]();
    await delay(5000);
    await using _again = await serve();
    await delay(30_000);
    const names = states.map(([state]) => state);
    assertEquals(names.slice(0, 5), ["opening", "open", "lost", "opening", "failed"]);
    assertEquals(names.slice(-2), ["opening", "open"]);
    for (const [state, error] of states) {
      const isBad = state === "lost" || state === "failed";
      assertEquals(error instanceof NetworkError, isBad, state);
    }
  }));

Deno.test("onState is told if the first attempt fails, and not if the caller ends it", () =>
  simulate(async ({ internet }) => {
    const host = internet.host("server", { link });
    const { network } = internet.host("a", { link });
    const states: string[] = [];
    const onState = (state: string) => states.push(state);
    const url = `ws://${host.addresses[0]}:9`;
    await assertRejects(() => openSignaling(url, { network, onState }), NetworkError);
    assertEquals(states, ["opening", "failed"]);
    const signal = AbortSignal.abort(new Error("enough"));
    await assertRejects(() => openSignaling(url, { network, onState, signal }), Error, "enough");
    assertEquals(states, ["opening", "failed", "opening"]);
  }));

Deno.test("publish() waits two seconds for a lost connection, and fails then", () =>
  simulate(async ({ internet, time }) => {
    const host = internet.host("server", { link });
    const serve = () => serveRendezvous({ network: host.network, local: at(host.addresses[0]!) });
    const { network } = internet.host("a", { link });
    const server = await serve();
    await using signaling = await openSignaling(server.url, { network });
    await server[Symbol.asyncDispose]();
    await delay(100);
    const startedAtMs = time.nowMs;
    await assertRejects(
      () => signaling.publish(TOPIC, toBytes("hello")),
      NetworkError,
      "it is lost",
    );
    assertEquals(Math.round(time.nowMs - startedAtMs), 2000);
    await using _again = await serve();
    await signaling.publish(TOPIC, toBytes("hello")).catch(() => {});
    await delay(10_000);
    await signaling.publish(TOPIC, toBytes("hello"));
  }));

Deno.test("while messages wait, an attempt that takes long makes way for another", () =>
  simulate(async ({ internet }) => {
    const { network } = internet.host("a", { link });
    const transport = new ScriptedTransport();
    const states: string[] = [];
    await using signaling = await openSignaling(transport, {
      network,
      onState: (state) => states.push(state),
    });
    transport.opening = never;
    transport.signaling.lose();
    await delay(10_000);
    assertEquals(transport.attempts, 2, "no message waits: the attempt has its time");
    for (let second = 0; second < 9; second++) {
      signaling.publish(TOPIC, toBytes("hello")).catch(() => {});
      await delay(1000);
    }
    assertEquals(transport.attempts, 2 + 5);
    transport.opening = () => Promise.resolve();
    await delay(3000);
    const published = transport.signaling.published.length;
    await signaling.publish(TOPIC, toBytes("hello"));
    assertEquals(transport.signaling.published.length, published + 1);
    assertEquals([...new Set(states)], ["opening", "open", "lost"], "no attempt has failed");
  }));

Deno.test("an attempt that has to wait for the release of the last connection does not lose the next ones", () =>
  simulate(async ({ internet }) => {
    const transport = new ScriptedTransport();
    await using signaling = await openSignaling(transport, {
      network: internet.host("a", { link }).network,
    });
    transport.opening = never;
    transport.signaling.releasing = delay(3000);
    signaling.check?.();
    transport.signaling.lose();
    for (let second = 0; second < 8; second++) {
      signaling.publish(TOPIC, toBytes("hello")).catch(() => {});
      await delay(1000);
    }
    assertEquals(transport.attempts, 1 + 3, "from the release on, one every two seconds");
  }));

Deno.test("subscribe() while the connection is lost takes effect when it is back", () =>
  simulate(async ({ internet }) => {
    const host = internet.host("server", { link });
    const serve = () => serveRendezvous({ network: host.network, local: at(host.addresses[0]!) });
    const server = await serve();
    await using signaling = await openSignaling(server.url, {
      network: internet.host("a", { link }).network,
    });
    await server[Symbol.asyncDispose]();
    await delay(100);
    const received = Promise.withResolvers<Uint8Array>();
    await using _subscription = await signaling.subscribe(TOPIC, received.resolve);
    await using again = await serve();
    await delay(10_000);
    await using other = await openSignaling(again.url, {
      network: internet.host("b", { link }).network,
    });
    await other.publish(TOPIC, toBytes("hello"));
    assertEquals(toText(await received.promise), "hello");
  }));

Deno.test("openSignaling() rejects if the first attempt fails", () =>
  simulate(async ({ internet }) => {
    const server = internet.host("server", { link });
    const { network } = internet.host("a", { link });
    const url = `ws://${server.addresses[0]}:3480`;
    await assertRejects(() => openSignaling(url, { network }), NetworkError);
  }));

Deno.test("a connection that is disposed while it is lost leaves no timer", () =>
  simulate(async ({ internet, time }) => {
    const host = internet.host("server", { link });
    const local = at(host.addresses[0]!);
    const server = await serveRendezvous({ network: host.network, local });
    const signaling = await openSignaling(server.url, {
      network: internet.host("a", { link }).network,
    });
    await server[Symbol.asyncDispose]();
    await delay(700);
    await signaling[Symbol.asyncDispose]();
    assertEquals(time.pendingTimers, 0);
    await assertRejects(() => signaling.publish(TOPIC, toBytes("hello")), NetworkError);
  }));

Deno.test("parseSignalUrl() accepts the known schemes, and its error lists them", () => {
  for (const url of ["ws://192.0.2.1:3480", "wss://example.org/rendezvous", "lan:"]) {
    assertEquals(parseSignalUrl(url), url);
  }
  for (const url of ["http://example.org", "ws", "constructor:x", "", "ws://["]) {
    try {
      parseSignalUrl(url);
      assert(false, url);
    } catch (error) {
      assert(error instanceof TypeError && error.message.includes("ws:, wss:, lan:"), `${error}`);
    }
  }
});

Deno.test("check() finds out that a connection has died silently, and it is opened again", () =>
  simulate(async ({ internet, time }) => {
    const host = internet.host("server", { link });
    await using server = await serveRendezvous({
      network: host.network,
      local: at(host.addresses[0]!),
    });
    const [a, b] = ["a", "b"].map((name) => internet.host(name, { link })) as [Host, Host];
    await using subscriber = await openSignaling(server.url, { network: a.network });
    await using publisher = await openSignaling(server.url, { network: b.network });
    const received: string[] = [];
    await using _subscription = await subscriber.subscribe(
      TOPIC,
      (message) => received.push(toText(message)),
    );
    subscriber.check!(); // the server answers: nothing happens
    await delay(3000);
    const before = a.link.up.behavior;
    a.link.up.behavior = { ...before, loss: 1 };
    subscriber.check!();
    await delay(2100);
    a.link.up.behavior = before;
    await delay(3000);
    await publisher.publish(TOPIC, toBytes("back"));
    await delay(100);
    assertEquals(received, ["back"]);
    assert(time.nowMs < 10_000);
  }));

function at(ip: string) {
  return { ip, port: 3480 };
}
