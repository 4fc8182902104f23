/**
 * A STUN client: asks a server for the address that it sees this host at. RFC 8489 §6, §9.2 and §10.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  type TransportAddress,
} from "../net/address.ts";
import type { Network, UdpSocket } from "../net/network.ts";
import type { StunAttribute } from "./attributes.ts";
import { type LongTermCredential, opaqueString } from "./credentials.ts";
import {
  BINDING,
  decodeMessage,
  encodeMessage,
  getAttribute,
  mappedAddress,
  type StunMessage,
  unmapped,
} from "./message.ts";
import {
  alternateOf,
  type AnswerOrAlternate,
  askWithAlternates,
  AuthenticatedTransaction,
  refusedError,
  type ServerTarget,
} from "./transaction.ts";
import { StreamChannel, type StunChannel, type StunTransport, UdpChannel } from "./transport.ts";

/** Options of {@linkcode requestBinding}. */
export interface RequestBindingOptions {
  /** The network to send the request from. */
  readonly network: Network;
  /** Default: `"udp"`. */
  readonly transport?: StunTransport;
  /** The local address to send from. Default: chosen by the system. Not for TLS. */
  readonly local?: TransportAddress;
  /** For UDP, a socket to use instead of a new one. It stays open; nothing else may receive from it. */
  readonly socket?: UdpSocket;
  /** How long to wait after each request, in milliseconds. Default: {@linkcode RFC8489_WAITS_MS}. */
  readonly waitsMs?: readonly number[];
  /** For servers that require one. */
  readonly credential?: LongTermCredential;
  /** The name in the server's certificate, for TLS. Default: its IP address. */
  readonly hostname?: string;
  /** Certificate authorities to trust in addition to the platform's, PEM. */
  readonly caCerts?: readonly string[];
  /** Further attributes of the request, such as SOFTWARE. Only responses from the address it was sent to count. */
  readonly attributes?: readonly StunAttribute[];
  /** Cancels the request. */
  readonly signal?: AbortSignal;
}

/** The result of a Binding request. */
export interface StunBinding {
  /** The server that answered; a different one from the one asked if that redirected the request. */
  readonly server: TransportAddress;
  /** The transport of the request. */
  readonly transport: StunTransport;
  /**
   * The local address of the request; `"unknown"` for a UDP socket bound to a wildcard address, except that
   * {@linkcode stunBinding} recognises the mapped address if it is this host's own.
   */
  readonly local: TransportAddress | "unknown";
  /** The address that the server saw the request come from. */
  readonly mapped: TransportAddress;
  /** The other address and port of the server (RFC 5780 OTHER-ADDRESS, RFC 3489 CHANGED-ADDRESS), if it has one. */
  readonly otherAddress?: TransportAddress;
  /**
   * The time from the last request to the response. After a retransmission, the response may be to an earlier request,
   * and the round trip longer.
   */
  readonly rttMs: number;
  /** How many requests were sent until the response arrived, after any challenge. */
  readonly requests: number;
  /** The whole response, without attributes that its integrity does not cover. */
  readonly response: StunMessage;
}

/**
 * Sends a Binding request. It uses long-term credentials if the server requires them, and follows redirects.
 *
 * @throws {RefusedError} if the server responds with an error; `code` is the error code (RFC 8489 §14.8)
 * @throws {NoResponseError} if the server does not respond in time
 * @throws {MalformedMessageError} if the response is invalid, or is not STUN
 * @throws {NetworkError} if the network does not carry the request
 * @throws {TypeError} if RFC 8265 does not allow the credential
 */
