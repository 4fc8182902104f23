/**
 * How either side of a line says that there will be no connection.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { CHANNELS, type Line } from "../peer/signaling_session.ts";
import { type Decline, decodeDecline, encodeDecline } from "./knock_message.ts";

/** Says so. */
export async function sendDecline(line: Line, why: Decline["why"]): Promise<void> {
  await line.channel(CHANNELS.control).send(encodeDecline({ why, timeMs: Date.now() }));
}

/**
 * Waits until the other side says so.
 *
 * @throws what the line ends with, or the signal's reason on abort
 */
export async function receiveDecline(line: Line, signal: AbortSignal): Promise<Decline> {
  const control = line.channel(CHANNELS.control);
  for (;;) {
    const body = await control.receive({ signal });
    if (body.length === 0) continue; // only there to carry a knock or an answer
    try {
      return decodeDecline(body);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }
}
