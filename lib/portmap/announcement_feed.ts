/**
 * Hearing one gateway's announcements for as long as anybody wants to know.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { Network } from "../net/network.ts";
import { type GatewayAnnouncement, listenForAnnouncements } from "./announcements.ts";
import type { Gateway } from "./gateway.ts";

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
