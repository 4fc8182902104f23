/**
 * Unix sockets of the system: connections to the service behind a path, and a path that only its owner can connect to.
 * Never prompts for a permission.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import type { TransportAddress } from "../address.ts";
import type { TcpConnection } from "../network.ts";
import { isFullyGranted, toNetworkError } from "./platform.ts";

/** Accepts connections at a path. */
export interface UnixListener extends Disposable {
  /** The path of its socket. */
  readonly path: string;
  /**
   * The next connection.
   *
   * @throws {NetworkError} `closed` once the listener is closed; another reason if it failed
   */
  accept(): Promise<TcpConnection>;
  /** Stops listening, and removes the socket, unless another one has taken its place; idempotent. */
  close(): void;
}

/**
 * Connects to the service that listens at a path.
 *
 * @throws {NetworkError} `refused` if nothing listens there, `not-permitted`, or another reason, such as a path that is
 * too long
 * @throws the signal's reason on abort
 */
export async function connectUnix(path: string, signal?: AbortSignal): Promise<TcpConnection> {
  const cannot = `Cannot connect to ${path}`;
  requireRoom(cannot, path);
  requirePermissions(cannot, path, { mayBeNamed: true });
  signal?.throwIfAborted();
  try {
    const conn = await Deno.connect({ transport: "unix", path });
    if (!signal?.aborted) return new UnixConnection(conn, path);
    conn.close();
  } catch (error) {
    throw isAbsent(error)
      ? new NetworkError(`${cannot}: no such socket`, "refused", { cause: error })
      : toNetworkError(cannot, error);
  }
  throw signal.reason;
}

/**
 * Listens at a path, where only this user can connect: the socket has the mode 0600 before it can be found. It replaces a
 * socket there only if that was made so too, belongs to this user, and nothing listens at it any more.
 *
 * @throws {NetworkError} `address-in-use` if there is anything else at the path; `not-permitted`, or another reason, such
 * as a path that is too long: its folder has 94 bytes at most
 */
export async function listenUnix(path: string): Promise<UnixListener> {
  const cannot = `Cannot listen at ${path}`;
  // As short as can be: its name takes room that the path may not need.
  const made = `${path.slice(0, path.lastIndexOf("/") + 1)}.${randomName()}/s`;
  for (const each of [path, made]) requireRoom(cannot, each);
  requirePermissions(cannot, path, { mayBeNamed: false }); // it is made under another name
  let folder: string | undefined;
  let listener: Deno.UnixListener | undefined;
  try {
    // Only this user can connect before the mode of the socket is set.
    await Deno.mkdir(made.slice(0, -2), { mode: 0o700 });
    folder = made.slice(0, -2);
    listener = Deno.listen({ transport: "unix", path: made });
    await Deno.chmod(made, MODE);
    await removeDead(path, (await Deno.lstat(made)).uid, cannot);
    await Deno.link(made, path); // fails if something is there
    const { dev, ino } = await Deno.lstat(path);
    return new SystemUnixListener(listener, path, { dev, ino });
  } catch (error) {
    listener?.close();
    if (error instanceof Deno.errors.AlreadyExists) throw inUse(cannot, "it exists", error);
    if (folder === undefined && isAbsent(error)) {
      throw new NetworkError(`${cannot}: its folder does not exist`, "other", {
        cause: error,
        remedy: "Check the spelling of the path, or make the folder",
      });
    }
    throw toNetworkError(cannot, error);
  } finally {
    if (folder !== undefined) await Deno.remove(folder, { recursive: true });
  }
}

/** @throws {NetworkError} if systems have no room for the path in the address of a socket */
function requireRoom(cannot: string, path: string): void {
  if (new TextEncoder().encode(path).length <= MAX_PATH_BYTES) return;
  throw new NetworkError(
    `${cannot}: a socket's path has at most ${MAX_PATH_BYTES} bytes`,
    "other",
    {
      remedy: "Use a shorter path, in a folder of at most 94 bytes",
    },
  );
}

function randomName(): string {
  return crypto.getRandomValues(new Uint8Array(3)).toHex();
}

