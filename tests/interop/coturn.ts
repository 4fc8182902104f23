/**
 * Coturn, a STUN and TURN server, on loopback and free ports.
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";
import { freePorts } from "./free_ports.ts";

/** How to start it. */
export interface CoturnOptions {
  /** The addresses to listen on. With two, it supports RFC 5780. Default: `127.0.0.1`. */
  readonly addresses?: readonly string[];
  /** Whether to serve TLS, with a certificate for `localhost` that {@linkcode Coturn.caCert} has signed. Needs `openssl`. */
  readonly tls?: boolean;
  /** The port for UDP and TCP, for starting a server in place of another. Default: a free one. */
  readonly port?: number;
  /** Further options, such as `--secure-stun`. */
  readonly args?: readonly string[];
}

/** A coturn that runs until disposed. */
export interface Coturn extends AsyncDisposable {
  /** UDP and TCP. */
  readonly address: TransportAddress;
  /** The other address and port, with two addresses. */
  readonly alternate: TransportAddress;
  /** TLS and DTLS. */
  readonly tlsAddress: TransportAddress;
  /** PEM; empty without TLS. */
  readonly caCert: string;
}

/** The required programs and their Debian packages, for `toolTest()`. */
export const COTURN = { turnserver: "coturn" };
/** As {@linkcode COTURN}, with TLS. */
export const COTURN_TLS = { turnserver: "coturn", openssl: "openssl" };

/**
 * Starts coturn and waits until all its sockets are open.
 *
 * @throws {Error} if it ends before that, with what it wrote
 */
export async function startCoturn(options: CoturnOptions = {}): Promise<Coturn> {
  const { addresses = ["127.0.0.1"], tls = false, args = [] } = options;
  const directory = await Deno.makeTempDir({ prefix: "coturn-" });
  const certificate = tls ? await makeCertificate(directory) : undefined;
  const [freePort, alternatePort, tlsPort, alternateTlsPort] = freePorts(4);
  const { port = freePort } = options;
  const process = new Deno.Command("turnserver", {
    args: [
      ...["-n", "--no-cli", "--verbose", "--log-file", "stdout", "--simple-log"],
      ...["--pidfile", `${directory}/pid`, "--userdb", `${directory}/turndb`],
      ...addresses.flatMap((address) => ["-L", address]),
      ...["--listening-port", `${port}`, "--alt-listening-port", `${alternatePort}`],
      ...["--tls-listening-port", `${tlsPort}`, "--alt-tls-listening-port", `${alternateTlsPort}`],
      ...certificate === undefined
        ? ["--no-tls", "--no-dtls"]
        : ["--cert", certificate.certPath, "--pkey", certificate.keyPath],
      ...args,
    ],
    stdout: "piped",
    stderr: "null",
  }).spawn();

  const output = new Output(process.stdout);
  const stop = async () => {
    process.kill("SIGKILL");
    await Promise.all([process.status, output.ended]);
    await Deno.remove(directory, { recursive: true });
  };
  if (!await output.contains(READY)) {
    await stop();
    throw new Error(`Cannot start coturn: it wrote\n${output.text}`);
  }
  if (tls) await untilAccepting({ hostname: addresses[0]!, port: tlsPort! });
  return {
    address: { ip: addresses[0]!, port: port! },
    alternate: { ip: addresses.at(-1)!, port: alternatePort! },
    tlsAddress: { ip: addresses[0]!, port: tlsPort! },
    caCert: certificate?.caCert ?? "",
    [Symbol.asyncDispose]: stop,
  };
}

/** Under load, coturn listens for TLS only some time after the line that says that it is ready. */
async function untilAccepting(address: { hostname: string; port: number }): Promise<void> {
  for (let attempt = 1;; attempt++) {
    try {
      (await Deno.connect(address)).close();
      return;
    } catch (error) {
      if (!(error instanceof Deno.errors.ConnectionRefused) || attempt === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** Reads all output: a program whose output is not read stops when the pipe is full. */
class Output {
  text = "";
  readonly ended: Promise<void>;
  #onText = () => {};

  constructor(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.ended = this.#read(stream);
  }

  async contains(text: string): Promise<boolean> {
    const found = new Promise<boolean>((resolve) => {
      this.#onText = () => this.text.includes(text) && resolve(true);
      this.#onText();
    });
    return await Promise.race([found, this.ended.then(() => this.text.includes(text))]);
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      this.text += text;
      this.#onText();
    }
  }
}

export async function makeCertificate(
  directory: string,
  name = "localhost",
): Promise<{ caCert: string; certPath: string; keyPath: string }> {
  const path = (name: string) => `${directory}/${name}`;
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  await openssl(
    ...["req", "-x509", ...newKey, "-days", "2", "-subj", "/CN=Punchline test CA"],
    ...["-keyout", path("ca.key"), "-out", path("ca.pem")],
  );
  await openssl(
    ...["req", "-x509", ...newKey, "-days", "2", "-subj", `/CN=${name}`],
    ...["-CA", path("ca.pem"), "-CAkey", path("ca.key")],
    ...["-addext", `subjectAltName=DNS:${name}`, "-addext", "basicConstraints=CA:FALSE"],
    ...["-keyout", path("key.pem"), "-out", path("cert.pem")],
  );
  return {
    caCert: await Deno.readTextFile(path("ca.pem")),
    certPath: path("cert.pem"),
    keyPath: path("key.pem"),
  };
}

async function openssl(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("openssl", { args }).output();
  if (!success) throw new Error(`Cannot run openssl: ${new TextDecoder().decode(stderr)}`);
}

/** The line that coturn writes when all its sockets are open. */
const READY = "Total General servers";
