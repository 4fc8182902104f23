/**
 * Ways to signal by their URLs.
 *
 * @module
 */

import { lanTransport } from "./lan.ts";
import { openReconnecting } from "./reconnecting.ts";
import { webSocketTransport } from "./rendezvous/transport.ts";
import type { OpenSignalingOptions, SignalingConnection, SignalTransport } from "./transport.ts";

/**
 * Opens a bus, and keeps it open until it is disposed.
 *
 * @param way a URL that {@linkcode parseSignalUrl} takes, or a transport of one's own
 * @throws {TypeError} if nothing is known that the URL could be
 * @throws as {@linkcode SignalTransport.open}
 */
export async function openSignaling(
  way: string | SignalTransport,
  options: OpenSignalingOptions,
): Promise<SignalingConnection> {
  const transport = typeof way === "string" ? await transportOf(way) : way;
  return await openReconnecting(transport, options);
}

/**
 * Checks that a text is the URL of a way to signal.
 *
 * @returns the same
 * @throws {TypeError} if it is not
 */
export function parseSignalUrl(url: string): string {
  const scheme = /^([a-z+]+):/.exec(url)?.[1];
  const isKnown = scheme !== undefined && Object.hasOwn(TRANSPORTS, scheme);
  if (isKnown && URL.canParse(url) && (scheme === "lan" || HAS_HOST.test(url))) return url;
  const known = Object.keys(TRANSPORTS).map((each) => `${each}:`).join(", ");
  throw new TypeError(`Cannot signal by ${JSON.stringify(url)}: URLs are of ${known}`);
}

/** Of `mqtt://` and the like `URL` takes any, since it does not know them. */
const HAS_HOST = /^[a-z+]+:\/\/(?:[^/?#@]*@)?[^/?#@:]/;

async function transportOf(url: string): Promise<SignalTransport> {
  const [scheme] = parseSignalUrl(url).split(":") as [keyof typeof TRANSPORTS];
  return await TRANSPORTS[scheme](url);
}

/** Only who wants it has to load it. */
async function loadMqtt(url: string): Promise<SignalTransport> {
  const { mqttTransport } = await import("./mqtt/transport.ts");
  return mqttTransport(url);
}

const TRANSPORTS = {
  ws: webSocketTransport,
  wss: webSocketTransport,
  lan: lanTransport,
  mqtt: loadMqtt,
  mqtts: loadMqtt,
  "mqtt+ws": loadMqtt,
  "mqtt+wss": loadMqtt,
} as const;

/**
 * MQTT brokers that let anybody in, as their owners' pages say. They are other people's: a peer says a few messages of
 * two kilobytes for each connection, and nothing once it is connected.
 */
export const PUBLIC_BROKERS: readonly string[] = [
  "mqtts://broker.hivemq.com:8883",
  "mqtts://broker.emqx.io:8883",
  "mqtts://test.mosquitto.org:8886",
];

/** Within a LAN, and by two of the public brokers: one may be down. */
export const DEFAULT_SIGNALING: readonly string[] = ["lan:", ...PUBLIC_BROKERS.slice(0, 2)];
