// Signaling through mosquitto: TCP, TLS and WebSocket, passwords, both versions, and a broker that ends.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import { openSignaling } from "../../lib/signal/open.ts";
import { mqttTransport, type MqttTransportOptions } from "../../lib/signal/mqtt/transport.ts";
import { MOSQUITTO, Mosquitto, MOSQUITTO_CLIENTS, MOSQUITTO_TLS } from "./mosquitto.ts";
import { toolTest } from "./tool_test_case.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";

for (const [name, version] of [["3.1.1", 4], ["5", 5]] as const) {
  toolTest(`two peers talk through MQTT ${name} over TCP and WebSocket`, MOSQUITTO, async () => {
    await using broker = await Mosquitto.start();
    for (const url of [broker.url("mqtt"), broker.url("mqtt+ws")]) {
      await talk(await open(url, { version }), await open(url, { version }));
    }
  });
}

toolTest("peers that speak different versions understand each other", MOSQUITTO, async () => {
  await using broker = await Mosquitto.start();
  const url = broker.url("mqtt");
  await talk(await open(url, { version: 4 }), await open(url, { version: 5 }));
});

for (const scheme of ["mqtts", "mqtt+wss"] as const) {
  toolTest(
    `two peers talk through ${scheme}, and an untrusted certificate is rejected`,
    MOSQUITTO_TLS,
    async () => {
      await using broker = await Mosquitto.start({ tls: true });
      const url = broker.url(scheme);
      const caCerts = [broker.caCert];
      await talk(await open(url, { caCerts }), await open(url, { caCerts }));
      const error = await assertRejects(() => open(url), NetworkError);
      assertEquals(error.reason, "tls");
    },
  );
}

toolTest("the right password is accepted, and a wrong one is refused", MOSQUITTO, async () => {
  await using broker = await Mosquitto.start({ password: "secret" });
  const right = broker.url("mqtt").replace("//", "//ann:secret@");
  await talk(await open(right), await open(right));
  for (const version of [4, 5] as const) {
    const wrong = broker.url("mqtt").replace("//", "//ann:guess@");
    const error = await assertRejects(() => open(wrong, { version }), RefusedError);
    assert(error.remedy?.match(/user name and (?:the )?password/), error.remedy);
  }
});

toolTest("subscriptions survive a broker that is killed and started again", MOSQUITTO, async () => {
  await using broker = await Mosquitto.start();
  const transport = mqttTransport(broker.url("mqtt"));
  await using one = await openSignaling(transport, { network: systemNetwork });
  await using other = await openSignaling(transport, { network: systemNetwork });
  const received = Promise.withResolvers<Uint8Array>();
  await using _subscription = await one.subscribe(TOPIC, received.resolve);
  await broker.restart();
  let delivered: Uint8Array | undefined;
  while (delivered === undefined) { // messages are lost while either side is away
    await other.publish(TOPIC, Uint8Array.of(7)).catch(() => {});
    delivered = await within(200, received.promise);
  }
  assertEquals(delivered, Uint8Array.of(7));
});

toolTest("the reason why mosquitto disconnects is reported with MQTT 5", MOSQUITTO, async () => {
  await using broker = await Mosquitto.start({ maxPacketBytes: 1000 });
  await using signaling = await open(broker.url("mqtt"), { version: 5 });
  await signaling.publish(TOPIC, new Uint8Array(4096));
  await assertRejects(() => signaling.finished, NetworkError, "packet too large (0x95)");
});

