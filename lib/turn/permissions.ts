/**
 * Who may send to a relayed address: RFC 8656 §9 and §10.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { isFailure } from "./failure.ts";
import type { StunAttribute } from "../stun/attributes.ts";
import { CREATE_PERMISSION } from "./method.ts";
import type { TurnSession } from "./session.ts";
import { renewalDelayMs } from "./timings.ts";

/** The permissions of one allocation, renewed until it ends. */
export class Permissions {
  readonly #session: TurnSession;
  readonly #permitted = new Set<string>();

  constructor(session: TurnSession) {
    this.#session = session;
    session.background((signal) => this.#keepRenewed(signal));
  }

  /** Whether the server lets this IP address in, as far as we know. */
  has(ip: string): boolean {
    return this.#permitted.has(ip);
  }

  /** Counts in one that the server gave by the way: a channel binding has one (RFC 8656 §12.1). */
  add(ip: string): void {
    this.#permitted.add(ip);
  }

  /**
   * Lets IP addresses in, at all their ports.
   *
   * @throws {RefusedError} if the server refuses; 403 for an address that it relays to nobody
   */
  async permit(ips: readonly string[], signal?: AbortSignal): Promise<void> {
    for (let start = 0; start < ips.length; start += MAX_PEERS) {
      const some = ips.slice(start, start + MAX_PEERS);
      await this.#session.request({
        method: CREATE_PERMISSION,
        attributes: some.map((ip): StunAttribute => {
          return { type: "XOR-PEER-ADDRESS", value: { ip, port: 0 } };
        }),
      }, { action: `permit ${some.join(", ")}`, signal });
      for (const ip of some) this.add(ip);
    }
  }

  async #keepRenewed(signal: AbortSignal): Promise<void> {
    const { timings } = this.#session.options;
    while (true) {
      await delay(renewalDelayMs(timings.permissionLifetimeMs, timings), { signal });
      const ips = [...this.#permitted];
      for (let start = 0; start < ips.length; start += MAX_PEERS) {
        await this.#renew(ips.slice(start, start + MAX_PEERS));
      }
    }
  }

  /** A server grants all or none: those of a request that it refused are asked for again when they are needed. */
  async #renew(ips: readonly string[]): Promise<void> {
    try {
      await this.permit(ips);
    } catch (error) {
      if (!isFailure(error)) throw error;
      for (const ip of ips) this.#permitted.delete(ip);
    }
  }
}

/** Ours: a request with so many IPv6 addresses still fits one packet. */
const MAX_PEERS = 32;
