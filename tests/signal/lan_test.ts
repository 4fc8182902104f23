import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { delay } from "@std/async/delay";
import { MalformedMessageError, NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import {
  decodeLanPart,
  encodeLanDatagrams,
  encodeLanMessage,
  LAN_GROUP,
  LAN_PORT,
  lanTransport,
  MAX_LAN_DATAGRAM_BYTES,
} from "../../lib/signal/lan.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import type { Internet } from "../simnet/internet.ts";
import { lengthOf } from "../simnet/packet.ts";
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

for (const length of [0, 1224, 1225, 1500, 2444, 4096]) {
  Deno.test(`a message of ${length} bytes fits packets of 1,280 bytes, and arrives once`, () =>
    simulate(async ({ internet }) => {
      const [a, b] = neighbors(internet);
      const lengths: number[] = [];
      internet.onPacket = ({ at, what, packet }) => {
        if (at === a!.name && what === "sent") lengths.push(lengthOf(packet));
      };
      await using publisher = await lanTransport().open({ network: a!.network });
      await using subscriber = await lanTransport().open({ network: b!.network });
      const received: Uint8Array[] = [];
      await subscriber.subscribe(TOPIC, (message) => received.push(message));
      const message = crypto.getRandomValues(new Uint8Array(length));
      await publisher.publish(TOPIC, message);
      await delay(100);
      assertEquals(received, [message]);
      assert(lengths.length > 0 && lengths.every((each) => each <= 1280), `${lengths}`);
    }));
}

Deno.test("parts arrive in any order and more than once, from two senders at a time; junk among them does no harm", () =>
  simulate(async ({ internet }) => {
    const [a, b] = neighbors(internet);
    await using subscriber = await lanTransport().open({ network: b!.network });
    const received: string[] = [];
    await subscriber.subscribe(TOPIC, (message) => received.push(toText(message).slice(0, 1)));
    using one = await a!.network.bindUdp({ ip: "0.0.0.0", port: 0 });
    using other = await a!.network.bindUdp({ ip: "0.0.0.0", port: 0 });
    const of = (text: string) =>
      encodeLanDatagrams(new Uint8Array(8), TOPIC, toBytes(text.repeat(3000)));
    const [x, y] = [of("x"), of("y")];
    const to = { ip: LAN_GROUP, port: LAN_PORT };
    const junk = x[0]!.slice(0, 40);
    for (const [index, part] of x.toReversed().entries()) {
      await one.send(part, to);
      await one.send(junk, to);
      await other.send(y[index]!, to); // the same id and topic
      await one.send(part, to);
    }
    await delay(100);
    assertEquals(received.sort(), ["x", "y"]);
  }));

Deno.test("a message of which a part is lost is never delivered, and thousands of them take little memory", () =>
  simulate(async ({ internet }) => {
    const [a, b] = neighbors(internet);
    await using subscriber = await lanTransport().open({ network: b!.network });
    const received: number[] = [];
    await subscriber.subscribe(TOPIC, (message) => received.push(message.length));
    using socket = await a!.network.bindUdp({ ip: "0.0.0.0", port: 0 });
    const to = { ip: LAN_GROUP, port: LAN_PORT };
    for (let count = 0; count < 500; count++) {
      const id = crypto.getRandomValues(new Uint8Array(8));
      await socket.send(encodeLanDatagrams(id, TOPIC, new Uint8Array(4096))[0]!, to);
      if (count % 50 === 0) await delay(10);
    }
    for (const part of encodeLanDatagrams(new Uint8Array(8), TOPIC, new Uint8Array(4000))) {
      await socket.send(part, to);
    }
    await delay(100);
    assertEquals(received, [4000]);
  }));

Deno.test("decodeLanPart() rejects what cannot be a part", () => {
  const [first, second] = encodeLanDatagrams(new Uint8Array(8), TOPIC, new Uint8Array(2000));
  assertEquals(decodeLanPart(first!).chunk.length, MAX_LAN_DATAGRAM_BYTES - 30);
  assertEquals(decodeLanPart(second!).index, 1);
  const changed = (at: number, value: number) => {
    const bytes = first!.slice();
    bytes[at] = value;
    return bytes;
  };
  const wrong = [
    first!.subarray(0, 29),
    first!.subarray(0, -1),
    second!.subarray(0, 30),
    changed(3, 1),
    changed(0, 0),
    changed(28, 2),
    changed(29, 1),
    changed(29, 5),
    changed(29, 255),
  ];
  for (const bytes of wrong) assertThrows(() => decodeLanPart(bytes), MalformedMessageError);
  for (let length = 0; length < 100; length++) {
    const junk = crypto.getRandomValues(new Uint8Array(length));
    assertThrows(() => decodeLanPart(junk), MalformedMessageError);
  }
});
