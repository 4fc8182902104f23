/**
 * A STUN client: asks a server at which address it sees this host. RFC 8489 §6, §9.2 and §10.
 *
 * @module
 */

import { MalformedMessageError, RefusedError } from "../errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  type TransportAddress,
} from "../net/address.ts";
import type { Network, UdpSocket } from "../net/network.ts";
import { equalBytes } from "../bytes.ts";
import { askWithAlternates, type Outcome, type Target, TRY_ALTERNATE } from "./alternate_server.ts";
import type { StunAttribute } from "./attributes.ts";
import { answerChallenge, type Authentication } from "./authentication.ts";
import { type LongTermCredential, opaqueString } from "./credentials.ts";
import type { StunErrorCode } from "./error_code.ts";
import { verifyIntegrity } from "./integrity.ts";
import {
  BINDING,
  decodeMessage,
  encodeMessage,
  getAttribute,
  protectedPart,
  type StunMessage,
  unknownRequiredAttributes,
} from "./message.ts";
import { StreamChannel, type StunChannel, type StunTransport, UdpChannel } from "./transport.ts";

/** RFC 8489 §6.2.1: RTO 500 ms, doubled each time, Rc 7 requests, Rm 16: 39.5 s in all. */
export const RFC8489_WAITS_MS: readonly number[] = [500, 1000, 2000, 4000, 8000, 16000, 8000];

/** Ours, for tests of NATs, where a lost packet must not cost half a second: 3.1 s in all. */
export const FAST_WAITS_MS: readonly number[] = [100, 200, 400, 800, 1600];

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
  const first: Target = { address: server, hostname: options.hostname ?? server.ip };
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
  { address: server, hostname }: Target,
  options: RequestBindingOptions,
): Promise<Outcome<StunBinding>> {
  const { credential, transport = "udp" } = options;
  let authentication: Authentication | undefined;
  for (let challenges = 0;; challenges++) {
    const { answer: response, requests, rttMs } = await transact(channel, options, authentication);
    if (response.class === "success") {
      return {
        kind: "answer",
        answer: { ...read(response, server), transport, local: known(channel), rttMs, requests },
      };
    }

    const error = getAttribute(response, "ERROR-CODE");
    if (error === undefined) {
      throw new MalformedMessageError(
        `Cannot understand ${formatTransportAddress(server)}: its error has no ERROR-CODE`,
      );
    }
    const { code } = error;
    const alternate = getAttribute(response, "ALTERNATE-SERVER");
    if (code === TRY_ALTERNATE && alternate !== undefined) {
      const domain = getAttribute(response, "ALTERNATE-DOMAIN");
      return { kind: "alternate", alternate: { address: alternate, hostname: domain ?? hostname } };
    }
    const answerable = code === STALE_NONCE ||
      (code === UNAUTHENTICATED && authentication === undefined);
    if (!answerable || credential === undefined || challenges === MAX_CHALLENGES) {
      throw refused(server, error, getAttribute(response, "UNKNOWN-ATTRIBUTES"));
    }
    authentication = answerChallenge(response, credential, authentication);
  }
}

function transact(
  channel: StunChannel,
  { attributes = [] }: RequestBindingOptions,
  authentication: Authentication | undefined,
) {
  // RFC 8489 §6.2: what is not a retransmission has an id of its own.
  const transactionId = crypto.getRandomValues(new Uint8Array(12));
  const request = encodeMessage({
    class: "request",
    method: BINDING,
    transactionId,
    attributes: [...attributes, ...authentication?.attributes ?? []],
  }, { integrity: authentication?.integrity });

  return channel.transact(request, (bytes): StunMessage | undefined => {
    const response = decodeMessage(bytes);
    const { class: kind, method } = response;
    if (kind !== "success" && kind !== "error" || method !== BINDING) return undefined;
    if (!equalBytes(response.transactionId, transactionId)) return undefined;
    if (authentication === undefined) return response;
    const integrity = verifyIntegrity(bytes, authentication.integrity);
    if (integrity === "valid") return protectedPart(response);
    // RFC 8489 §9.2.5: as if it had not come. An error without integrity is let through, because servers
    // that cannot tell who asks send such; all that it can do is to end the request.
    return kind === "error" && integrity === "absent" ? response : undefined;
  });
}

function read(
  response: StunMessage,
  server: TransportAddress,
): Pick<StunBinding, "server" | "mapped" | "otherAddress" | "response"> {
  const cannot = `Cannot understand ${formatTransportAddress(server)}: its response`;
  const unknown = unknownRequiredAttributes(response);
  if (unknown.length > 0) {
    // RFC 8489 §6.3.3.
    throw new MalformedMessageError(`${cannot} has attributes nobody may skip, ${list(unknown)}`);
  }
  const mapped = getAttribute(response, "XOR-MAPPED-ADDRESS") ??
    getAttribute(response, "MAPPED-ADDRESS");
  if (mapped === undefined) throw new MalformedMessageError(`${cannot} has no mapped address`);
  const otherAddress = getAttribute(response, "OTHER-ADDRESS") ??
    getAttribute(response, "CHANGED-ADDRESS");
  return { server, mapped, otherAddress, response };
}

function known({ local }: StunChannel): TransportAddress | "unknown" {
  return ipScope(local.ip) === "unspecified" ? "unknown" : local;
}

function refused(
  server: TransportAddress,
  { code, reason }: StunErrorCode,
  unknown: readonly number[] = [],
): RefusedError {
  const phrase = reason.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "").trim() || "no reason given";
  return new RefusedError(
    `Cannot get mapped address: ${formatTransportAddress(server)} answered ${code} (${phrase})` +
      (unknown.length === 0 ? "" : ` for ${list(unknown)}`),
    code,
  );
}

function list(codes: readonly number[]): string {
  return codes.map((code) => `0x${code.toString(16).padStart(4, "0")}`).join(", ");
}

/** RFC 8489 §14.8. */
const UNAUTHENTICATED = 401;
const STALE_NONCE = 438;

/** Ours: one demand for credentials, and two nonces that went stale while the request was on its way. */
const MAX_CHALLENGES = 3;
