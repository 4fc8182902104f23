// Signalling by mosquitto, a broker by others: TCP, TLS and WebSocket, passwords, both versions, and its end.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import { openReconnecting } from "../../lib/signal/reconnecting.ts";
import { mqttTransport, type MqttTransportOptions } from "../../lib/signal/mqtt/transport.ts";
import { MOSQUITTO, Mosquitto, MOSQUITTO_CLIENTS, MOSQUITTO_TLS } from "./mosquitto.ts";
import { toolTest } from "./tool_test_case.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";

for (const [name, version] of [["3.1.1", 4], ["5", 5]] as const) {
  toolTest(`two peers talk by MQTT ${name} over TCP and WebSocket`, MOSQUITTO, async () => {
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
    `two peers talk by ${scheme}, unless the certificate is another's`,
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

toolTest("a name and a password let in, and a wrong one does not", MOSQUITTO, async () => {
  await using broker = await Mosquitto.start({ password: "secret" });
  const right = broker.url("mqtt").replace("//", "//ann:secret@");
  await talk(await open(right), await open(right));
  for (const version of [4, 5] as const) {
    const wrong = broker.url("mqtt").replace("//", "//ann:guess@");
    const error = await assertRejects(() => open(wrong, { version }), RefusedError);
    assert(error.message.includes("check the user name and the password"), error.message);
  }
});

toolTest("a broker that was killed and started again carries on", MOSQUITTO, async () => {
  await using broker = await Mosquitto.start();
  const transport = mqttTransport(broker.url("mqtt"));
  await using one = await openReconnecting(transport, { network: systemNetwork });
  await using other = await openReconnecting(transport, { network: systemNetwork });
  const heard = Promise.withResolvers<Uint8Array>();
  await using _subscription = await one.subscribe(TOPIC, heard.resolve);
  await broker.restart();
  let got: Uint8Array | undefined;
  while (got === undefined) { // what is said while a side is away is lost
    await other.publish(TOPIC, Uint8Array.of(7)).catch(() => {});
    got = await within(200, heard.promise);
  }
  assertEquals(got, Uint8Array.of(7));
});

toolTest("why mosquitto hangs up is told, where MQTT 5 is spoken", MOSQUITTO, async () => {
  await using broker = await Mosquitto.start({ maxPacketBytes: 1000 });
  await using signaling = await open(broker.url("mqtt"), { version: 5 });
  await signaling.publish(TOPIC, new Uint8Array(4096));
  await assertRejects(() => signaling.finished, NetworkError, "packet too large (0x95)");
});

for (const version of [4, 5] as const) {
  toolTest(
    `what mosquitto_pub says is heard, and what is retained is not, level ${version}`,
    MOSQUITTO_CLIENTS,
    async () => {
      await using broker = await Mosquitto.start();
      await mosquittoPub(broker, ["-m", "old", "-r"]);
      const heard: string[] = [];
      const fresh = Promise.withResolvers<void>();
      await using signaling = await open(broker.url("mqtt"), { version });
      await using _subscription = await signaling.subscribe(TOPIC, (message) => {
        heard.push(new TextDecoder().decode(message));
        if (heard.at(-1) === "last") fresh.resolve();
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
      assertEquals(heard, ["retained from now", "sure", "last"]);
    },
  );

  toolTest(
    `mosquitto_sub hears what a peer says, level ${version}`,
    MOSQUITTO_CLIENTS,
    async () => {
      await using broker = await Mosquitto.start();
      await using signaling = await open(broker.url("mqtt"), { version });
      const args = [...at(broker), "-C", "1", "-N"];
      const listening = new Deno.Command("mosquitto_sub", { args }).output();
      const said = Uint8Array.from({ length: 256 }, (_, i) => i);
      let heard: Deno.CommandOutput | undefined;
      while (heard === undefined) { // what is said before it listens is lost
        await signaling.publish(TOPIC, said);
        heard = await within(100, listening);
      }
      assertEquals(heard.stdout, said);
    },
  );
}

toolTest("a bus is there after a flood", MOSQUITTO_CLIENTS, async () => {
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
  for (let isThere = false; !isThere;) { // mosquitto drops what it cannot pass on at once
    await mosquittoPub(broker, ["-m", "end"]);
    isThere = await within(200, last.promise.then(() => true)) ?? false;
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

/** What a promise gives, if it does soon. */
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

/** Each says something to the other, as long as messages may be. */
async function talk(one: SignalingConnection, other: SignalingConnection): Promise<void> {
  for (const [speaker, listener] of [[one, other], [other, one]] as const) {
    const heard = Promise.withResolvers<Uint8Array>();
    const subscription = await listener.subscribe(TOPIC, heard.resolve);
    const message = crypto.getRandomValues(new Uint8Array(4096));
    await speaker.publish(TOPIC, message);
    assertEquals(await heard.promise, message);
    await subscription[Symbol.asyncDispose]();
  }
  await Promise.all([one, other].map((signaling) => signaling[Symbol.asyncDispose]()));
}
