/**
 * What an Allocate request asks for, and what its response grants: RFC 8656 §7.
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
import { openTurnTransport, TurnConnection, type TurnTransportOptions } from "./connection.ts";
import { ALLOCATE, REFRESH, remedyFor, type TurnTimings } from "./protocol.ts";

/** Which relayed address to ask for. */
export interface AllocationRequest {
  /** What the server is to relay. */
  readonly protocol: "udp" | "tcp";
  /**
   * Of the relayed address; `"dual"` asks for one of each, and is content with one. The server's default,
   * which is IPv4, unless given. Not together with a reservation token.
   */
  readonly family?: IpFamily | "dual";
  /** An even port; with `"reserve-next"` the next one is kept, for {@linkcode TurnAllocation.reservationToken}. */
  readonly evenPort?: "alone" | "reserve-next";
  /** The port that was kept for an earlier allocation. */
  readonly reservationToken?: Uint8Array;
  /** That the server be able to forbid fragments. */
  readonly dontFragment?: boolean;
  /** That the allocation can be taken to another network (RFC 8016). */
  readonly mobility?: boolean;
  /** For how long to allocate before the first refresh; the server decides. */
  readonly lifetimeSeconds?: number;
}

/** What the server granted. */
export interface TurnAllocation {
  /** Where peers reach this host; the second one of a dual allocation is of IPv6. */
  readonly relayed: readonly [TransportAddress, ...TransportAddress[]];
  /** Where the server sees this host. */
  readonly mapped: TransportAddress;
  /** Until it has to be refreshed. */
  readonly lifetimeSeconds: number;
  /** Gets the next port, if it was asked to be kept. */
  readonly reservationToken?: Uint8Array;
  /** Families that were asked for and not granted, and why. */
  readonly refused: readonly AddressErrorCode[];
  /** What proves elsewhere that the allocation is ours. */
  readonly mobilityTicket?: Uint8Array;
}

/** The attributes that ask for it: RFC 8656 §7.1. */
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

/**
 * Reads the response of a server.
 *
 * @throws {MalformedMessageError} if it lacks what RFC 8656 §7.3 demands, or names addresses where no relay
 * can be: whoever is told them would talk to himself or to his own network
 */
