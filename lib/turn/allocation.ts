/**
 * Allocating a relayed address: what the request asks for, and what the response grants (RFC 8656 §7).
 *
 * @module
 */

import { MalformedMessageError, NetworkError, RefusedError } from "../base/errors.ts";
import {
  formatTransportAddress,
  type IpFamily,
  ipScope,
  type TransportAddress,
} from "../net/address.ts";
import { isNamed, type StunAttribute } from "../stun/attributes.ts";
import type { LongTermCredential } from "../stun/credentials.ts";
import { getAttribute, type StunMessage } from "../stun/message.ts";
import {
  alternateOf,
  type AnswerOrAlternate,
  AuthenticatedTransaction,
  errorOf,
  refusedError,
  type ServerTarget,
  type StunRequest,
} from "../stun/transaction.ts";
import type { AddressErrorCode } from "../stun/turn_attributes.ts";
import { TurnConnection, type TurnConnectionOptions } from "./connection.ts";
import { ALLOCATE, REFRESH, remedyFor, type TurnTimings } from "./protocol.ts";

/** What relayed address to ask for. */
export interface AllocationRequest {
  /** What the server relays. */
  readonly protocol: "udp" | "tcp";
  /**
   * The address family. `"dual"` asks for one address of each family, and accepts one. Default: the server's, which is
   * IPv4. Cannot be combined with a reservation token.
   */
  readonly family?: IpFamily | "dual";
  /**
   * An even port. With `"reserve-next"` the server also reserves the next port, for the relay that is opened with the
   * `reservationToken` of this one.
   */
  readonly evenPort?: "alone" | "reserve-next";
  /** Asks for the port that was reserved with an earlier allocation. */
  readonly reservationToken?: Uint8Array;
  /** Requires that the server can forbid fragmentation. */
  readonly dontFragment?: boolean;
  /** Asks for an allocation that can be moved to another network (RFC 8016). */
  readonly mobility?: boolean;
  /** The lifetime to request; the server decides. */
  readonly lifetimeSeconds?: number;
}

/** The relayed address that a server granted. */
export interface TurnAllocation {
  /** The address at which peers reach this host. A dual allocation may have a second one, for IPv6. */
  readonly relayed: readonly [TransportAddress, ...TransportAddress[]];
  /** The address of this host as the server sees it. */
  readonly mapped: TransportAddress;
  /** When it expires if it is not refreshed. */
  readonly lifetimeSeconds: number;
  /** Claims the reserved next port, if one was asked for. */
  readonly reservationToken?: Uint8Array;
  /** The requested families that were not granted, and why. */
  readonly refused: readonly AddressErrorCode[];
  /** Proves from another network that the allocation is ours. */
  readonly mobilityTicket?: Uint8Array;
}

/** How to reach a server and authenticate to it. */
export interface TurnClientOptions extends TurnConnectionOptions {
  readonly credential?: LongTermCredential;
  readonly timings: TurnTimings;
}

/** An allocation, and the connection to its server. */
export interface Allocated {
  readonly server: ServerTarget;
  readonly allocation: TurnAllocation;
  readonly connection: TurnConnection;
  readonly transaction: AuthenticatedTransaction;
}

/**
 * Asks for an allocation, without mobility if the server does not support it. If this fails in any way, it tells the
 * server to release what it may have allocated.
 *
 * @throws {RefusedError} if the server refuses
 * @throws {NoResponseError} if it does not respond in time
 * @throws {MalformedMessageError} if the response is invalid
 * @throws {NetworkError} if the network does not carry the request
 */
export async function allocate(
  server: ServerTarget,
  request: AllocationRequest,
  options: TurnClientOptions,
): Promise<AnswerOrAlternate<Allocated>> {
  // RFC 8656 §7.4: use another local port if an earlier allocation is left on this one.
  for (let ports = 1;; ports++) {
    const outcome = await allocateOnce(server, request, options);
    if (outcome.kind === "mobility-forbidden") {
      return await allocate(server, { ...request, mobility: false }, options);
    }
    if (outcome.kind !== "port-taken") return outcome;
    if (options.local === undefined && ports < MAX_PORTS) continue;
    throw turnRefusedError(outcome.response, server.address, ALLOCATING);
  }
}

/** The attributes of an Allocate request: RFC 8656 §7.1. */
export function allocateAttributes(request: AllocationRequest): StunAttribute[] {
  const { protocol, family, evenPort, reservationToken, lifetimeSeconds } = request;
  const attributes: StunAttribute[] = [
    { type: "REQUESTED-TRANSPORT", value: PROTOCOL_NUMBERS[protocol] },
  ];
  if (lifetimeSeconds !== undefined) attributes.push({ type: "LIFETIME", value: lifetimeSeconds });
  if (family === "dual") {
    attributes.push({ type: "ADDITIONAL-ADDRESS-FAMILY", value: 6 });
    attributes.push({ type: "SSODA-ADDITIONAL-ADDRESS-FAMILY", value: 6 });
  } else if (family !== undefined) {
    attributes.push({ type: "REQUESTED-ADDRESS-FAMILY", value: family });
  }
  if (evenPort !== undefined) {
    const reserveNext = evenPort === "reserve-next";
    attributes.push({ type: "EVEN-PORT", value: { reserveNext } });
  }
  if (reservationToken !== undefined) {
    attributes.push({ type: "RESERVATION-TOKEN", value: reservationToken });
  }
  if (request.dontFragment) attributes.push({ type: "DONT-FRAGMENT", value: true });
  if (request.mobility) attributes.push({ type: "MOBILITY-TICKET", value: new Uint8Array() });
  return attributes;
}

