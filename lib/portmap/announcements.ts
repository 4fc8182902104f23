/**
 * What gateways tell without being asked, when they restart or get another external address: RFC 6886 §3.2.1 and
 * RFC 6887 §14.1.3.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { ipFamily, type TransportAddress } from "../net/address.ts";
import type { Network, UdpSocket } from "../net/network.ts";
import { type Gateway, isSameIp } from "./gateway.ts";
import type { GatewayEpoch } from "./mapper.ts";
import { decodeNatPmpResponse, NAT_PMP_PORT } from "./nat_pmp/message.ts";
import { decodePcpResponse, PCP_VERSION } from "./pcp/message.ts";
import { PCP_RESULT } from "./refusals.ts";

/** Where gateways announce: RFC 6886 §3.2.1, RFC 6887 §14.1.1. */
export const ANNOUNCEMENT_PORT = 5350;
/** RFC 6886 §3.2.1, RFC 6887 §14.1.1. */
export const ANNOUNCEMENT_GROUPS = { ipv4: "224.0.0.1", ipv6: "ff02::1" } as const;

/** One announcement. The gateway is called as the listener was told, with the zone that datagrams do not have. */
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
    /** `0.0.0.0` if it has none. */
    readonly externalIp: string;
  };

/** What {@linkcode AnnouncementListener} takes. */
export interface AnnouncementListenerOptions {
  /** The IP addresses to listen to; whatever comes from elsewhere is dropped. */
  readonly gateways: readonly string[];
  /** Where gateways announce from; 5351 unless given. */
  readonly gatewayPort?: number;
}

/**
 * Opens a listener for one gateway, beside those of other programs.
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

/**
 * Hears announcements on a socket, which it closes in the end.
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

  /**
   * Takes over a socket.
   *
   * @param socket bound to port 5350 and a member of the group
   */
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

/** The announcement in a datagram; `undefined` if it is none. */
export function decodeAnnouncement(
  data: Uint8Array,
  gateway: string,
  receivedAtMs: number,
): GatewayAnnouncement | undefined {
  try {
    return data[0] === PCP_VERSION
      ? pcpAnnouncement(data, gateway, receivedAtMs)
      : natPmpAnnouncement(data, gateway, receivedAtMs);
  } catch (error) {
    if (!(error instanceof MalformedMessageError)) throw error;
    return undefined;
  }
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

/** What {@linkcode AnnouncementFeed} takes. */
export interface AnnouncementFeedOptions {
  readonly onAnnouncement: (announcement: GatewayAnnouncement) => void;
  /** Told why it hears nothing: without announcements a restart shows at the next look. */
  readonly onProblem: (problem: NetworkError) => void;
}

/** Hears until it is stopped. */
export class AnnouncementFeed {
  readonly #stopped = new AbortController();
  readonly #hearing: Promise<void>;

  constructor(network: Network, gateway: Gateway, options: AnnouncementFeedOptions) {
    this.#hearing = this.#hear(network, gateway, options);
    this.#hearing.catch(() => {}); // whoever stops it is told
  }

  /** Ends it; its socket is closed then. */
  async stop(): Promise<void> {
    this.#stopped.abort(STOPPED);
    await this.#hearing;
  }

  async #hear(
    network: Network,
    gateway: Gateway,
    { onAnnouncement, onProblem }: AnnouncementFeedOptions,
  ): Promise<void> {
    const { signal } = this.#stopped;
    try {
      using listener = await listenForAnnouncements(network, gateway);
      while (true) onAnnouncement(await listener.next({ signal }));
    } catch (error) {
      if (error === STOPPED) return;
      if (!(error instanceof NetworkError)) throw error;
      onProblem(error);
    }
  }
}

const STOPPED = new DOMException("Nobody wants to hear it any more", "AbortError");
