/**
 * A STUN client: asks a server at which address it sees this host. RFC 8489 §6, §9.2 and §10.
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
import { BINDING, getAttribute, type StunMessage } from "./message.ts";
import {
  alternateOf,
  type AnswerOrAlternate,
  askWithAlternates,
  AuthenticatedTransaction,
  refusedError,
  type ServerTarget,
} from "./transaction.ts";
import { StreamChannel, type StunChannel, type StunTransport, UdpChannel } from "./transport.ts";

/** RFC 8489 §6.2.1: RTO 500 ms, doubled each time, Rc 7 requests, Rm 16: 39.5 s in all. */
export const RFC8489_WAITS_MS: readonly number[] = [500, 1000, 2000, 4000, 8000, 16000, 8000];

/** Ours, for tests of NATs, where a lost packet must not cost half a second: 3.1 s in all. */
export const FAST_BINDING_WAITS_MS: readonly number[] = [100, 200, 400, 800, 1600];

/** What {@linkcode requestBinding} takes. */
export interface RequestBindingOptions {
  /** The network of the host that asks. */
  readonly network: Network;
  /** `udp` unless given. */
  readonly transport?: StunTransport;
  /** Where to leave from; the system's choice unless given. Not for TLS. */
  readonly local?: TransportAddress;
  /** For UDP, a socket to ask from instead of a new one. It stays open; nobody else may receive from it. */
  readonly socket?: UdpSocket;
  /** How long to wait after each request; {@linkcode RFC8489_WAITS_MS} unless given. */
  readonly waitsMs?: readonly number[];
  /** For servers that demand one. */
  readonly credential?: LongTermCredential;
  /** The name in the server's certificate, for TLS; its IP address unless given. */
  readonly hostname?: string;
  /** Certificate authorities to trust beside the platform's, PEM. */
  readonly caCerts?: readonly string[];
  /** More attributes for the request, such as SOFTWARE. A response is only taken from the address that was asked. */
  readonly attributes?: readonly StunAttribute[];
  /** Ends the request. */
  readonly signal?: AbortSignal;
}

/** What a server said. */
export interface StunBinding {
  /** Who answered: not the one that was asked, if that one named another. */
  readonly server: TransportAddress;
  /** What the request ran over. */
  readonly transport: StunTransport;
  /** Where the request left from; a UDP socket that is bound to no address of its own does not know. */
  readonly local: TransportAddress | "unknown";
  /** Where the server saw it come from. */
  readonly mapped: TransportAddress;
  /** Another address and port of the server (RFC 5780 OTHER-ADDRESS, RFC 3489 CHANGED-ADDRESS), if it told one. */
  readonly otherAddress?: TransportAddress;
  /** From the last request to its response; see `Exchanged`. */
  readonly rttMs: number;
  /** How many requests were sent until the last response came. */
  readonly requests: number;
  /** The whole response, without what its integrity did not protect. */
  readonly response: StunMessage;
}

/**
 * Sends a Binding request, with long-term credentials once the server demands them, and follows the server
 * to another if it says so.
 *
 * @throws {RefusedError} if the server answers with an error; `code` is that of RFC 8489 §14.8
 * @throws {NoResponseError} if it does not answer in time
 * @throws {MalformedMessageError} if what answers does not speak STUN, or says what makes no sense
 * @throws {NetworkError} if the network does not carry the request
 * @throws {TypeError} if the credential is no text that RFC 8265 allows
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
      return await converse(stream, target, options);
    });
  }
  // One socket for all servers: a port cannot be bound again as soon as it is closed.
  using disposables = new DisposableStack();
  const socket = options.socket ?? disposables.use(await bindUdp(server, options));
  return await askWithAlternates(first, (target) => {
    const channel = new UdpChannel(socket, target.address, { ...options, waitsMs });
    return converse(channel, target, options);
  });
}

function bindUdp(
  server: TransportAddress,
  { network, local }: RequestBindingOptions,
): Promise<UdpSocket> {
  const wildcard = ipFamily(server.ip) === 4 ? "0.0.0.0" : "::";
  return network.bindUdp(local ?? { ip: wildcard, port: 0 });
}

async function converse(
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
    const binding = { ...read(response, server), transport, local: known(channel) };
    return { kind: "answer", answer: { ...binding, rttMs, requests } };
  }
  const alternate = alternateOf(response, hostname);
  if (alternate !== undefined) return { kind: "alternate", alternate };
  throw refusedError(response, { server, action: "get mapped address" });
}

function read(
  response: StunMessage,
  server: TransportAddress,
): Pick<StunBinding, "server" | "mapped" | "otherAddress" | "response"> {
  const mapped = getAttribute(response, "XOR-MAPPED-ADDRESS") ??
    getAttribute(response, "MAPPED-ADDRESS");
  if (mapped === undefined) {
    throw new MalformedMessageError(
      `Cannot understand ${formatTransportAddress(server)}: its response has no mapped address`,
    );
  }
  const otherAddress = getAttribute(response, "OTHER-ADDRESS") ??
    getAttribute(response, "CHANGED-ADDRESS");
  return { server, mapped, otherAddress, response };
}

function known({ local }: StunChannel): TransportAddress | "unknown" {
  return ipScope(local.ip) === "unspecified" ? "unknown" : local;
}