export function readAllocation(response: StunMessage, server: TransportAddress): TurnAllocation {
  const cannot = `Cannot understand ${formatTransportAddress(server)}: its allocation`;
  const [first, ...others] = response.attributes
    .filter((attribute) => isNamed(attribute, "XOR-RELAYED-ADDRESS"))
    .map(({ value }) => value)
    .filter(({ ip, port }) => port !== 0 || ipScope(ip) !== "unspecified"); // so coturn 4.6 says "none"
  if (first === undefined) throw new MalformedMessageError(`${cannot} has no relayed address`);
  for (const relayed of [first, ...others]) {
    if (isRelay(relayed, server)) continue;
    const { ip } = relayed;
    throw new MalformedMessageError(
      `${cannot} is at ${formatTransportAddress(relayed)}, a port of a ${ipScope(ip)} address`,
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

/** Ours: a relay is on the internet, or as close to this host as its server. */
function isRelay({ ip, port }: TransportAddress, server: TransportAddress): boolean {
  const scope = ipScope(ip);
  if (port === 0 || NOWHERE.includes(scope)) return false;
  const serverScope = ipScope(server.ip);
  return scope === "global" || scope === serverScope ||
    (serverScope !== "global" && scope !== "loopback" && scope !== "link-local");
}

const NOWHERE: readonly ReturnType<typeof ipScope>[] = ["unspecified", "multicast", "reserved"];

/** RFC 8656 §18.8 and RFC 6062 §5.1: numbers of the IP header. */
const PROTOCOL_NUMBERS = { udp: 17, tcp: 6 } as const;

/** How to reach a server, and what to tell it. */
export interface TurnClientOptions extends TurnTransportOptions {
  readonly credential?: LongTermCredential;
  readonly timings: TurnTimings;
}

/** An allocation, and the way to the server that has it. */
export interface Allocated {
  readonly server: ServerTarget;
  readonly allocation: TurnAllocation;
  readonly link: TurnConnection;
  readonly transaction: AuthenticatedTransaction;
}

/**
 * Asks for an allocation, without mobility where the server has none. However the asking ends without one, the server is told to release what it may
 * have allocated.
 *
 * @throws {RefusedError} if the server refuses
 * @throws {NoResponseError} if it does not answer in time
 * @throws {MalformedMessageError} if what it says makes no sense
 * @throws {NetworkError} if the network does not carry the request
 */
export async function allocate(
  server: ServerTarget,
  request: AllocationRequest,
  options: TurnClientOptions,
): Promise<AnswerOrAlternate<Allocated>> {
  // RFC 8656 §7.4: another local port, where an earlier allocation is left on this one.
  for (let ports = 1;; ports++) {
    const outcome = await allocateOnce(server, request, options);
    if (outcome.kind === "immobile") {
      return await allocate(server, { ...request, mobility: false }, options);
    }
    if (outcome.kind !== "port taken") return outcome;
    if (options.local === undefined && ports < MAX_PORTS) continue;
    throw turnRefusedError(outcome.response, server.address, ALLOCATING);
  }
}

/** The request that ends an allocation: RFC 8656 §8. */
export const RELEASE: StunRequest = {
  method: REFRESH,
  attributes: [{ type: "LIFETIME", value: 0 }],
};

/** An error response as an error that knows a remedy. */
export function turnRefusedError(
  response: StunMessage,
  server: TransportAddress,
  action: string,
): RefusedError {
  const remedy = remedyFor(errorOf(response, server).code);
  return refusedError(response, { server, action, remedy });
}

/** RFC 8656 §19: 437 (TurnAllocation Mismatch). */
export const ALLOCATION_MISMATCH = 437;

/** RFC 8016 §5: 405 (Mobility Forbidden). */
const MOBILITY_FORBIDDEN = 405;

type Once =
  | AnswerOrAlternate<Allocated>
  | { readonly kind: "port taken"; readonly response: StunMessage }
  | { readonly kind: "immobile" };

async function allocateOnce(
  server: ServerTarget,
  request: AllocationRequest,
  options: TurnClientOptions,
): Promise<Once> {
  const { address, hostname } = server;
  const { waitsMs, signal, credential } = options;
  const transaction = new AuthenticatedTransaction(address, credential);
  const link = new TurnConnection(await openTurnTransport(address, hostname, options));
  try {
    const { answer: response } = await transaction.ask(link.channel({ waitsMs, signal }), {
      method: ALLOCATE,
      attributes: allocateAttributes(request),
    });
    if (response.class === "success") {
      const allocation = readAllocation(response, address);
      return { kind: "answer", answer: { server, allocation, link, transaction } };
    }
    link.close();
    const alternate = alternateOf(response, hostname);
    if (alternate !== undefined) return { kind: "alternate", alternate };
    const { code } = errorOf(response, address);
    if (code === ALLOCATION_MISMATCH) return { kind: "port taken", response };
    if (code === MOBILITY_FORBIDDEN && request.mobility) return { kind: "immobile" };
    throw turnRefusedError(response, address, ALLOCATING);
  } catch (error) {
    if (!(error instanceof RefusedError)) await sendRelease(link, transaction);
    link.close();
    throw error;
  }
}

/** Waits for no answer: who gave up waits no longer. */
async function sendRelease(
  link: TurnConnection,
  transaction: AuthenticatedTransaction,
): Promise<void> {
  try {
    await link.send(transaction.encode(RELEASE));
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error; // the way to the server is gone
  }
}

const ALLOCATING = "allocate a relayed address";

/** RFC 8656 §7.4 advises three tries or fewer. */
const MAX_PORTS = 3;
