/**
 * Permissions: which peers may send to a relayed address (RFC 8656 §9 and §10).
 *
 * @module
 */

import { PunchlineError, RefusedError } from "../base/errors.ts";
import { idleDelay } from "../base/timers.ts";
import { parseIp } from "../net/address.ts";
import type { StunAttribute } from "../stun/attributes.ts";
import { CREATE_PERMISSION, isFinal, renewalDelayMs, RETRY_MS } from "./protocol.ts";
import type { TurnSession } from "./session.ts";

/** The permissions of one allocation, renewed while it is open. */
export class Permissions {
  readonly #session: TurnSession;
  /** When each expires if it is not renewed, by `performance.now()`. */
  readonly #expiriesMs = new Map<string, number>();
  /** How many requests are in flight for each. */
  readonly #requested = new Map<string, number>();

  constructor(session: TurnSession) {
    this.#session = session;
    session.background((signal) => this.#keepRenewed(signal));
  }

  /** Whether there is a permission for this IP address, as far as we know. */
  has(ip: string): boolean {
    const expiryMs = this.#expiriesMs.get(ip) ?? this.#expiriesMs.get(parseIp(ip));
    return expiryMs !== undefined && performance.now() < expiryMs;
  }

  /**
   * Whether to accept data from this IP address: with a permission, or while one is requested, because the first data
   * may be processed before the response.
   *
   * @param ip canonical, as decoded from a message
   */
  admits(ip: string): boolean {
    return this.#requested.has(ip) || this.has(ip);
  }

  /** Records a permission that came with something else: binding a channel installs one (RFC 8656 §12.1). */
  add(ip: string): void {
    const { permissionLifetimeMs } = this.#session.options.timings;
    this.#expiriesMs.set(parseIp(ip), performance.now() + permissionLifetimeMs);
  }

  /**
   * Installs permissions for IP addresses, with all their ports.
   *
   * @throws {TypeError} if an IP address is invalid
   * @throws {RefusedError} if the server refuses; 403 if it does not relay to an address
   */
  async permit(ips: readonly string[], signal?: AbortSignal): Promise<void> {
    const parsed = ips.map(parseIp);
    for (let start = 0; start < parsed.length; start += MAX_PEERS) {
      await this.#request(parsed.slice(start, start + MAX_PEERS), signal);
    }
  }

  async #request(ips: readonly string[], signal?: AbortSignal): Promise<void> {
    for (const ip of ips) this.#requested.set(ip, (this.#requested.get(ip) ?? 0) + 1);
    try {
      await this.#session.request({
        method: CREATE_PERMISSION,
        attributes: ips.map((ip): StunAttribute => {
          return { type: "XOR-PEER-ADDRESS", value: { ip, port: 0 } };
        }),
      }, { action: `permit ${ips.join(", ")}`, signal });
      for (const ip of ips) this.add(ip);
    } finally {
      for (const ip of ips) {
        const others = this.#requested.get(ip)! - 1;
        if (others > 0) this.#requested.set(ip, others);
        else this.#requested.delete(ip);
      }
    }
  }

  async #keepRenewed(signal: AbortSignal): Promise<void> {
    const { timings } = this.#session.options;
    let isRenewed = true;
    while (true) {
      const lifetimeMs = renewalDelayMs(timings.permissionLifetimeMs, timings);
      await idleDelay(isRenewed ? lifetimeMs : Math.min(lifetimeMs, RETRY_MS), signal);
      signal.throwIfAborted();
      isRenewed = true;
      const ips = [...this.#expiriesMs.keys()];
      for (let start = 0; start < ips.length; start += MAX_PEERS) {
        isRenewed = await this.#renew(ips.slice(start, start + MAX_PEERS)) && isRenewed;
      }
    }
  }

  /**
   * Renews some permissions. A server grants all permissions of a request or none. If it refuses, they are requested one
   * by one, and only those refused then are given up until they are next used. Other failures are retried soon.
   *
   * @returns `false` if there is something to retry soon
   */
  async #renew(ips: readonly string[]): Promise<boolean> {
    try {
      await this.#request(ips);
      return true;
    } catch (error) {
      if (!(error instanceof PunchlineError)) throw error;
      if (!(error instanceof RefusedError && isFinal(error))) return false;
    }
    if (ips.length === 1) {
      this.#expiriesMs.delete(ips[0]!);
      return true;
    }
    let isRenewed = true;
    for (const ip of ips) isRenewed = await this.#renew([ip]) && isRenewed;
    return isRenewed;
  }
}

/** Chosen by us: a request with this many IPv6 addresses still fits one packet. */
const MAX_PEERS = 32;
