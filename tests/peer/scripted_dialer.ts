/**
 * A dialer that has a ticket and sends what a test wants.
 *
 * @module
 */

import { resumptionId, TicketSecrets } from "../../lib/peer/ticket.ts";
import { InitiatorHandshake } from "../../lib/peer/signaling_handshake.ts";
import { CHANNELS, InitiatorSession, sendEmpty } from "../../lib/peer/signaling_session.ts";
import { decodeTicket } from "../../lib/peer/ticket.ts";
import { generateKeyPair, type KeyPair } from "../../lib/noise/handshake.ts";
import { punch, type PunchedConn } from "../../lib/punch/punch.ts";
import type { SignalChannel } from "../../lib/signal/channel.ts";
import { SERVERS, type TestHub } from "../scenes/peer_scene.ts";
import type { Host } from "../simnet/host.ts";

/** Who dials, and what for. */
export interface ScriptedDialerOptions {
  /** The dialer's identity. Default: a new one. */
  readonly staticKey?: KeyPair;
  /** The connection to resume. Default: a new one. */
  readonly resumes?: string;
}

/** The side with the ticket. It sends nothing until a test says so. */
export class ScriptedDialer implements Disposable {
  readonly staticKey: KeyPair;
  readonly #session: InitiatorSession;

  private constructor(staticKey: KeyPair, session: InitiatorSession) {
    this.staticKey = staticKey;
    this.#session = session;
  }

  /** Listens for answers. */
  static async open(
    hub: TestHub,
    ticketText: string,
    { staticKey = generateKeyPair(), resumes }: ScriptedDialerOptions = {},
  ): Promise<ScriptedDialer> {
    const ticket = decodeTicket(ticketText);
    const secrets = new TicketSecrets(ticket);
    const keys = { secrets, staticKey, ephemeralKey: generateKeyPair() };
    const signaling = await hub.open();
    const session = new InitiatorSession(
      new InitiatorHandshake(keys, ticket.publicKey),
      () => ({
        sentAtMs: Date.now(),
        ageMs: null,
        protocol: "",
        resumes: resumes ?? null,
        wants: "any",
      }),
      (message) => void signaling.publish(secrets.topicAt(Date.now()), message),
    );
    await signaling.subscribe(
      secrets.replyTopic(session.ephemeralKey),
      (message) => session.receive(message),
    );
    return new ScriptedDialer(staticKey, session);
  }

  /** Names the connection in a later request; known once there was an answer. */
  async resumptionId(): Promise<string> {
    return resumptionId((await this.#session.ready).connectionKey);
  }

  channel(name: keyof typeof CHANNELS): SignalChannel {
    return this.#session.channel(CHANNELS[name]);
  }

  /** Sends a message on a channel of any number. */
  async sendOn(channel: number, body: Uint8Array): Promise<void> {
    await this.#session.channel(channel).send(body);
  }

  /** Requests a connection, and does nothing else. */
  async request(): Promise<void> {
    await sendEmpty(this.#session);
  }

  /** Punches as an honest peer does. */
  punch({ network }: Host): Promise<PunchedConn> {
    const channel = this.channel("punch");
    return punch({ network, channel, role: "controlling", servers: SERVERS });
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}
