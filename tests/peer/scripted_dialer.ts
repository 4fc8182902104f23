/**
 * Somebody who has a ticket and says what a test wants said.
 *
 * @module
 */

import { acceptMessage } from "../../lib/peer/dialer.ts";
import { CHANNELS, InitiatorSession } from "../../lib/peer/signaling_session.ts";
import { resumptionId } from "../../lib/peer/keys.ts";
import { InitiatorHandshake } from "../../lib/peer/signaling_handshake.ts";
import { decodeTicket } from "../../lib/peer/ticket.ts";
import { TicketSecrets } from "../../lib/peer/keys.ts";
import { generateKeyPair } from "../../lib/noise/key_pair.ts";
import type { KeyPair } from "../../lib/noise/key_pair.ts";
import { punch, type PunchedConn } from "../../lib/punch/punch.ts";
import type { SignalChannel } from "../../lib/signal/channel.ts";
import { SERVERS, type TestHub } from "../scenes/peer_scene.ts";
import type { Host } from "../simnet/host.ts";

/** How to knock. */
export interface ScriptedDialerOptions {
  /** Who it is; somebody new unless given. */
  readonly staticKey?: KeyPair;
  /** The connection that is to go on. */
  readonly resumes?: string;
}

/** The side with the ticket; nothing is said before a test says it. */
export class ScriptedDialer implements Disposable {
  readonly staticKey: KeyPair;
  readonly #line: InitiatorSession;

  private constructor(staticKey: KeyPair, line: InitiatorSession) {
    this.staticKey = staticKey;
    this.#line = line;
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
    const line: InitiatorSession = new InitiatorSession(
      new InitiatorHandshake(keys, ticket.publicKey),
      () => ({ sentAtMs: Date.now(), protocol: "", resumes: resumes ?? null, wants: "any" }),
      (message) => void signaling.publish(secrets.topicAt(Date.now()), message),
    );
    await signaling.subscribe(
      secrets.replyTopic(line.ephemeralKey),
      (message) => acceptMessage(line, message),
    );
    return new ScriptedDialer(staticKey, line);
  }

  /** What it has to name to have the connection gone on with; once there was an answer. */
  async resumptionId(): Promise<string> {
    return resumptionId((await this.#line.ready).connectionKey);
  }

  channel(name: keyof typeof CHANNELS): SignalChannel {
    return this.#line.channel(CHANNELS[name]);
  }

  /** A message on a channel of any number. */
  async sayOn(channel: number, body: Uint8Array): Promise<void> {
    await this.#line.channel(channel).send(body);
  }

  /** Asks, and says nothing else. */
  async knock(): Promise<void> {
    await this.channel("control").send(new Uint8Array(0));
  }

  /** Gets a connection as an honest peer does. */
  punch({ network }: Host): Promise<PunchedConn> {
    const channel = this.channel("punch");
    return punch({ network, channel, role: "controlling", servers: SERVERS });
  }

  [Symbol.dispose](): void {
    this.#line[Symbol.dispose]();
  }
}
