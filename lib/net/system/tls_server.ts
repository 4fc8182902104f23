/**
 * The server's side of TLS, over any connection: a certificate from files, which is read again when they change, and
 * handshakes that cannot cost much.
 *
 * @module
 */

import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { TcpConnection, TlsAcceptor } from "../network.ts";
import { action } from "./platform.ts";
import { readSmallFile } from "./private_input.ts";
import { secureStream, TlsCarrier } from "./tls_stream.ts";
import crypto from "node:crypto";
import tls from "node:tls";

/** Where a certificate is. */
export interface CertificateFiles {
  /** The path of the certificate with its chain, PEM. */
  readonly cert: string;
  /** The path of its private key, PEM. */
  readonly key: string;
  /** Receives what becomes of the files. */
  readonly logger?: Logger;
}

/** A TLS acceptor whose certificate comes from files. */
export interface FileTlsAcceptor extends TlsAcceptor, Disposable {
  /** When its certificate expires, in milliseconds since 1970. */
  readonly expiresMs: number;
  /**
   * Reads the files if they have changed. A certificate that cannot be used is reported to the logger, and the one before
   * stays in use. Called every few seconds until the acceptor is disposed.
   */
  reload(): Promise<void>;
}

/**
 * Opens an acceptor.
 *
 * @throws {TypeError} if a file cannot be read, holds something else, has expired, or the key belongs to another
 * certificate
 *
 * @example
 * ```ts ignore
 * import { openTlsAcceptor, systemNetwork as network } from "@punchline/punchline/net";
 * import { serveRendezvous } from "@punchline/punchline/signal";
 *
 * using tls = await openTlsAcceptor({ cert: "cert.pem", key: "key.pem" });
 * const local = { ip: "192.0.2.1", port: 443 };
 * await using server = await serveRendezvous({ network, local, tls });
 * ```
 */
export async function openTlsAcceptor(files: CertificateFiles): Promise<FileTlsAcceptor> {
  const seen = await statesOf(files);
  return new FileAcceptor(files, seen, await readIdentity(files));
}

/** What handshakes are made with. */
interface Identity {
  readonly context: tls.SecureContext;
  readonly hostname: string | undefined;
  readonly expiresMs: number;
}

class FileAcceptor implements FileTlsAcceptor {
  readonly #files: CertificateFiles;
  readonly #timer: ReturnType<typeof setInterval>;
  #seen: string;
  #identity: Identity;

  constructor(files: CertificateFiles, seen: string, identity: Identity) {
    this.#files = files;
    this.#seen = seen;
    this.#identity = identity;
    this.#timer = setInterval(() => this.reload(), RELOAD_MS);
    Deno.unrefTimer(this.#timer);
  }

  get hostname(): string | undefined {
    return this.#identity.hostname;
  }

  get expiresMs(): number {
    return this.#identity.expiresMs;
  }

  async reload(): Promise<void> {
    const { cert, logger } = this.#files;
    try {
      const seen = await statesOf(this.#files);
      if (seen === this.#seen) return;
      this.#seen = seen; // one warning for each change
      this.#identity = await readIdentity(this.#files);
      const until = new Date(this.#identity.expiresMs).toISOString().slice(0, 10);
      logger?.info(`The new certificate in ${cert} is in use, valid until ${until}`);
    } catch (error) {
      logger?.warn(`${messageOf(error)}; the certificate before it stays in use`);
    }
  }

  async accept(connection: TcpConnection, timeoutMs: number): Promise<TcpConnection> {
    const { context } = this.#identity;
    const cannot = action("accept TLS from", connection.remote);
    const carrier = new TlsCarrier(connection, cannot, MAX_HANDSHAKE_BYTES);
    const socket = new tls.TLSSocket(carrier, { isServer: true, secureContext: context });
    return await secureStream(socket, carrier, { event: "secure", timeoutMs });
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** What a change of the files changes. */
async function statesOf({ cert, key }: CertificateFiles): Promise<string> {
  const states = [];
  for (const [path, option] of [[cert, "certificate"], [key, "key"]] as const) {
    const { state } = await Deno.permissions.query({ name: "read", path });
    if (state !== "granted") {
      throw new TypeError(`Cannot use the ${option} ${path}: --allow-read is not granted for it`);
    }
    try {
      const { mtime, size, ino } = await Deno.stat(path);
      states.push([mtime?.getTime(), size, ino]);
    } catch (error) {
      throw unusable(option, path, error);
    }
  }
  return JSON.stringify(states);
}

async function readIdentity(files: CertificateFiles): Promise<Identity> {
  const cert = await readPem("certificate", files.cert);
  const key = await readPem("key", files.key);
  const certificate = parsed("certificate", files.cert, () => new crypto.X509Certificate(cert));
  const privateKey = parsed("key", files.key, () => crypto.createPrivateKey(key));
  const cannot = `Cannot use the certificate ${files.cert}`;
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new TypeError(`${cannot}: the key ${files.key} belongs to another one`);
  }
  const expiresMs = Date.parse(certificate.validTo);
  if (expiresMs <= Date.now()) {
    throw new TypeError(`${cannot}: it expired on ${certificate.validTo}`);
  }
  if (Date.parse(certificate.validFrom) > Date.now()) {
    throw new TypeError(`${cannot}: it is valid from ${certificate.validFrom} only`);
  }
  const context = parsed("certificate", files.cert, () => tls.createSecureContext({ cert, key }));
  return { context, expiresMs, hostname: nameIn(certificate.subjectAltName ?? "") };
}

async function readPem(option: string, path: string): Promise<string> {
  try {
    return (await readSmallFile(path, MAX_FILE_BYTES)).text;
  } catch (error) {
    throw unusable(option, path, error);
  }
}

function parsed<T>(option: string, path: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new TypeError(`Cannot use the ${option} ${path}: it is not one in PEM`, { cause: error });
  }
}

function unusable(option: string, path: string, error: unknown): TypeError {
  const why = error instanceof Deno.errors.NotFound
    ? "there is no such file"
    : error instanceof Deno.errors.PermissionDenied
    ? "this user may not read it"
    : messageOf(error).replace(/^Cannot \w+ .*?: /, "");
  return new TypeError(`Cannot use the ${option} ${path}: ${why}`, { cause: error });
}

/** The first name that stands for one host only, or else the first address. */
function nameIn(subjectAltName: string): string | undefined {
  const names = subjectAltName.split(", ");
  const after = (prefix: string) =>
    names.find((name) => name.startsWith(prefix) && !name.includes("*"))?.slice(prefix.length);
  return after("DNS:") ?? after("IP Address:");
}

/** Chosen by us: a renewed certificate is in use soon, and two files are looked at for it. */
const RELOAD_MS = 3000;

/** Chosen by us: a chain of certificates with RSA keys has less than 10 KiB. */
const MAX_FILE_BYTES = 65_536;

/** Chosen by us: a ClientHello with post-quantum keys and a session ticket has less than 4 KiB. */
const MAX_HANDSHAKE_BYTES = 16_384;