/** An error response as an error to throw, with a remedy. */
export function turnRefusedError(
  response: StunMessage,
  server: TransportAddress,
  action: string,
): RefusedError {
  const remedy = remedyFor(errorOf(response, server).code);
  return refusedError(response, { server, action, remedy });
}

/**
 * Reads the success response of a server.
 *
 * @throws {MalformedMessageError} if it lacks what RFC 8656 §7.3 requires, or has a relayed address that cannot be one: a
 * peer that used it would connect to itself or to its own network
 */
function readAllocation(response: StunMessage, server: TransportAddress): TurnAllocation {
  const cannot = `Cannot understand ${formatTransportAddress(server)}: its allocation`;
  const [first, ...others] = response.attributes
    .filter((attribute) => isNamed(attribute, "XOR-RELAYED-ADDRESS"))
    .map(({ value }) => value)
    .filter(({ ip, port }) => port !== 0 || ipScope(ip) !== "unspecified"); // means "none" in coturn 4.6
  if (first === undefined) throw new MalformedMessageError(`${cannot} has no relayed address`);
  for (const relayed of [first, ...others]) {
    if (isRelay(relayed, server)) continue;
    const problem = relayed.port === 0 ? "has no port" : `is a ${ipScope(relayed.ip)} address`;
    throw new MalformedMessageError(
      `${cannot} has the relayed address ${formatTransportAddress(relayed)}, which ${problem}`,
    );
  }
  const mapped = getAttribute(response, "XOR-MAPPED-ADDRESS");
  if (mapped === undefined) throw new MalformedMessageError(`${cannot} has no mapped address`);
  const lifetimeSeconds = getAttribute(response, "LIFETIME");
  if (!lifetimeSeconds) throw new MalformedMessageError(`${cannot} has no lifetime`);
  return {
    relayed: [first, ...others],
    mapped,
    lifetimeSeconds,
    reservationToken: getAttribute(response, "RESERVATION-TOKEN"),
    refused: response.attributes
      .filter((attribute) =>
        isNamed(attribute, "ADDRESS-ERROR-CODE") || isNamed(attribute, "SSODA-ADDRESS-ERROR-CODE")
      )
      .map(({ value }) => value),
    mobilityTicket: getAttribute(response, "MOBILITY-TICKET"),
  };
}

type AllocateResult =
  | AnswerOrAlternate<Allocated>
  | { readonly kind: "port-taken"; readonly response: StunMessage }
  | { readonly kind: "mobility-forbidden" };

async function allocateOnce(
  server: ServerTarget,
  request: AllocationRequest,
  options: TurnClientOptions,
): Promise<AllocateResult> {
  const { address, hostname } = server;
  const { waitsMs, signal, credential } = options;
  const transaction = new AuthenticatedTransaction(address, credential);
  const connection = await TurnConnection.open(address, hostname, options);
  try {
    const { answer: response } = await transaction.ask(connection.channel({ waitsMs, signal }), {
      method: ALLOCATE,
      attributes: allocateAttributes(request),
    });
    if (response.class === "success") {
      const allocation = readAllocation(response, address);
      return { kind: "answer", answer: { server, allocation, connection, transaction } };
    }
    connection.close();
    const alternate = alternateOf(response, hostname);
    if (alternate !== undefined) return { kind: "alternate", alternate };
    const { code } = errorOf(response, address);
    if (code === ALLOCATION_MISMATCH) return { kind: "port-taken", response };
    if (code === MOBILITY_FORBIDDEN && request.mobility) return { kind: "mobility-forbidden" };
    throw turnRefusedError(response, address, ALLOCATING);
  } catch (error) {
    if (!(error instanceof RefusedError)) await sendRelease(connection, transaction);
    connection.close();
    throw error;
  }
}

/** Does not wait for the response: the caller has given up already. */
async function sendRelease(
  connection: TurnConnection,
  transaction: AuthenticatedTransaction,
): Promise<void> {
  try {
    await connection.send(transaction.encode(RELEASE));
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error; // the server cannot be reached any more
  }
}

/** Chosen by us: a relayed address is on the internet, or as close to this host as its server. */
function isRelay({ ip, port }: TransportAddress, server: TransportAddress): boolean {
  const scope = ipScope(ip);
  if (port === 0 || NOWHERE.includes(scope)) return false;
  const serverScope = ipScope(server.ip);
  return scope === "global" || scope === serverScope ||
    (serverScope !== "global" && scope !== "loopback" && scope !== "link-local");
}

/** The request that ends an allocation: RFC 8656 §8. */
export const RELEASE: StunRequest = {
  method: REFRESH,
  attributes: [{ type: "LIFETIME", value: 0 }],
};

/** RFC 8656 §19: 437 (Allocation Mismatch). */
export const ALLOCATION_MISMATCH = 437;

/** RFC 8016 §5: 405 (Mobility Forbidden). */
const MOBILITY_FORBIDDEN = 405;

/** RFC 8656 §18.8 and RFC 6062 §5.1: protocol numbers of the IP header. */
const PROTOCOL_NUMBERS = { udp: 17, tcp: 6 } as const;

const NOWHERE: readonly ReturnType<typeof ipScope>[] = ["unspecified", "multicast", "reserved"];

const ALLOCATING = "allocate a relayed address";

/** RFC 8656 §7.4 recommends no more than three tries. */
const MAX_PORTS = 3;
