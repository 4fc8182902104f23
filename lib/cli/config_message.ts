/**
 * The text of the settings: JSON, with fields that may be left out.
 *
 * ```json
 * {
 *   "rendezvous": ["wss://meet.example"],
 *   "mqtt": ["mqtts://broker.example"],
 *   "turn": ["turn:USER:PASSWORD@relay.example"],
 *   "proxy": "http://USER:PASSWORD@proxy.example:3128",
 *   "key": "/home/me/.config/punchline/key",
 *   "peers": { "laptop": { "ticket": "punchline:...", "servers": [] } }
 * }
 * ```
 *
 * @module
 */

import { malformed } from "../base/errors.ts";

/** The settings of a user. */
export interface UserConfig {
  /** As `--rendezvous`. */
  readonly rendezvous: readonly string[];
  /** As `--mqtt`. */
  readonly mqtt: readonly string[];
  /** As `--turn`. */
  readonly turn: readonly string[];
  /** As `--proxy`: a URL, or `@FILE`. */
  readonly proxy: string | undefined;
  /** As `--key`. */
  readonly key: string | undefined;
  /** Friends, by name. */
  readonly peers: ReadonlyMap<string, FriendEntry>;
}

/** A friend. */
export interface FriendEntry {
  readonly ticket: string;
  /** Private servers of the ticket that the user has agreed to, each a URL and its addresses. */
  readonly servers: readonly string[];
}

/** The text of the settings. */
export function encodeConfig(config: UserConfig): string {
  const { rendezvous, mqtt, turn, proxy, key, peers } = config;
  const fields = {
    ...rendezvous.length > 0 ? { rendezvous } : {},
    ...mqtt.length > 0 ? { mqtt } : {},
    ...turn.length > 0 ? { turn } : {},
    ...proxy === undefined ? {} : { proxy },
    ...key === undefined ? {} : { key },
    ...peers.size > 0 ? { peers: Object.fromEntries(peers) } : {},
  };
  return `${JSON.stringify(fields, null, 2)}\n`;
}

/**
 * Reads the settings. Fields that a later version may add are an error: a misspelt one would be without effect.
 *
 * @throws {MalformedMessageError} if it is not JSON, or a field is unknown or invalid
 */
export function decodeConfig(text: string): UserConfig {
  const fields = recordOf(parse(text), "the settings");
  for (const name of Object.keys(fields)) {
    if (!FIELDS.has(name)) throw malformed("settings", `${JSON.stringify(name)} is unknown`);
  }
  const { proxy, key, peers = {} } = fields;
  if (proxy !== undefined && !isProxy(proxy)) {
    throw malformed("settings", "proxy is a URL, or @FILE with one");
  }
  if (key !== undefined && typeof key !== "string") throw malformed("settings", "key is a path");
  return {
    rendezvous: textsOf(fields.rendezvous, "rendezvous"),
    mqtt: textsOf(fields.mqtt, "mqtt"),
    turn: textsOf(fields.turn, "turn"),
    proxy,
    key,
    peers: new Map(
      Object.entries(recordOf(peers, "peers")).map((
        [name, value],
      ) => [name, friendOf(name, value)]),
    ),
  };
}

/** Whether a friend can have this name: nothing that could be taken for a ticket, a code, an option or a file. */
export function isFriendName(name: string): boolean {
  return /^[a-z][a-z0-9._-]{0,63}$/i.test(name);
}

/** Stdin, which `-` stands for, belongs to the command. */
function isProxy(value: unknown): value is string {
  return typeof value === "string" && value !== "" && value !== "-";
}

function friendOf(name: string, value: unknown): FriendEntry {
  if (!isFriendName(name)) {
    throw malformed("settings", `peers: ${JSON.stringify(name)} is not a name`);
  }
  const { ticket, servers } = recordOf(value, `peers.${name}`);
  if (typeof ticket !== "string") throw malformed("settings", `peers.${name}.ticket is a text`);
  return { ticket, servers: textsOf(servers, `peers.${name}.servers`) };
}

function textsOf(value: unknown = [], field: string): string[] {
  const isList = Array.isArray(value) && value.every((each) => typeof each === "string");
  if (!isList) throw malformed("settings", `${field} is a list of texts`);
  return value;
}

function recordOf(value: unknown, field: string): Readonly<Record<string, unknown>> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Readonly<Record<string, unknown>>;
  }
  throw malformed("settings", `${field}: an object is needed`);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw malformed("settings", "they are not JSON", cause);
  }
}

const FIELDS: ReadonlySet<string> = new Set([
  "rendezvous",
  "mqtt",
  "turn",
  "proxy",
  "key",
  "peers",
]);