/** @throws {NetworkError} if there is anything at the path that is to stay */
async function removeDead(path: string, owner: number | null, cannot: string): Promise<void> {
  const found = await Deno.lstat(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
  if (found === undefined) return;
  if (!found.isSocket) throw inUse(cannot, "it is not a socket");
  const isOurs = found.uid === owner && ((found.mode ?? 0) & 0o777) === MODE;
  if (!isOurs) throw inUse(cannot, "the socket there is not one of this user's for forwarding");
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return await Deno.remove(path);
  }
  throw inUse(cannot, "another program listens there");
}

function inUse(cannot: string, why: string, cause?: unknown): NetworkError {
  return new NetworkError(`${cannot}: ${why}`, "address-in-use", {
    cause,
    remedy: "Choose another path, or remove what is there",
  });
}

/**
 * Deno asks for three permissions. Otherwise it would stop the program with a prompt.
 *
 * @param mayBeNamed whether it is enough if `--allow-net` names this path
 * @throws {NetworkError} `not-permitted` if one of them has not been granted
 */
function requirePermissions(
  cannot: string,
  path: string,
  { mayBeNamed }: { readonly mayBeNamed: boolean },
): void {
  const isGranted = (permission: Deno.PermissionDescriptor) =>
    Deno.permissions.querySync(permission).state === "granted";
  const mayConnect = isFullyGranted("net") ||
    mayBeNamed && path.startsWith("/") && isGranted({ name: "net", host: `unix:${path}` });
  const missing = !mayConnect
    ? "net"
    : !isGranted({ name: "read", path })
    ? "read"
    : !isGranted({ name: "write", path })
    ? "write"
    : undefined;
  if (missing === undefined) return;
  throw new NetworkError(`${cannot}: --allow-${missing} is not granted for it`, "not-permitted", {
    remedy: "Run the program with --allow-net, --allow-read and --allow-write",
  });
}

function isAbsent(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory;
}

class SystemUnixListener implements UnixListener {
  readonly path: string;
  readonly #listener: Deno.UnixListener;
  readonly #file: Pick<Deno.FileInfo, "dev" | "ino">;
  #isClosed = false;

  constructor(
    listener: Deno.UnixListener,
    path: string,
    file: Pick<Deno.FileInfo, "dev" | "ino">,
  ) {
    this.#listener = listener;
    this.path = path;
    this.#file = file;
  }

  async accept(): Promise<TcpConnection> {
    try {
      return new UnixConnection(await this.#listener.accept(), this.path);
    } catch (error) {
      const cannot = `Cannot accept at ${this.path}`;
      if (this.#isClosed) throw new NetworkError(`${cannot}: the listener is closed`, "closed");
      throw toNetworkError(cannot, error);
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      const { dev, ino } = Deno.lstatSync(this.path);
      if (dev === this.#file.dev && ino === this.#file.ino) Deno.removeSync(this.path);
    } catch {
      // it is gone, or may not be removed
    }
    this.#listener.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A connection by a Unix socket, which has neither addresses nor a reset. */
class UnixConnection implements TcpConnection {
  readonly local = NO_ADDRESS;
  readonly remote = NO_ADDRESS;
  readonly #conn: Deno.UnixConn;
  readonly #path: string;
  #isClosed = false;

  constructor(conn: Deno.UnixConn, path: string) {
    this.#conn = conn;
    this.#path = path;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    try {
      return await this.#conn.read(buffer);
    } catch (error) {
      throw this.#failure("read from", error);
    }
  }

  async write(data: Uint8Array): Promise<number> {
    try {
      return await this.#conn.write(data);
    } catch (error) {
      throw this.#failure("write to", error);
    }
  }

  async closeWrite(): Promise<void> {
    try {
      await this.#conn.closeWrite();
    } catch (error) {
      throw this.#failure("close", error);
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#conn.close();
  }

  /** As `close()`: the other end is told of a reset only if it has sent what was not read. */
  reset(): void {
    this.close();
  }

  ref(): void {
    this.#conn.ref();
  }

  unref(): void {
    this.#conn.unref();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #failure(verb: string, error: unknown): NetworkError {
    const cannot = `Cannot ${verb} ${this.#path}`;
    if (this.#isClosed) return new NetworkError(`${cannot}: the connection is closed`, "closed");
    return toNetworkError(cannot, error);
  }
}

const NO_ADDRESS: TransportAddress = { ip: "0.0.0.0", port: 0 };

/** What macOS has room for; Linux has four bytes more. */
const MAX_PATH_BYTES = 103;

/** Only its owner may connect. */
const MODE = 0o600;
