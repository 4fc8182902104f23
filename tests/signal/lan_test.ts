import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import { encodeLanMessage } from "../../lib/signal/lan.ts";
import { LAN_GROUP, LAN_PORT, lanTransport } from "../../lib/signal/lan.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";

Deno.test("peers in one LAN hear each other without any server, and nobody outside does", () =>
  simulate(async ({ internet }) => {
    const [a, b] = neighbours(internet);
    const far = internet.host("far");
    await using speaker = await lanTransport().open({ network: a!.network });
    await using listener = await lanTransport().open({ network: b!.network });
    await using outsider = await lanTransport().open({ network: far.network });
    await outsider.subscribe(TOPIC, () => assert(false, "somebody outside heard it"));
    const heard = next(listener);
    await speaker.publish(TOPIC, toBytes("hello"));
    assertEquals(toText(await heard), "hello");
  }));

Deno.test("two programs on one host hear each other, and not themselves", () =>
  simulate(async ({ internet }) => {
    const [{ network }] = neighbours(internet) as [ReturnType<Internet["host"]>];
    await using one = await lanTransport().open({ network });
    await using other = await lanTransport().open({ network });
    await one.subscribe(TOPIC, () => assert(false, "it heard itself"));
    const heard = next(other);
    await one.publish(TOPIC, toBytes("hello"));
    assertEquals(toText(await heard), "hello");
    await delay(100);
  }));

Deno.test("what comes twice is heard once, and what is no message not at all", () =>
  simulate(async ({ internet }) => {
    const [a, b] = neighbours(internet);
    await using listener = await lanTransport().open({ network: b!.network });
    const heard: string[] = [];
    await listener.subscribe(TOPIC, (message) => heard.push(toText(message)));
    using socket = await a!.network.bindUdp({ ip: "0.0.0.0", port: 0 });
    const say = (bytes: Uint8Array) => socket.send(bytes, { ip: LAN_GROUP, port: LAN_PORT });
    const once = encodeLanMessage(new Uint8Array(8), TOPIC, toBytes("once"));
    for (const bytes of [once, once, toBytes("nonsense"), new Uint8Array(0)]) await say(bytes);
    await delay(100);
    assertEquals(heard, ["once"]);
  }));

Deno.test("the longest message arrives in a real LAN, that of this host", async () => {
  await using one = await lanTransport().open({ network: systemNetwork });
  await using other = await lanTransport().open({ network: systemNetwork });
  const heard = next(other);
  const message = crypto.getRandomValues(new Uint8Array(4096));
  await one.publish(TOPIC, message);
  assertEquals(await heard, message);
});

Deno.test("a LAN that is closed carries nothing", () =>
  simulate(async ({ internet }) => {
    const [a] = neighbours(internet);
    const signaling = await lanTransport().open({ network: a!.network });
    await signaling[Symbol.asyncDispose]();
    await signaling.finished;
    await assertRejects(() => signaling.publish(TOPIC, toBytes("hello")), NetworkError);
    await assertRejects(() => signaling.subscribe(TOPIC, () => {}), NetworkError);
  }));

function neighbours(internet: Internet) {
  const home = internet.router("home", { behavior: NAT_BEHAVIORS.portRestricted });
  return ["a", "b"].map((name) => internet.host(name, { behind: home }));
}

async function next(signaling: SignalingConnection): Promise<Uint8Array> {
  const heard = Promise.withResolvers<Uint8Array>();
  await signaling.subscribe(TOPIC, heard.resolve);
  return await heard.promise;
}