for (const version of [4, 5] as const) {
  toolTest(
    `messages of mosquitto_pub are received, and retained ones are dropped, level ${version}`,
    MOSQUITTO_CLIENTS,
    async () => {
      await using broker = await Mosquitto.start();
      await mosquittoPub(broker, ["-m", "old", "-r"]);
      const received: string[] = [];
      const fresh = Promise.withResolvers<void>();
      await using signaling = await open(broker.url("mqtt"), { version });
      await using _subscription = await signaling.subscribe(TOPIC, (message) => {
        received.push(new TextDecoder().decode(message));
        if (received.at(-1) === "last") fresh.resolve();
      });
      await mosquittoPub(broker, ["-m", "retained from now", "-r"]);
      await mosquittoPub(broker, ["-m", "sure", "-q", "1"]);
      await mosquittoPub(broker, [
        "-m",
        "last",
        "-V",
        "5",
        "-D",
        "publish",
        "user-property",
        "a",
        "b",
      ]);
      await fresh.promise;
      assertEquals(received, ["retained from now", "sure", "last"]);
    },
  );

  toolTest(
    `mosquitto_sub receives what a peer publishes, level ${version}`,
    MOSQUITTO_CLIENTS,
    async () => {
      await using broker = await Mosquitto.start();
      await using signaling = await open(broker.url("mqtt"), { version });
      const args = [...at(broker), "-C", "1", "-N"];
      const listening = new Deno.Command("mosquitto_sub", { args }).output();
      const message = Uint8Array.from({ length: 256 }, (_, i) => i);
      let received: Deno.CommandOutput | undefined;
      while (received === undefined) { // messages are lost until it has subscribed
        await signaling.publish(TOPIC, message);
        received = await within(100, listening);
      }
      assertEquals(received.stdout, message);
    },
  );
}

toolTest("a connection survives a flood", MOSQUITTO_CLIENTS, async () => {
  await using broker = await Mosquitto.start();
  await using signaling = await open(broker.url("mqtt"));
  let count = 0;
  const last = Promise.withResolvers<void>();
  await using _subscription = await signaling.subscribe(TOPIC, ({ length }) => {
    count++;
    if (length === 3) last.resolve();
  });
  const flood = new Deno.Command("mosquitto_pub", { args: [...at(broker), "-l"], stdin: "piped" })
    .spawn();
  const writer = flood.stdin.getWriter();
  for (let i = 0; i < 100; i++) {
    await writer.write(new TextEncoder().encode(`${"x".repeat(999)}\n`.repeat(100)));
  }
  await writer.close();
  await flood.status;
  for (let hasArrived = false; !hasArrived;) { // mosquitto drops what it cannot pass on at once
    await mosquittoPub(broker, ["-m", "end"]);
    hasArrived = await within(200, last.promise.then(() => true)) ?? false;
  }
  assert(count > 1000, `${count}`);
});

function at({ port }: Mosquitto): string[] {
  return ["-h", "127.0.0.1", "-p", `${port}`, "-t", `punchline/1/${TOPIC}`];
}

async function mosquittoPub(broker: Mosquitto, args: readonly string[]): Promise<void> {
  const command = new Deno.Command("mosquitto_pub", { args: [...at(broker), ...args] });
  const { success, stderr } = await command.output();
  if (!success) throw new Error(`Cannot publish: ${new TextDecoder().decode(stderr)}`);
}

/** The result of a promise, or `undefined` if it is not there in time. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => late.resolve(undefined), ms);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function open(url: string, options: MqttTransportOptions = {}): Promise<SignalingConnection> {
  return mqttTransport(url, options).open({ network: systemNetwork });
}

/** Each publishes a message of the maximum length to the other. */
async function talk(one: SignalingConnection, other: SignalingConnection): Promise<void> {
  for (const [publisher, subscriber] of [[one, other], [other, one]] as const) {
    const received = Promise.withResolvers<Uint8Array>();
    const subscription = await subscriber.subscribe(TOPIC, received.resolve);
    const message = crypto.getRandomValues(new Uint8Array(4096));
    await publisher.publish(TOPIC, message);
    assertEquals(await received.promise, message);
    await subscription[Symbol.asyncDispose]();
  }
  await Promise.all([one, other].map((signaling) => signaling[Symbol.asyncDispose]()));
}
