/**
 * A stranger with a ticket that writes its own connection requests.
 *
 * @module
 */

import { TicketSecrets } from "../../lib/peer/ticket.ts";
import { InitiatorHandshake } from "../../lib/peer/signaling_handshake.ts";
import { encodeConnectionRequest } from "../../lib/peer/signaling_message.ts";
import { decodeTicket } from "../../lib/peer/ticket.ts";
import { generateKeyPair, type KeyPair } from "../../lib/noise/handshake.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { openSignaling } from "../../lib/signal/open.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";

/** A request, and the topic that the ticket's owner listens to. */
export interface WrittenRequest {
  readonly topic: string;
  readonly message: Uint8Array;
}

/** A request that leads nowhere: its sender never says another word. */
export function stalledRequest(
  ticketText: string,
  { staticKey = generateKeyPair(), protocol = "", sentAtMs = Date.now() }: {
    staticKey?: KeyPair;
    protocol?: string;
    sentAtMs?: number;
  } = {},
): WrittenRequest {
  const ticket = decodeTicket(ticketText);
  const secrets = new TicketSecrets(ticket);
  const keys = { secrets, staticKey, ephemeralKey: generateKeyPair() };
  using handshake = new InitiatorHandshake(keys, ticket.publicKey);
  const body = encodeConnectionRequest({
    sentAtMs,
    ageMs: null,
    protocol,
    resumes: null,
    wants: "any",
    body: new Uint8Array(0),
  });
  const message = handshake.writeRequest({ channel: 0, body });
  return { topic: secrets.topicAt(Date.now()), message };
}

/** Publishes requests where the ticket says. */
export class TicketHolder implements AsyncDisposable {
  readonly #ticket: string;
  readonly #signaling: SignalingConnection;

  private constructor(ticket: string, signaling: SignalingConnection) {
    this.#ticket = ticket;
    this.#signaling = signaling;
  }

  static async open(ticket: string): Promise<TicketHolder> {
    const [url] = decodeTicket(ticket).signaling;
    return new TicketHolder(ticket, await openSignaling(url!, { network: systemNetwork }));
  }

  /** Sends stalled requests, each with a fresh key unless one is given. */
  async stall(count: number, options: { staticKey?: KeyPair } = {}): Promise<void> {
    for (let i = 0; i < count; i++) {
      const { topic, message } = stalledRequest(this.#ticket, options);
      await this.#signaling.publish(topic, message);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#signaling[Symbol.asyncDispose]();
  }
}
