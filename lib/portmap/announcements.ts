/**
 * The announcements that gateways make when they restart or get another external address: RFC 6886 §3.2.1 and RFC 6887
 * §14.1.3.
 *
 * @module
 */

import { undefinedIfMalformed } from "../base/errors.ts";
import { ipFamily, type TransportAddress } from "../net/address.ts";
import type { Network, UdpSocket } from "../net/network.ts";
import { type Gateway, isSameIp } from "./gateway.ts";
import type { GatewayEpoch } from "./mapper.ts";
import { decodeNatPmpResponse, NAT_PMP_PORT } from "./nat_pmp/message.ts";
import { decodePcpResponse, PCP_VERSION } from "./pcp/message.ts";
import { PCP_RESULT } from "./refusals.ts";

/** One announcement. The gateway's address has the zone that the listener was given, which datagrams lack. */
export type GatewayAnnouncement =
  | {
    readonly mapper: "pcp";
    readonly gateway: string;
    readonly epoch: GatewayEpoch;
  }
  | {
    readonly mapper: "nat-pmp";
    readonly gateway: string;
    readonly epoch: GatewayEpoch;
    /** `0.0.0.0` if the gateway has none. */
    readonly externalIp: string;
  };

/** What {@linkcode followAnnouncements} takes. */
export interface FollowAnnouncementsOptions {
  readonly onAnnouncement: (announcement: GatewayAnnouncement) => void;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/**
 * Listens to one gateway until it is aborted.
 *
 * @throws {NetworkError} if it cannot listen (any longer)
 * @throws the signal's reason on abort
 */
export async function followAnnouncements(
  network: Network,
  gateway: Gateway,
  { onAnnouncement, signal }: FollowAnnouncementsOptions,
): Promise<void> {
  using listener = await listenForAnnouncements(network, gateway);
  while (true) onAnnouncement(await listener.next({ signal }));
}

/**
 * Opens a listener for one gateway. Other programs may listen as well.
 *
 * @throws {NetworkError} `address-in-use` if another program keeps port 5350 for itself
 */
export async function listenForAnnouncements(
  network: Network,
  { ip, localIp }: Pick<Gateway, "ip" | "localIp">,
): Promise<AnnouncementListener> {
  const isIpv4 = ipFamily(ip) === 4;
  const group = isIpv4
    ? { group: ANNOUNCEMENT_GROUPS.ipv4, interfaceIp: localIp }
    : { group: ANNOUNCEMENT_GROUPS.ipv6, interfaceIp: ip }; // its zone names the interface
  const socket = await network.bindUdp(
    { ip: isIpv4 ? "0.0.0.0" : "::", port: ANNOUNCEMENT_PORT },
    { multicast: { groups: [group] } },
  );
  return new AnnouncementListener(socket, { gateways: [ip] });
}

/** What {@linkcode AnnouncementListener} takes. */
export interface AnnouncementListenerOptions {
  /** The IP addresses to listen to. Datagrams from elsewhere are dropped. */
  readonly gateways: readonly string[];
  /** The port from which gateways announce; 5351 by default. */
  readonly gatewayPort?: number;
}

/**
 * Receives announcements on a socket, which it closes when it is disposed.
 *
 * ```ts ignore
 * using listener = await listenForAnnouncements(network, gateway);
 * const { epoch } = await listener.next({ signal });
 * ```
 */
export class AnnouncementListener implements Disposable {
  readonly #socket: UdpSocket;
  readonly #gateways: readonly string[];
  readonly #gatewayPort: number;

  /** @param socket bound to port 5350 and a member of the group; the listener takes it over */
  constructor(socket: UdpSocket, options: AnnouncementListenerOptions) {
    this.#socket = socket;
    this.#gateways = options.gateways;
    this.#gatewayPort = options.gatewayPort ?? NAT_PMP_PORT;
  }

  /**
   * The next announcement.
   *
   * @throws {NetworkError} `closed` once the listener is disposed
   * @throws the signal's reason on abort
   */
  async next(options: { readonly signal?: AbortSignal } = {}): Promise<GatewayAnnouncement> {
    while (true) {
      const { data, from } = await this.#socket.receive(options);
      const gateway = this.#gatewayAt(from);
      if (gateway === undefined) continue;
      const announcement = decodeAnnouncement(data, gateway, performance.now());
      if (announcement !== undefined) return announcement;
    }
  }

  /** Stops listening. */
  [Symbol.dispose](): void {
    this.#socket.close();
  }

  #gatewayAt({ ip, port }: TransportAddress): string | undefined {
    if (port !== this.#gatewayPort) return undefined;
    return this.#gateways.find((gateway) => isSameIp(gateway, ip));
  }
}

/** The announcement in a datagram; `undefined` if it holds none. */
export function decodeAnnouncement(
  data: Uint8Array,
  gateway: string,
  receivedAtMs: number,
): GatewayAnnouncement | undefined {
  const decode = data[0] === PCP_VERSION ? pcpAnnouncement : natPmpAnnouncement;
  return undefinedIfMalformed(() => decode(data, gateway, receivedAtMs));
}

function pcpAnnouncement(
  data: Uint8Array,
  gateway: string,
  receivedAtMs: number,
): GatewayAnnouncement | undefined {
  const { resultCode, body, epochSeconds } = decodePcpResponse(data);
  if (resultCode !== PCP_RESULT.SUCCESS || body.opcode !== "ANNOUNCE") return undefined;
  return { mapper: "pcp", gateway, epoch: { seconds: epochSeconds, receivedAtMs } };
}

function natPmpAnnouncement(
  data: Uint8Array,
  gateway: string,
  receivedAtMs: number,
): GatewayAnnouncement | undefined {
  const response = decodeNatPmpResponse(data);
  if (!("externalIp" in response)) return undefined;
  const { externalIp, epochSeconds } = response;
  return { mapper: "nat-pmp", gateway, epoch: { seconds: epochSeconds, receivedAtMs }, externalIp };
}

/** Where gateways announce: RFC 6886 §3.2.1, RFC 6887 §14.1.1. */
export const ANNOUNCEMENT_PORT = 5350;

/** RFC 6886 §3.2.1, RFC 6887 §14.1.1. */
export const ANNOUNCEMENT_GROUPS = { ipv4: "224.0.0.1", ipv6: "ff02::1" } as const;
