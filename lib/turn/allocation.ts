/**
 * What an Allocate request asks for, and what its response grants: RFC 8656 §7.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import {
  formatTransportAddress,
  type IpFamily,
  ipScope,
  type TransportAddress,
} from "../net/address.ts";
import { isNamed, type StunAttribute } from "../stun/attributes.ts";
import { getAttribute, type StunMessage } from "../stun/message.ts";
import type { AddressErrorCode } from "../stun/turn_attributes.ts";

/** Which relayed address to ask for. */
export interface AllocationRequest {
  /** What the server is to relay. */
  readonly protocol: "udp" | "tcp";
  /**
   * Of the relayed address; `"dual"` asks for one of each, and is content with one. The server's default,
   * which is IPv4, unless given. Not together with a reservation token.
   */
  readonly family?: IpFamily | "dual";
  /** An even port; with `"reserve-next"` the next one is kept, for {@linkcode Allocation.reservationToken}. */
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
export interface Allocation {
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
export function readAllocation(response: StunMessage, server: TransportAddress): Allocation {
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
