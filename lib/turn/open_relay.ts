/**
 * Relays by the URI of their server.
 *
 * @module
 */

import { ipFamily, type TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import { askWithAlternates } from "../stun/alternate_server.ts";
import { RFC8489_WAITS_MS } from "../stun/client.ts";
import { type LongTermCredential, opaqueString } from "../stun/credentials.ts";
import { resolveServer } from "../stun/resolve_server.ts";
import { allocate, type Allocated, type TurnClientOptions } from "./allocate.ts";
import type { AllocationRequest } from "./allocation.ts";
import { type DatagramOptions, type DatagramRelay, datagramRelay } from "./datagram_relay.ts";
import { type StreamRelay, streamRelay } from "./stream_relay.ts";
import { RFC8656_TIMINGS, type TurnTimings } from "./timings.ts";
import { parseTurnUri, type TurnServer } from "./uri.ts";

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
  const ip = await resolveServer(network, host, { family: local && ipFamily(local.ip), signal });
  return await askWithAlternates(
    { address: { ip, port }, hostname: host },
    (target) => allocate(target, request, options),
  );
}
