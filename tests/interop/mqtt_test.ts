// Signalling by mosquitto, a broker by others: TCP, TLS and WebSocket, passwords, both versions, and its end.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError, RefusedError } from "../../lib/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { SignalBus } from "../../lib/signal/bus.ts";
import { keepBus } from "../../lib/signal/kept_bus.ts";
import { mqttTransport, type MqttTransportOptions } from "../../lib/signal/mqtt/transport.ts";
import { makeCertificate } from "./coturn.ts";
import { freePorts } from "./free_ports.ts";
import { toolTest } from "./tool_test_case.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
const MOSQUITTO = { mosquitto: "mosquitto" };
const CLIENTS = { ...MOSQUITTO, mosquitto_pub: "mosquitto-clients" };
const TLS = { ...MOSQUITTO, openssl: "openssl" };

for (const [name, version] of [["3.1.1", 4], ["5", 5]] as const) {
  toolTest(`two peers talk by MQTT ${name} over TCP and WebSocket`, MOSQUITTO, async () => {
    await using broker = await Broker.start();
    for (const url of [broker.url("mqtt"), broker.url("mqtt+ws")]) {
      await talk(await open(url, { version }), await open(url, { version }));
    }
  });
}

toolTest("peers that speak different versions understand each other", MOSQUITTO, async () => {
  await using broker = await Broker.start();
  const url = broker.url("mqtt");
  await talk(await open(url, { version: 4 }), await open(url, { version: 5 }));
});

toolTest(
  "two peers talk over TLS, and not with a certificate of somebody else's",
  TLS,
  async () => {
    await using broker = await Broker.start({ tls: true });
    const url = broker.url("mqtts");
    const caCerts = [broker.caCert];
    await talk(await open(url, { caCerts }), await open(url, { caCerts }));
    const error = await assertRejects(() => open(url), NetworkError);
    assertEquals(error.reason, "tls");
  },
);

toolTest("a name and a password let in, and a wrong one does not", MOSQUITTO, async () => {
  await using broker = await Broker.start({ password: "secret" });
  const right = broker.url("mqtt").replace("//", "//ann:secret@");
  await talk(await open(right), await open(right));
  for (const version of [4, 5] as const) {
    const wrong = broker.url("mqtt").replace("//", "//ann:guess@");
    const error = await assertRejects(() => open(wrong, { version }), RefusedError);
    assert(error.message.includes("check the user name and the password"), error.message);
  }
});

toolTest("a broker that was killed and started again carries on", MOSQUITTO, async () => {
  await using broker = await Broker.start();
  const transport = mqttTransport(broker.url("mqtt"));
  await using one = await keepBus(transport, { network: systemNetwork });
  await using other = await keepBus(transport, { network: systemNetwork });
  const heard = Promise.withResolvers<Uint8Array>();
  await using _subscription = await one.subscribe(TOPIC, heard.resolve);
  await broker.restart();
  for (;;) { // what is said while a side is away is lost
    await other.publish(TOPIC, Uint8Array.of(7)).catch(() => {});
    const late = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => late.resolve(undefined), 200);
    const got = await Promise.race([heard.promise, late.promise]);
    clearTimeout(timer);
    if (got === undefined) continue;
    assertEquals(got, Uint8Array.of(7));
    break;
  }
});

toolTest("what other clients publish is heard, and what is retained is not", CLIENTS, async () => {
  await using broker = await Broker.start();
  const publish = async (...args: string[]) => {
    const common = ["-h", "127.0.0.1", "-p", `${broker.port}`, "-t", `punchline/1/${TOPIC}`];
    await new Deno.Command("mosquitto_pub", { args: [...common, ...args] }).output();
  };
  await publish("-m", "old", "-r");
  const heard: string[] = [];
  const fresh = Promise.withResolvers<void>();
  await using bus = await open(broker.url("mqtt"));
  await using _subscription = await bus.subscribe(TOPIC, (message) => {
    heard.push(new TextDecoder().decode(message));
    fresh.resolve();
  });
  await publish("-m", "new", "-q", "1");
  await fresh.promise;
  assertEquals(heard, ["new"]);
});

function open(url: string, options: MqttTransportOptions = {}): Promise<SignalBus> {
  return mqttTransport(url, options).open({ network: systemNetwork });
}

/** Each says something to the other, as long as messages may be. */
async function talk(one: SignalBus, other: SignalBus): Promise<void> {
  for (const [speaker, listener] of [[one, other], [other, one]] as const) {
    const heard = Promise.withResolvers<Uint8Array>();
    const subscription = await listener.subscribe(TOPIC, heard.resolve);
    const message = crypto.getRandomValues(new Uint8Array(4096));
    await speaker.publish(TOPIC, message);
    assertEquals(await heard.promise, message);
    await subscription[Symbol.asyncDispose]();
  }
  await Promise.all([one, other].map((bus) => bus[Symbol.asyncDispose]()));
}

interface BrokerOptions {
  readonly tls?: boolean;
  /** Of the user `ann`. */
  readonly password?: string;
}

/** Mosquitto on free ports of loopback. */
class Broker implements AsyncDisposable {
  readonly port: number;
  readonly caCert: string;
  readonly #webSocketPort: number;
  readonly #folder: string;
  #child: Deno.ChildProcess | undefined;

  private constructor(ports: readonly [number, number], folder: string, caCert: string) {
    [this.port, this.#webSocketPort] = ports;
    this.#folder = folder;
    this.caCert = caCert;
  }

  static async start({ tls = false, password }: BrokerOptions = {}): Promise<Broker> {
    const folder = await Deno.makeTempDir({ prefix: "mosquitto-" });
    const [port, webSocketPort] = freePorts(2);
    const certificate = tls ? await makeCertificate(folder) : undefined;
    if (password !== undefined) {
      const args = ["-b", "-c", `${folder}/passwords`, "ann", password];
      await new Deno.Command("mosquitto_passwd", { args }).output();
    }
    const lines = [
      "user root",
      password === undefined ? "allow_anonymous true" : `password_file ${folder}/passwords`,
      `listener ${port} 127.0.0.1`,
      ...certificate === undefined
        ? []
        : [`certfile ${certificate.certPath}`, `keyfile ${certificate.keyPath}`],
      `listener ${webSocketPort} 127.0.0.1`,
      "protocol websockets",
    ];
    await Deno.writeTextFile(`${folder}/config`, `${lines.join("\n")}\n`);
    const broker = new Broker([port!, webSocketPort!], folder, certificate?.caCert ?? "");
    await broker.#run();
    return broker;
  }

  url(scheme: "mqtt" | "mqtts" | "mqtt+ws"): string {
    const port = scheme === "mqtt+ws" ? this.#webSocketPort : this.port;
    return `${scheme}://${scheme === "mqtts" ? "localhost" : "127.0.0.1"}:${port}`;
  }

  /** As a machine that loses its power. */
  async restart(): Promise<void> {
    await this.#kill();
    await this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#kill();
    await Deno.remove(this.#folder, { recursive: true });
  }

  async #run(): Promise<void> {
    this.#child = new Deno.Command("mosquitto", {
      args: ["-c", `${this.#folder}/config`],
      stdout: "null",
      stderr: "null",
    }).spawn();
    for (;;) {
      try {
        const local = { ip: "127.0.0.1", port: this.port };
        const connection = await systemNetwork.connectTcp(local);
        connection.close();
        return;
      } catch (error) {
        if (!(error instanceof NetworkError)) throw error; // not yet
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  async #kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.status;
  }
}
