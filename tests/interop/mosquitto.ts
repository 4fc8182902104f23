/**
 * Mosquitto, an MQTT broker by others, on loopback and free ports.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { makeCertificate } from "./coturn.ts";
import { freePorts } from "./free_ports.ts";

/** The programs it takes, and their Debian packages: for `toolTest()`. */
export const MOSQUITTO = { mosquitto: "mosquitto" };
/** As {@linkcode MOSQUITTO}, with its clients. */
export const MOSQUITTO_CLIENTS = { ...MOSQUITTO, mosquitto_pub: "mosquitto-clients" };
/** As {@linkcode MOSQUITTO}, with TLS. */
export const MOSQUITTO_TLS = { ...MOSQUITTO, openssl: "openssl" };

/** How to start it. */
export interface MosquittoOptions {
  /** With a certificate for `localhost`, signed by {@linkcode Mosquitto.caCert}. Takes `openssl`. */
  readonly tls?: boolean;
  /** Of the user `ann`, who is let in alone. */
  readonly password?: string;
  /** The longest packet that it takes; any unless given. */
  readonly maxPacketBytes?: number;
}

/** A mosquitto that runs until it is disposed. */
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
   * Starts it and waits until it lets clients in.
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
      ...maxPacketBytes === undefined ? [] : [`max_packet_size ${maxPacketBytes}`],
      ...[`listener ${ports[0]} 127.0.0.1`, ...secure],
      ...[`listener ${ports[1]} 127.0.0.1`, "protocol websockets", ...secure],
    ];
    await Deno.writeTextFile(`${directory}/config`, `${lines.join("\n")}\n`);
    const broker = new Mosquitto(ports, directory, certificate?.caCert ?? "");
    await broker.#run();
    return broker;
  }

  /** Where it is: a host that its certificate has, if there is one. */
  url(scheme: "mqtt" | "mqtts" | "mqtt+ws" | "mqtt+wss"): string {
    const port = scheme.startsWith("mqtt+") ? this.#webSocketPort : this.port;
    return `${scheme}://${this.caCert === "" ? "127.0.0.1" : "localhost"}:${port}`;
  }

  /** As a machine that loses its power, and comes back. */
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
