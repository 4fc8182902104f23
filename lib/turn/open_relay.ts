/**
 * Opening relays at a TURN server given by its URI.
 *
 * @module
 */

import { ipFamily, type TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { withHostAddress } from "../net/resolve.ts";
import { systemNetwork } from "../net/system.ts";
import { RFC8489_WAITS_MS } from "../stun/client.ts";
import { type LongTermCredential, opaqueString } from "../stun/credentials.ts";
import { askWithAlternates } from "../stun/transaction.ts";
import {
  allocate,
  type Allocated,
  type AllocationRequest,
  type TurnClientOptions,
} from "./allocation.ts";
import { type DatagramOptions, type DatagramRelay, datagramRelay } from "./datagram_relay.ts";
import { RFC8656_TIMINGS, type TurnTimings } from "./protocol.ts";
import { type StreamRelay, streamRelay } from "./stream_relay.ts";
import { parseTurnUri, type TurnServer } from "./turn_uri.ts";

/** Options of both kinds of relay. */
export interface OpenRelayOptions {
  /** The username and password. Few servers accept requests without them. */
  readonly credential?: LongTermCredential;
  /** Default: the system's network. */
  readonly network?: Network;
  /** The local address to reach the server from. Default: chosen by the system. Not for TLS. */
  readonly local?: TransportAddress;
  /** Certificate authorities to trust in addition to the platform's, PEM; for `turns`. */
  readonly caCerts?: readonly string[];
  /** The lifetime to request. The server decides; 10 minutes is usual. */
  readonly lifetimeSeconds?: number;
  /** How long to wait after each request, in milliseconds. Default: the schedule of RFC 8489 §6.2.1, 39.5 s in all. */
  readonly waitsMs?: readonly number[];
  /** Default: {@linkcode RFC8656_TIMINGS}. */
  readonly timings?: TurnTimings;
  /** Cancels the opening, and releases what the server may have allocated. */
  readonly signal?: AbortSignal;
}

/** Options of {@linkcode openRelay}. */
export interface OpenDatagramRelayOptions
  extends OpenRelayOptions, DatagramOptions, Omit<AllocationRequest, "protocol"> {}

/** Options of {@linkcode openStreamRelay}. The further ones of {@linkcode openRelay} are for datagrams only (RFC 6062 §5.1). */
export interface OpenStreamRelayOptions extends OpenRelayOptions {
  /** The family of the relayed address. Default: the server's, which is IPv4. */
  readonly family?: AllocationRequest["family"];
}

/**
 * Opens a relayed address for datagrams at a TURN server, over the transport that the URI names.
 *
 * @example
 * ```ts ignore
 * import { openRelay } from "@punchline/punchline/turn";
 *
 * const credential = { username: "ann", password: "secret" };
 * await using relay = await openRelay("turn:turn.example.org", { credential });
 * console.log(relay.relayed); // send this to the peer
 * await relay.socket.send(new TextEncoder().encode("hello"), { ip: "192.0.2.1", port: 9000 });
 * const { data, from } = await relay.socket.receive();
 * ```
 *
 * @param uri as {@linkcode parseTurnUri} reads it
 * @throws {TypeError} if the URI is invalid, or RFC 8265 does not allow the credential
 * @throws {RefusedError} if the server refuses; `code` is the error code (RFC 8656 §19), and `remedy` says what to do
 * @throws {NoResponseError} if the server does not respond in time
 * @throws {MalformedMessageError} if the response is invalid, or is not TURN
 * @throws {NetworkError} if the name does not resolve, or the network does not carry the request
 */
export async function openRelay(
  uri: string,
  options: OpenDatagramRelayOptions = {},
): Promise<DatagramRelay> {
  const server = parseTurnUri(uri);
  const client = clientOptions(server.transport, options);
  const allocated = await resolveAndAllocate(server, { ...options, protocol: "udp" }, client);
  return datagramRelay(allocated, { ...options, ...client });
}

/**
 * Opens a relayed address for byte streams at a TURN server (RFC 6062), over TCP or TLS. Streams are reliable and
 * ordered, with back-pressure from end to end. Only this side needs the server.
 *
 * @example
 * ```ts ignore
 * import { openStreamRelay } from "@punchline/punchline/turn";
 *
 * const credential = { username: "ann", password: "secret" };
 * await using relay = await openStreamRelay("turns:turn.example.org", { credential });
 * using outgoing = await relay.connect({ ip: "192.0.2.1", port: 9000 });
 * await relay.permit(["192.0.2.2"]); // this peer may now connect to relay.relayed[0]
 * using incoming = await relay.accept();
 * ```
 *
 * @param uri as {@linkcode parseTurnUri} reads it: `turns:`, or `turn:` with `?transport=tcp`
 * @throws {TypeError} if the URI is invalid or names UDP, or RFC 8265 does not allow the credential
 * @throws {RefusedError} if the server refuses; 442 if it does not relay streams
 * @throws {NoResponseError} if the server does not respond in time
 * @throws {MalformedMessageError} if the response is invalid, or is not TURN
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
      `Cannot relay streams through ${JSON.stringify(uri)}: use turns: or add ?transport=tcp`,
    );
  }
  const client = { ...clientOptions(transport, options), transport };
  const { family, lifetimeSeconds } = options;
  const request: AllocationRequest = { protocol: "tcp", family, lifetimeSeconds };
  return streamRelay(await resolveAndAllocate(server, request, client), client);
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

async function resolveAndAllocate(
  { host, port }: TurnServer,
  request: AllocationRequest,
  options: TurnClientOptions,
): Promise<Allocated> {
  const { network, local, signal } = options;
  const family = local && ipFamily(local.ip);
  const ask = (ip: string) =>
    askWithAlternates(
      { address: { ip, port }, hostname: host },
      (target) => allocate(target, request, options),
    );
  return await withHostAddress(network, host, { family, signal }, ask);
}
