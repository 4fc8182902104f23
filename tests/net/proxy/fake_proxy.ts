/**
 * Proxies on loopback: one that does its job and notes what it was asked for, and one that answers with given bytes.
 *
 * @module
 */

import { TaskGroup } from "../../../lib/base/tasks.ts";
import { writeAll } from "../../../lib/base/reader.ts";
import type { TransportAddress } from "../../../lib/net/address.ts";
import type { TcpConnection, TcpListener } from "../../../lib/net/network.ts";
import { systemNetwork } from "../../../lib/net/system.ts";

/** What a proxy does with each connection. */
type Serve = (connection: TcpConnection) => Promise<void>;

/** A listener on loopback that serves each connection by itself. */
export class FakeProxy implements AsyncDisposable {
  readonly #listener: TcpListener;
  readonly #tasks = new TaskGroup(() => {}); // connections that are cut

  private constructor(listener: TcpListener, serve: Serve) {
    this.#listener = listener;
    this.#tasks.run(async () => {
      for (;;) {
        const connection = await listener.accept();
        this.#tasks.run((signal) => serveUntil(connection, serve, signal));
      }
    });
  }

  /** Starts one. */
  static async start(serve: Serve): Promise<FakeProxy> {
    return new FakeProxy(await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 }), serve);
  }

  /** `127.0.0.1:PORT`. */
  get host(): string {
    return `127.0.0.1:${this.#listener.local.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#tasks.stop();
  }
}

/** A proxy that answers whatever it is sent with these bytes, all at once, and then nothing. */
export function answering(...answers: readonly (string | readonly number[])[]): Serve {
  return async (connection) => {
    for (const answer of answers) {
      if (await connection.read(new Uint8Array(2048)) === null) return;
      const bytes = typeof answer === "string"
        ? new TextEncoder().encode(answer)
        : new Uint8Array(answer);
      await writeAll(connection, bytes);
    }
    while (await connection.read(new Uint8Array(2048)) !== null);
  };
}

/** How a proxy that works is set up. */
export interface WorkingProxyOptions {
  /** Where each target is: `HOST:PORT` to the address that is dialled. Others cannot be reached. */
  readonly routes: ReadonlyMap<string, TransportAddress>;
  /** Called with each target that it is asked for. */
  readonly onTarget?: (target: string) => void;
}

/** A proxy of HTTP. */
export function httpProxy({ routes, onTarget }: WorkingProxyOptions): Serve {
  return async (connection) => {
    const head = await readText(connection, (text) => text.includes("\r\n\r\n"));
    const [, target] = /^CONNECT (\S+) HTTP\/1\.1\r\n/.exec(head) ?? [];
    onTarget?.(target ?? head);
    const to = routes.get(target ?? "");
    if (to === undefined) return await writeText(connection, "HTTP/1.1 502 Bad Gateway\r\n\r\n");
    using onward = await systemNetwork.connectTcp(to);
    await writeText(connection, "HTTP/1.1 200 OK\r\n\r\n");
    await Promise.all([pump(connection, onward), pump(onward, connection)]);
  };
}

/** A proxy of SOCKS5. */
export function socksProxy({ routes, onTarget }: WorkingProxyOptions): Serve {
  return async (connection) => {
    const take = reader(connection);
    const [, methods] = await take(2);
    await take(methods!);
    await connection.write(new Uint8Array([5, 0]));
    const [, , , type] = await take(4);
    const host = type === 3
      ? new TextDecoder().decode(await take((await take(1))[0]!))
      : (await take(4)).join(".");
    const [high, low] = await take(2);
    const target = `${host}:${high! * 256 + low!}`;
    onTarget?.(target);
    const to = routes.get(target);
    if (to === undefined) {
      return void await connection.write(new Uint8Array([5, 4, 0, 1, 0, 0, 0, 0, 0, 0]));
    }
    using onward = await systemNetwork.connectTcp(to);
    await connection.write(new Uint8Array([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
    await Promise.all([pump(connection, onward), pump(onward, connection)]);
  };
}

async function serveUntil(
  connection: TcpConnection,
  serve: Serve,
  signal: AbortSignal,
): Promise<void> {
  const end = () => connection.reset();
  signal.addEventListener("abort", end, { once: true });
  try {
    await serve(connection);
  } finally {
    signal.removeEventListener("abort", end);
    connection.close();
  }
}

async function pump(from: TcpConnection, to: TcpConnection): Promise<void> {
  const buffer = new Uint8Array(16_384);
  try {
    for (;;) {
      const length = await from.read(buffer);
      if (length === null) return await to.closeWrite();
      await writeAll(to, buffer.subarray(0, length));
    }
  } catch {
    from.close();
    to.close();
  }
}

/** Takes exactly so many bytes. */
function reader(connection: TcpConnection): (length: number) => Promise<Uint8Array> {
  return async (length) => {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length;) {
      const count = await connection.read(bytes.subarray(at));
      if (count === null) throw new Error("Cannot read: the connection was cut");
      at += count;
    }
    return bytes;
  };
}

/** Reads until there is enough. */
export async function readText(
  connection: TcpConnection,
  isEnough: (text: string) => boolean,
): Promise<string> {
  let text = "";
  const buffer = new Uint8Array(2048);
  while (!isEnough(text)) {
    const length = await connection.read(buffer);
    if (length === null) break;
    text += new TextDecoder().decode(buffer.subarray(0, length));
  }
  return text;
}

async function writeText(connection: TcpConnection, text: string): Promise<void> {
  await writeAll(connection, new TextEncoder().encode(text));
}