export async function requestBinding(
  server: TransportAddress,
  options: RequestBindingOptions,
): Promise<StunBinding> {
  const { credential } = options;
  if (credential !== undefined) {
    opaqueString(credential.username);
    opaqueString(credential.password);
  }
  warmUp();
  const { transport = "udp", waitsMs = RFC8489_WAITS_MS } = options;
  const first: ServerTarget = { address: server, hostname: options.hostname ?? server.ip };
  if (transport !== "udp") {
    return await askWithAlternates(first, async (target) => {
      const { address, hostname } = target;
      using stream = await StreamChannel.open(address, {
        ...options,
        transport,
        waitsMs,
        hostname,
      });
      return await requestOver(stream, target, options);
    });
  }
  // One socket for all servers: a port cannot be bound again immediately after it is closed.
  using disposables = new DisposableStack();
  const socket = options.socket ?? disposables.use(await bindUdp(server, options));
  return await askWithAlternates(first, (target) => {
    const channel = new UdpChannel(socket, target.address, { ...options, waitsMs });
    return requestOver(channel, target, options);
  });
}

/** Runs the codec once before the first request, so that the first round trip is not longer than the others. */
export function warmUp(): void {
  if (isWarm) return;
  isWarm = true;
  const value = { ip: "192.0.2.1", port: 1 };
  const attributes = [{ type: "XOR-MAPPED-ADDRESS", value }, {
    type: "SOFTWARE",
    value: "-",
  }] as const;
  const message = {
    class: "success",
    method: BINDING,
    transactionId: new Uint8Array(12),
    attributes,
  } as const;
  mappedAddress(decodeMessage(encodeMessage(message)));
}

let isWarm = false;

function bindUdp(
  server: TransportAddress,
  { network, local }: RequestBindingOptions,
): Promise<UdpSocket> {
  const wildcard = ipFamily(server.ip) === 4 ? "0.0.0.0" : "::";
  return network.bindUdp(local ?? { ip: wildcard, port: 0 });
}

async function requestOver(
  channel: StunChannel,
  { address: server, hostname }: ServerTarget,
  options: RequestBindingOptions,
): Promise<AnswerOrAlternate<StunBinding>> {
  const { attributes = [], credential, transport = "udp" } = options;
  const transaction = new AuthenticatedTransaction(server, credential);
  const { answer: response, requests, rttMs } = await transaction.ask(channel, {
    method: BINDING,
    attributes,
  });
  if (response.class === "success") {
    const binding = { ...readBinding(response, server), transport, local: localOf(channel) };
    return { kind: "answer", answer: { ...binding, rttMs, requests } };
  }
  const alternate = alternateOf(response, hostname);
  if (alternate !== undefined) return { kind: "alternate", alternate };
  throw refusedError(response, { server, action: "get mapped address" });
}

function readBinding(
  response: StunMessage,
  server: TransportAddress,
): Pick<StunBinding, "server" | "mapped" | "otherAddress" | "response"> {
  const mapped = mappedAddress(response);
  if (mapped !== undefined && isNoAddress(mapped)) {
    throw new MalformedMessageError(
      `Cannot understand ${formatTransportAddress(server)}: it says that this host is at ${
        formatTransportAddress(mapped)
      }, which is no address`,
      { remedy: "Name another STUN server" },
    );
  }
  if (mapped === undefined) {
    throw new MalformedMessageError(
      `Cannot understand ${formatTransportAddress(server)}: its response has no mapped address`,
    );
  }
  const otherAddress = getAttribute(response, "OTHER-ADDRESS") ??
    getAttribute(response, "CHANGED-ADDRESS");
  return { server, mapped, otherAddress: otherAddress && unmapped(otherAddress), response };
}

function isNoAddress({ ip, port }: TransportAddress): boolean {
  return port === 0 || ["unspecified", "multicast"].includes(ipScope(ip));
}

function localOf({ local }: StunChannel): TransportAddress | "unknown" {
  return ipScope(local.ip) === "unspecified" ? "unknown" : local;
}

/** RFC 8489 §6.2.1: an RTO of 500 ms that doubles each time, Rc = 7 requests, Rm = 16: 39.5 s in all. */
export const RFC8489_WAITS_MS: readonly number[] = [500, 1000, 2000, 4000, 8000, 16000, 8000];

/** Chosen by us for NAT tests, in which a lost packet must not cost half a second: 3.1 s in all. */
export const FAST_BINDING_WAITS_MS: readonly number[] = [100, 200, 400, 800, 1600];
