/**
 * Who may send to a relayed address: RFC 8656 §9 and §10.
 *
 * @module
 */

import { RefusedError } from "../base/errors.ts";
import { idleDelay } from "../base/timers.ts";
import { parseIp } from "../net/address.ts";
import type { StunAttribute } from "../stun/attributes.ts";
import { CREATE_PERMISSION, isFailure, isFinal, renewalDelayMs, RETRY_MS } from "./protocol.ts";
import type { TurnSession } from "./session.ts";

/** The permissions of one allocation, renewed until it ends. */
export class Permissions {
  readonly #session: TurnSession;
  /** When each ends, by `performance.now()`, unless it is renewed. */
  readonly #expiriesMs = new Map<string, number>();
  /** How many requests are under way for each. */
  readonly #asking = new Map<string, number>();

  constructor(session: TurnSession) {
    this.#session = session;
    session.background((signal) => this.#keepRenewed(signal));
  }

  /** Whether the server lets this IP address in, as far as we know. */
  has(ip: string): boolean {
    const expiryMs = this.#expiriesMs.get(ip) ?? this.#expiriesMs.get(parseIp(ip));
    return expiryMs !== undefined && performance.now() < expiryMs;
  }

  /**
   * Whether something may come from this IP address: also while the server is asked, as what it lets in may be here
   * before its answer is understood.
   *
   * @param ip as decoded from a message
   */
  admits(ip: string): boolean {
    return this.#asking.has(ip) || this.has(ip);
  }

  /** Counts in one that the server gave by the way: a channel binding has one (RFC 8656 §12.1). */
  add(ip: string): void {
    const { permissionLifetimeMs } = this.#session.options.timings;
    this.#expiriesMs.set(parseIp(ip), performance.now() + permissionLifetimeMs);
  }

  /**
   * Lets IP addresses in, at all their ports.
   *
   * @throws {TypeError} if one is no IP address
   * @throws {RefusedError} if the server refuses; 403 for an address that it relays to nobody
   */
  async permit(ips: readonly string[], signal?: AbortSignal): Promise<void> {
    const parsed = ips.map(parseIp);
    for (let start = 0; start < parsed.length; start += MAX_PEERS) {
      await this.#ask(parsed.slice(start, start + MAX_PEERS), signal);
    }
  }

  async #ask(ips: readonly string[], signal?: AbortSignal): Promise<void> {
    for (const ip of ips) this.#asking.set(ip, (this.#asking.get(ip) ?? 0) + 1);
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
        const others = this.#asking.get(ip)! - 1;
        if (others > 0) this.#asking.set(ip, others);
        else this.#asking.delete(ip);
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
   * Asks for some again. A server grants all of a request or none, so those of one that it refuses are asked for one by
   * one, and only what it refuses then is given up, until it is needed; what failed otherwise is asked for again soon.
   *
   * @returns whether there is nothing to ask for again soon
   */
  async #renew(ips: readonly string[]): Promise<boolean> {
    try {
      await this.#ask(ips);
      return true;
    } catch (error) {
      if (!isFailure(error)) throw error;
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

/** Ours: a request with so many IPv6 addresses still fits one packet. */
const MAX_PEERS = 32;
