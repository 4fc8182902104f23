/**
 * What commands have learned of signaling servers, beside the settings: `servers.json`, which only its owner can read. The
 * next command tries first what worked last time, and leaves out public brokers that are dead.
 *
 * ```json
 * { "version": 1, "servers": { "47DEQpj8HBSa-_TImW-5JA": { "works": true, "rttMs": 18, "atMs": 1764374400000 } } }
 * ```
 *
 * Servers are named by a hash: their URLs may have logins and access keys, and nothing else has to know who was met where.
 * A file that holds something else counts as empty. Whatever goes wrong with it, no command fails or waits for that.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import { hash } from "../base/crypto.ts";
import { readPrivateFile, writePrivateFile } from "../net/system/private_file.ts";
import type { KnownServer, ServerRecord } from "../peer/pools.ts";

/** How a server did, in the file. */
export interface FiledServer {
  /** Whether it could be reached. */
  readonly works: boolean;
  /** The shortest round trip that was measured. */
  readonly rttMs?: number;
  /** When, in milliseconds since 1970. */
  readonly atMs: number;
}

/** The file, as it was when the command started. */
export class ServerFile implements ServerRecord {
  readonly #path: string;
  readonly #servers: ReadonlyMap<string, FiledServer>;

  private constructor(path: string, servers: ReadonlyMap<string, FiledServer>) {
    this.#path = path;
    this.#servers = servers;
  }

  /** Reads the file. One that does not exist, may not be read or holds something else counts as empty. */
  static async open(path: string): Promise<ServerFile> {
    return new ServerFile(path, await readServers(path));
  }

  recall(url: string): KnownServer | undefined {
    const filed = this.#servers.get(nameOf(url));
    if (filed === undefined) return undefined;
    const { works, rttMs, atMs } = filed;
    return {
      works,
      ...rttMs === undefined ? {} : { rttMs },
      ...works ? {} : { failedAtMs: performance.now() - (Date.now() - atMs) },
    };
  }

  /** Writes the file if it would say something new, together with what other commands have written in the meantime. */
  async keep(servers: ReadonlyMap<string, KnownServer>): Promise<void> {
    const learned = new Map<string, FiledServer>();
    for (const [url, { works, rttMs, failedAtMs }] of servers) {
      if (works === undefined || !SERVER.test(url)) continue;
      const atMs = Math.round(Date.now() - (works ? 0 : performance.now() - failedAtMs!));
      const measured = rttMs === undefined ? {} : { rttMs: Math.round(rttMs) };
      learned.set(nameOf(url), { works, ...measured, atMs });
    }
    if (![...learned].some(([name, filed]) => isNews(filed, this.#servers.get(name)))) return;
    try {
      // Of two commands that do this at once, one may be lost. Waiting for each other would be worse.
      const all = new Map([...await readServers(this.#path), ...learned]);
      await writePrivateFile(this.#path, encodeServers(all));
    } catch {
      // It is not permitted, or there is no space: the next command learns it again.
    }
  }
}

/** The text of the file: the servers that were used last. */
export function encodeServers(servers: ReadonlyMap<string, FiledServer>): string {
  const latest = [...servers].sort(([, a], [, b]) => b.atMs - a.atMs).slice(0, MAX_SERVERS);
  return `${JSON.stringify({ version: 1, servers: Object.fromEntries(latest) })}\n`;
}

/**
 * Reads the text. What is not as this program writes it is left out, and so is what is older than a month or from the
 * future.
 */
export function decodeServers(text: string, nowMs: number): Map<string, FiledServer> {
  const servers = new Map<string, FiledServer>();
  const { version, servers: entries } = recordOf(parse(text));
  if (version !== 1) return servers;
  for (const [name, value] of Object.entries(recordOf(entries)).slice(0, MAX_SERVERS)) {
    const { works, rttMs, atMs } = recordOf(value);
    if (!NAME.test(name) || typeof works !== "boolean") continue;
    if (!isNumberIn(atMs, nowMs - MAX_AGE_MS, nowMs)) continue;
    if (rttMs !== undefined && !isNumberIn(rttMs, 0, MAX_RTT_MS)) continue;
    servers.set(name, { works, ...rttMs === undefined ? {} : { rttMs }, atMs });
  }
  return servers;
}

async function readServers(path: string): Promise<Map<string, FiledServer>> {
  try {
    return decodeServers(await readPrivateFile(path, MAX_BYTES) ?? "", Date.now());
  } catch {
    return new Map(); // it is too large, a folder, or cannot be read
  }
}

/** Each failure is news, because it says when; a success that is known is news once a day. */
function isNews(filed: FiledServer, known: FiledServer | undefined): boolean {
  if (known === undefined || known.works !== filed.works) return true;
  if (filed.atMs - known.atMs > RENEW_MS || !filed.works) return true;
  return filed.rttMs !== undefined && known.rttMs === undefined;
}

function nameOf(url: string): string {
  return toBase64url(hash("sha256", new TextEncoder().encode(url)).subarray(0, 16));
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

function isNumberIn(value: unknown, min: number, max: number): value is number {
  return typeof value === "number" && value >= min && value <= max;
}

/** The LAN, and people who copy messages, are no servers. */
const SERVER = /^(?:ws|mqtt)/i;

/** 16 bytes in Base64url. */
const NAME = /^[\w-]{22}$/;

/** Chosen by us: a peer remembers as many. */
const MAX_SERVERS = 256;

/** Chosen by us: 256 servers have some 20 KB. */
const MAX_BYTES = 65_536;

/** Chosen by us: networks change more often. */
const MAX_AGE_MS = 30 * 86_400_000;

/** Chosen by us: a server that works as before is written down once a day. */
const RENEW_MS = 86_400_000;

/** Chosen by us: an answer that takes longer counts as lost. */
const MAX_RTT_MS = 60_000;
