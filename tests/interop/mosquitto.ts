/**
 * Runs mosquitto, an MQTT broker, on loopback and free ports.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { makeCertificate } from "./coturn.ts";
import { freePorts } from "./free_ports.ts";

/** The programs that this needs, and their Debian packages: for `toolTest()`. */
export const MOSQUITTO = { mosquitto: "mosquitto" };
/** As {@linkcode MOSQUITTO}, with its clients. */
export const MOSQUITTO_CLIENTS = { ...MOSQUITTO, mosquitto_pub: "mosquitto-clients" };
/** As {@linkcode MOSQUITTO}, with TLS. */
export const MOSQUITTO_TLS = { ...MOSQUITTO, openssl: "openssl" };

/** How to configure the broker. */
export interface MosquittoOptions {
  /** Whether to use a certificate for `localhost`, signed by {@linkcode Mosquitto.caCert}. Needs `openssl`. */
  readonly tls?: boolean;
  /** The password of the user `ann`, the only one who may connect. */
  readonly password?: string;
  /** The longest packet that it accepts; unlimited by default. */
  readonly maxPacketBytes?: number;
}

/** A broker that runs until it is disposed. */
export class Mosquitto implements AsyncDisposable {
  /** MQTT over TCP, or TLS. */
  readonly port: number;
  /** PEM; empty without TLS. */
  readonly caCert: string;
  readonly #webSocketPort: number;
  readonly #directory: string;
  #child: Deno.ChildProcess | undefined;

  private constructor(ports: readonly number[], directory: string, caCert: string) {
    [this.port, this.#webSocketPort] = ports as [number, number];
    this.#directory = directory;
    this.caCert = caCert;
  }

  /**
   * Starts the broker and waits until it accepts clients.
   *
   * @throws {Error} if it ends before that
   */
  static async start(options: MosquittoOptions = {}): Promise<Mosquitto> {
    const { tls = false, password, maxPacketBytes } = options;
    const directory = await Deno.makeTempDir({ prefix: "mosquitto-" });
    const ports = freePorts(2);
    const certificate = tls ? await makeCertificate(directory) : undefined;
    if (password !== undefined) {
      const args = ["-b", "-c", `${directory}/passwords`, "ann", password];
      await new Deno.Command("mosquitto_passwd", { args }).output();
    }
    const secure = certificate === undefined
      ? []
      : [`certfile ${certificate.certPath}`, `keyfile ${certificate.keyPath}`];
    const lines = [
      "user root",
      password === undefined ? "allow_anonymous true" : `password_file ${directory}/passwords`,
      `listener ${ports[0]} 127.0.0.1`,
      ...secure,
      `listener ${ports[1]} 127.0.0.1`,
      "protocol websockets",
      ...secure,
    ];
    if (maxPacketBytes !== undefined) lines.unshift(`max_packet_size ${maxPacketBytes}`);
    await Deno.writeTextFile(`${directory}/config`, `${lines.join("\n")}\n`);
    const broker = new Mosquitto(ports, directory, certificate?.caCert ?? "");
    await broker.#run();
    return broker;
  }

  /** The broker's URL, with the host that its certificate names if it has one. */
  url(scheme: "mqtt" | "mqtts" | "mqtt+ws" | "mqtt+wss"): string {
    const port = scheme.startsWith("mqtt+") ? this.#webSocketPort : this.port;
    return `${scheme}://${this.caCert === "" ? "127.0.0.1" : "localhost"}:${port}`;
  }

  /** Kills the broker and starts it again, as when a machine loses power and comes back. */
  async restart(): Promise<void> {
    await this.#kill();
    await this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#kill();
    await Deno.remove(this.#directory, { recursive: true });
  }

  async #run(): Promise<void> {
    const args = ["-c", `${this.#directory}/config`];
    const child = new Deno.Command("mosquitto", { args, stdout: "null", stderr: "null" }).spawn();
    this.#child = child;
    let hasEnded = false;
    child.status.then(() => hasEnded = true);
    for (;;) {
      try {
        for (const port of [this.port, this.#webSocketPort]) {
          (await systemNetwork.connectTcp({ ip: "127.0.0.1", port })).close();
        }
        return;
      } catch (error) {
        if (!(error instanceof NetworkError)) throw error; // not yet
        if (hasEnded) throw new Error("Cannot start mosquitto: it ended", { cause: error });
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  async #kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.status;
    this.#child = undefined;
  }
}
