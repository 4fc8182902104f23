/**
 * Runs nats-server on loopback and a free port.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { systemNetwork } from "../../lib/net/system.ts";
import { freePorts } from "./free_ports.ts";

/** The program that this needs, and its Debian package: for `toolTest()`. */
export const NATS_SERVER = { "nats-server": "nats-server" };

/** A server that runs until it is disposed. */
export interface NatsServer extends AsyncDisposable {
  readonly port: number;
  /** Ends it without a word. */
  kill(): Promise<void>;
}

/**
 * Starts a server, and waits until it accepts clients.
 *
 * @throws {Error} if it does not within five seconds
 */
export async function startNats(
  { ip = "127.0.0.1", port = freePorts(1)[0]!, login, tls }: {
    ip?: string;
    port?: number;
    login?: [string, string];
    /** The files of a certificate: then clients have to speak TLS. */
    tls?: { cert: string; key: string };
  } = {},
): Promise<NatsServer> {
  const args = ["--addr", ip, "--port", `${port}`];
  if (tls !== undefined) args.push("--tls", "--tlscert", tls.cert, "--tlskey", tls.key);
  if (login !== undefined) args.push("--user", login[0], "--pass", login[1]);
  const child = new Deno.Command("nats-server", { args, stdout: "null", stderr: "null" }).spawn();
  const kill = async () => {
    try {
      child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
    await child.status;
  };
  for (let i = 0; i < 100; i++) {
    try {
      (await systemNetwork.connectTcp({ ip, port })).close();
      return { port, kill, [Symbol.asyncDispose]: kill };
    } catch {
      await delay(50);
    }
  }
  await kill();
  throw new Error(`Cannot start nats-server on port ${port}`);
}
