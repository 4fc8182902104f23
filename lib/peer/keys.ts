/**
 * What follows from the secret of a ticket: keys for the messages, and topics, under which the messages go. A topic
 * changes with the time, and shows nobody without the ticket which others it belongs to.
 *
 * @module
 */

import { concat, toBase64url, toHex } from "../base/bytes.ts";
import { hmac } from "../base/crypto.ts";
import type { Ticket } from "./ticket.ts";

/** What a ticket's secret leads to. */
export class TicketSecrets {
  /** Of the handshake in the messages: 32 bytes. */
  readonly presharedKey: Uint8Array;
  readonly #key: Uint8Array;

  constructor({ publicKey, secret }: Pick<Ticket, "publicKey" | "secret">) {
    this.#key = hmac("sha256", secret, utf8("punchline ticket "), publicKey);
    this.presharedKey = this.#derive("handshake");
  }

  /** Where the owner of the ticket is asked, at a time in milliseconds since 1970. */
  topicAt(timeMs: number): string {
    return this.#topic(`ask ${Math.floor(timeMs / TOPIC_MS)}`);
  }

  /** Where the owner listens: clocks may be wrong by as much as a topic lasts. */
  topicsAround(timeMs: number): string[] {
    return [-1, 0, 1].map((turn) => this.topicAt(timeMs + turn * TOPIC_MS));
  }

  /** Where somebody who asks listens for the answers: the ephemeral key tells one question from another. */
  replyTopic(ephemeralKey: Uint8Array): string {
    return this.#topic("reply ", ephemeralKey);
  }

  /** Shows that who wrote a message has the ticket; 16 bytes. */
  mac(kind: "knock" | "answer", ...message: readonly Uint8Array[]): Uint8Array {
    return hmac("sha256", this.#derive(kind), ...message).subarray(0, MAC_LENGTH);
  }

  #topic(purpose: string, context: Uint8Array = NOTHING): string {
    return toBase64url(this.#derive(`topic ${purpose}`, context).subarray(0, TOPIC_BYTES));
  }

  #derive(purpose: string, context: Uint8Array = NOTHING): Uint8Array {
    return hmac("sha256", this.#key, concat(utf8(purpose), context));
  }
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

const NOTHING = new Uint8Array(0);

/** How long a message authentication code is. Ours: whoever guesses at it has to send each guess. */
export const MAC_LENGTH = 16;

/** Ours: short, since some brokers bill and log topics, and long enough to collide with nobody's. */
const TOPIC_BYTES = 16;

/** How long a topic lasts. Ours: clocks of computers that are on the internet are seldom wrong by more. */
export const TOPIC_MS = 60 * 60 * 1000;

/** What secures one connection. */
export interface PathKeys {
  /** For what this side sends. */
  readonly sendKey: Uint8Array<ArrayBuffer>;
  /** For what it receives. */
  readonly receiveKey: Uint8Array<ArrayBuffer>;
  /** The same on both sides, and no secret. */
  readonly handshakeHash: Uint8Array<ArrayBuffer>;
}

/**
 * The keys of one side; the other's are the same the other way round.
 *
 * @param connectionKey of the peers' handshake: never two handshakes have the same
 * @param channelBinding of the connection: never two connections of one handshake have the same
 */
export function pathKeys(
  connectionKey: Uint8Array,
  channelBinding: Uint8Array,
  role: "controlling" | "controlled",
): PathKeys {
  const derive = (purpose: string) =>
    hmac("sha256", connectionKey, new TextEncoder().encode(`path ${purpose} `), channelBinding);
  const other = role === "controlling" ? "controlled" : "controlling";
  return {
    sendKey: derive(role),
    receiveKey: derive(other),
    handshakeHash: derive("hash"),
  };
}

/** Names a connection to both sides, for when it has to go on over another path: 32 hexadecimal digits, a secret. */
export function resumptionId(connectionKey: Uint8Array): string {
  const id = hmac("sha256", connectionKey, new TextEncoder().encode("resumption"));
  return toHex(id.subarray(0, 16));
}
