import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import { encodeLanMessage, LAN_GROUP, LAN_PORT, lanTransport } from "../../lib/signal/lan.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";

Deno.test("peers in one LAN reach each other without a server, and no peer outside", () =>
  simulate(async ({ internet }) => {
    const [a, b] = neighbors(internet);
    const far = internet.host("far");
    await using publisher = await lanTransport().open({ network: a!.network });
    await using subscriber = await lanTransport().open({ network: b!.network });
    await using outsider = await lanTransport().open({ network: far.network });
    await outsider.subscribe(TOPIC, () => assert(false, "it arrived outside"));
    const received = next(subscriber);
    await publisher.publish(TOPIC, toBytes("hello"));
    assertEquals(toText(await received), "hello");
  }));

Deno.test("two programs on one host reach each other, and not themselves", () =>
  simulate(async ({ internet }) => {
    const [{ network }] = neighbors(internet) as [ReturnType<Internet["host"]>];
    await using one = await lanTransport().open({ network });
    await using other = await lanTransport().open({ network });
    await one.subscribe(TOPIC, () => assert(false, "it came back"));
    const received = next(other);
    await one.publish(TOPIC, toBytes("hello"));
    assertEquals(toText(await received), "hello");
    await delay(100);
  }));

Deno.test("duplicates are dropped, and so is what is not a message", () =>
  simulate(async ({ internet }) => {
    const [a, b] = neighbors(internet);
    await using subscriber = await lanTransport().open({ network: b!.network });
    const received: string[] = [];
    await subscriber.subscribe(TOPIC, (message) => received.push(toText(message)));
    using socket = await a!.network.bindUdp({ ip: "0.0.0.0", port: 0 });
    const send = (bytes: Uint8Array) => socket.send(bytes, { ip: LAN_GROUP, port: LAN_PORT });
    const once = encodeLanMessage(new Uint8Array(8), TOPIC, toBytes("once"));
    for (const bytes of [once, once, toBytes("nonsense"), new Uint8Array(0)]) await send(bytes);
    await delay(100);
    assertEquals(received, ["once"]);
  }));

Deno.test("the longest message arrives in the real LAN of this host", async () => {
  await using one = await lanTransport().open({ network: systemNetwork });
  await using other = await lanTransport().open({ network: systemNetwork });
  const received = next(other);
  const message = crypto.getRandomValues(new Uint8Array(4096));
  await one.publish(TOPIC, message);
  assertEquals(await received, message);
});

Deno.test("publish() and subscribe() reject once the connection is closed", () =>
  simulate(async ({ internet }) => {
    const [a] = neighbors(internet);
    const signaling = await lanTransport().open({ network: a!.network });
    await signaling[Symbol.asyncDispose]();
    await signaling.finished;
    await assertRejects(() => signaling.publish(TOPIC, toBytes("hello")), NetworkError);
    await assertRejects(() => signaling.subscribe(TOPIC, () => {}), NetworkError);
  }));

function neighbors(internet: Internet) {
  const home = internet.router("home", { behavior: NAT_BEHAVIORS.portRestricted });
  return ["a", "b"].map((name) => internet.host(name, { behind: home }));
}

async function next(signaling: SignalingConnection): Promise<Uint8Array> {
  const received = Promise.withResolvers<Uint8Array>();
  await signaling.subscribe(TOPIC, received.resolve);
  return await received.promise;
}
