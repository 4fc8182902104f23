/**
 * Relays by the URI of their server.
 *
 * @module
 */

import { ipFamily, parseHostPort, type TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import { resolveHost } from "../net/resolve.ts";
import { RFC8489_WAITS_MS } from "../stun/client.ts";
import { type LongTermCredential, opaqueString } from "../stun/credentials.ts";
import { askWithAlternates } from "../stun/transaction.ts";
import type { StunTransport } from "../stun/transport.ts";
import {
  allocate,
  type Allocated,
  type AllocationRequest,
  type TurnClientOptions,
} from "./allocation.ts";
import { type DatagramOptions, type DatagramRelay, datagramRelay } from "./datagram_relay.ts";
import { RFC8656_TIMINGS, type TurnTimings } from "./protocol.ts";
import { type StreamRelay, streamRelay } from "./stream_relay.ts";

/** What a TURN URI says. */
export interface TurnServer {
  /** A name or an IP address. */
  readonly host: string;
  /** The URI's, or the scheme's: 3478, and 5349 for `turns`. */
  readonly port: number;
  /** How to talk to the server. What it relays is another matter. */
  readonly transport: StunTransport;
}

/**
 * Reads `turn:host`, `turn:host:3478?transport=tcp`, `turns:[2001:db8::1]:5349`.
 *
 * @example
 * ```ts
 * import { parseTurnUri } from "@punchline/punchline/turn";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(parseTurnUri("turn:turn.example.org?transport=tcp"), {
 *   host: "turn.example.org",
 *   port: 3478,
 *   transport: "tcp",
 * });
 * ```
 *
 * @throws {TypeError} if it is not a TURN URI, or asks for DTLS (`turns` over UDP), which is not spoken here
 */
export function parseTurnUri(uri: string): TurnServer {
  if (uri.includes("@")) { // it may hold a password: it is not repeated
    throw new TypeError(
      "Cannot parse TURN URI: there is an @ in it; the user and the password go into the credential",
    );
  }
  const parts = /^(turns?):([^?/@#]+)(?:\?transport=(.*))?$/i.exec(uri);
  if (parts === null) {
    throw new TypeError(
      `Cannot parse TURN URI: it is turn:host[:port][?transport=udp|tcp] or turns:..., not ${
        JSON.stringify(uri)
      }`,
    );
  }
  const secure = parts[1]!.toLowerCase() === "turns";
  const { host, port } = parseHostPort(parts[2]!, secure ? TURNS_PORT : TURN_PORT);
  return { host, port, transport: transportOf(uri, secure, parts[3]?.toLowerCase()) };
}

function transportOf(uri: string, secure: boolean, transport?: string): StunTransport {
  const cannot = `Cannot use ${JSON.stringify(uri)}`;
  if (transport !== undefined && transport !== "udp" && transport !== "tcp") {
    throw new TypeError(`${cannot}: the transport is udp or tcp, not ${JSON.stringify(transport)}`);
  }
  if (!secure) return transport ?? "udp";
  if (transport !== "udp") return "tls";
  throw new TypeError(`${cannot}: it asks for DTLS; leave out transport=udp to use TLS over TCP`);
}

/** RFC 8656 §3.1. */
const TURN_PORT = 3478;
const TURNS_PORT = 5349;

/** What both kinds of relay take. */
export interface OpenRelayOptions {
  /** Who is known to the server. Servers that let anybody in are rare. */
  readonly credential?: LongTermCredential;
  /** The system's own unless given. */
  readonly network?: Network;
  /** Where to leave from to the server; the system's choice unless given. Not for TLS. */
  readonly local?: TransportAddress;
  /** Certificate authorities to trust beside the platform's, PEM; for `turns`. */
  readonly caCerts?: readonly string[];
  /** For how long to ask at a time, until the next refresh. The server decides; 10 minutes are usual. */
  readonly lifetimeSeconds?: number;
  /** How long to wait after each request; as RFC 8489 §6.2.1 says, 39.5 s in all, unless given. */
  readonly waitsMs?: readonly number[];
  /** {@linkcode RFC8656_TIMINGS} unless given. */
  readonly timings?: TurnTimings;
  /** Gives the opening up, and releases what the server may have allocated. */
  readonly signal?: AbortSignal;
}

/** What {@linkcode openRelay} takes. */
export interface OpenDatagramRelayOptions
  extends OpenRelayOptions, DatagramOptions, Omit<AllocationRequest, "protocol"> {}

/** What {@linkcode openStreamRelay} takes; the other wishes are for datagrams only (RFC 6062 §5.1). */
export interface OpenStreamRelayOptions extends OpenRelayOptions {
  /** Of the relayed address; the server's default, which is IPv4, unless given. */
  readonly family?: AllocationRequest["family"];
}

/**
 * Opens a relayed address for datagrams at a TURN server, over whatever transport its URI names.
 *
 * @example
 * ```ts ignore
 * import { openRelay } from "@punchline/punchline/turn";
 *
 * const credential = { username: "ann", password: "secret" };
 * await using relay = await openRelay("turn:turn.example.org", { credential });
 * console.log(relay.relayed); // what to tell the peer
 * await relay.socket.send(new TextEncoder().encode("hello"), { ip: "192.0.2.1", port: 9000 });
 * const { data, from } = await relay.socket.receive();
 * ```
 *
 * @param uri as {@linkcode parseTurnUri} reads it
 * @throws {TypeError} if the URI is none, or the credential is no text that RFC 8265 allows
 * @throws {RefusedError} if the server refuses; `code` is that of RFC 8656 §19, the message has a remedy
 * @throws {NoResponseError} if the server does not answer in time
 * @throws {MalformedMessageError} if what answers does not speak TURN, or says what makes no sense
 * @throws {NetworkError} if the name does not resolve, or the network does not carry the request
 */
export async function openRelay(
  uri: string,
  options: OpenDatagramRelayOptions = {},
): Promise<DatagramRelay> {
  const server = parseTurnUri(uri);
  const client = clientOptions(server.transport, options);
  const allocated = await find(server, { ...options, protocol: "udp" }, client);
  return datagramRelay(allocated, { ...options, ...client });
}

/**
 * Opens a relayed address for byte streams at a TURN server (RFC 6062), over TCP or TLS. Each stream is in
 * order and reliable, with back-pressure from end to end, and only this side needs the server.
 *
 * @example
 * ```ts ignore
 * import { openStreamRelay } from "@punchline/punchline/turn";
 *
 * const credential = { username: "ann", password: "secret" };
 * await using relay = await openStreamRelay("turns:turn.example.org", { credential });
 * using outgoing = await relay.connect({ ip: "192.0.2.1", port: 9000 });
 * await relay.permit(["192.0.2.2"]); // who may dial relay.relayed[0]
 * using incoming = await relay.accept();
 * ```
 *
 * @param uri as {@linkcode parseTurnUri} reads it, with `?transport=tcp` unless it is `turns:`
 * @throws {TypeError} if the URI is none or names UDP, or the credential is no text that RFC 8265 allows
 * @throws {RefusedError} if the server refuses; 442 if it relays no streams
 * @throws {NoResponseError} if the server does not answer in time
 * @throws {MalformedMessageError} if what answers does not speak TURN, or says what makes no sense
 * @throws {NetworkError} if the name does not resolve, or the network does not carry the request
 */
export async function openStreamRelay(
  uri: string,
  options: OpenStreamRelayOptions = {},
): Promise<StreamRelay> {
  const server = parseTurnUri(uri);
  const { transport } = server;
  if (transport === "udp") {
    throw new TypeError(
      `Cannot relay streams by ${JSON.stringify(uri)}: it takes turns:, or ?transport=tcp`,
    );
  }
  const client = { ...clientOptions(transport, options), transport };
  const { family, lifetimeSeconds } = options;
  const request: AllocationRequest = { protocol: "tcp", family, lifetimeSeconds };
  return streamRelay(await find(server, request, client), client);
}

function clientOptions(
  transport: TurnServer["transport"],
  options: OpenRelayOptions,
): TurnClientOptions {
  const { credential, network = systemNetwork, local, caCerts, signal } = options;
  const { waitsMs = RFC8489_WAITS_MS, timings = RFC8656_TIMINGS } = options;
  if (credential !== undefined) {
    opaqueString(credential.username);
    opaqueString(credential.password);
  }
  return { network, transport, credential, local, caCerts, waitsMs, timings, signal };
}

async function find(
  { host, port }: TurnServer,
  request: AllocationRequest,
  options: TurnClientOptions,
): Promise<Allocated> {
  const { network, local, signal } = options;
  const ip = await resolveHost(network, host, { family: local && ipFamily(local.ip), signal });
  return await askWithAlternates(
    { address: { ip, port }, hostname: host },
    (target) => allocate(target, request, options),
  );
}
