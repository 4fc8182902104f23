/**
 * One knock at this peer's door, and what has come of it so far.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import type { Answerer } from "../peer/signaling_handshake.ts";
import type { Envelope } from "../peer/signaling_message.ts";
import { AnsweringLine } from "../peer/signaling_session.ts";
import type { SignalBus } from "../signal/transport.ts";
import { sendDecline } from "./decline.ts";
import type { Decline, Knock } from "./knock_message.ts";

/** A conversation that somebody else has begun. */
export class Conversation implements Disposable {
  /** Who knocked. */
  readonly remoteKey: Uint8Array;
  /** What they said. */
  readonly knock: Knock;
  readonly line: AnsweringLine;
  /** Those over which the other side was heard. */
  readonly #buses = new Set<SignalBus>();

  /**
   * @param replyTopic where the other side listens
   * @param bus over which the knock came
   */
  constructor(
    answerer: Answerer,
    knock: Knock,
    { replyTopic, bus, logger }: { replyTopic: string; bus: SignalBus; logger?: Logger },
  ) {
    this.remoteKey = answerer.remoteKey;
    this.knock = knock;
    this.#buses.add(bus);
    this.line = new AnsweringLine(answerer, knock.body, (message) => {
      for (const each of this.#buses) {
        each.publish(replyTopic, message)
          .catch((error) => logger?.debug(`connect: ${each.url}: ${error}`));
      }
    });
    this.line.isByHand = bus.isByHand ?? false;
    if (bus.rttMs !== undefined) this.line.rttMs = 2 * bus.rttMs;
  }

  /** The knock has come again, perhaps over another bus. */
  repeated(bus: SignalBus): void {
    if (this.#buses.size < MAX_BUSES) this.#buses.add(bus);
    this.line.repeatAnswer();
  }

  /** Something else has come. */
  accept(envelope: Envelope, bus: SignalBus): void {
    if (this.#buses.size < MAX_BUSES) this.#buses.add(bus);
    this.line.accept(envelope);
  }

  /** Says no. */
  async decline(why: Decline["why"]): Promise<void> {
    await sendDecline(this.line, why);
  }

  [Symbol.dispose](): void {
    this.line[Symbol.dispose]();
  }
}

/** Ours: as many as a ticket has. */
const MAX_BUSES = 8;
