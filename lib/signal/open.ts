/**
 * Opens signaling connections by URL.
 *
 * @module
 */

import { loginOf } from "../base/login.ts";
import { shownUrl } from "../base/redact.ts";
import { lanTransport } from "./lan.ts";
import { openReconnecting } from "./reconnecting.ts";
import { webSocketTransport } from "./rendezvous/transport.ts";
import type { OpenSignalingOptions, SignalingConnection, SignalTransport } from "./transport.ts";

/**
 * Opens a signaling connection and keeps it open until it is disposed: when it is lost, it is opened again with all its
 * subscriptions, after half a second at first and a minute at most.
 *
 * @param way a URL that {@linkcode parseSignalUrl} accepts, or a transport of your own
 * @throws {TypeError} if the URL is not one of a known transport
 * @throws as {@linkcode SignalTransport.open}, if the first attempt fails
 * @throws {NetworkError} `timed-out` if the first attempt takes 15 seconds
 *
 * @example
 * ```ts
 * import { openSignaling } from "./open.ts";
 * import { serveRendezvous } from "./rendezvous/server.ts";
 * import { systemNetwork as network } from "../net/system.ts";
 *
 * await using server = await serveRendezvous({ network, local: { ip: "127.0.0.1", port: 0 } });
 * await using signaling = await openSignaling(server.url, { network });
 * await signaling.publish("AAAAAAAAAAAAAAAAAAAAAA", new TextEncoder().encode("hello"));
 * ```
 */
export async function openSignaling(
  way: string | SignalTransport,
  options: OpenSignalingOptions,
): Promise<SignalingConnection> {
  const transport = typeof way === "string" ? await transportOf(way) : way;
  return await openReconnecting(transport, options);
}

/**
 * Checks that a text is the URL of a known transport.
 *
 * @returns the text, unchanged
 * @throws {TypeError} if it is not
 */
export function parseSignalUrl(url: string): string {
  const scheme = /^([a-z+]+):/.exec(url)?.[1];
  loginOf(url, `Cannot signal by a ${scheme}: URL`);
  const isKnown = scheme !== undefined && Object.hasOwn(TRANSPORTS, scheme) && isPrintable(url);
  if (isKnown && URL.canParse(url) && (scheme === "lan" || HAS_HOST.test(url))) return url;
  const known = Object.keys(TRANSPORTS).map((each) => `${each}:`).join(", ");
  throw new TypeError(`Cannot signal by ${JSON.stringify(shownUrl(url))}: use a URL of ${known}`);
}

/** Control characters are dropped by some parsers, and obeyed by some servers. */
function isPrintable(url: string): boolean {
  return !/[\p{Cc}\s]/u.test(url);
}

async function transportOf(url: string): Promise<SignalTransport> {
  const [scheme] = parseSignalUrl(url).split(":") as [keyof typeof TRANSPORTS];
  return await TRANSPORTS[scheme](url);
}

/** Loaded only when it is used. */
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

/** `URL` does not know `mqtt://` and the like, and accepts them without a host. */
const HAS_HOST = /^[a-z+]+:\/\/(?:[^/?#@]*@)?[^/?#@:]/;

/**
 * MQTT brokers that are open to anyone, according to their operators' pages. They belong to others: a peer publishes
 * a few messages of two kilobytes per connection, and nothing once it is connected.
 */
export const PUBLIC_BROKERS: readonly string[] = [
  "mqtts://broker.hivemq.com:8883",
  "mqtts://broker.emqx.io:8883",
  "mqtts://test.mosquitto.org:8886",
];

/** The LAN, and two of the public brokers: one may be down. */
export const DEFAULT_SIGNALING: readonly string[] = ["lan:", ...PUBLIC_BROKERS.slice(0, 2)];
