/**
 * Why brokers say no, in words.
 *
 * @module
 */

import { RefusedError } from "../../errors.ts";
import type { MqttVersion } from "./packet_message.ts";

/** The refusal of a CONNECT, a SUBSCRIBE or of all further conversation. */
export function mqttRefusal(action: string, code: number, version: MqttVersion): RefusedError {
  const known = version === 5 || code >= 0x80 ? REASONS_5[code] : RETURN_CODES_4[code];
  const { name, remedy } = known ?? { name: "an unknown reason", remedy: undefined };
  const hint = remedy === undefined ? "" : `; ${remedy}`;
  const hex = `0x${code.toString(16).padStart(2, "0")}`;
  return new RefusedError(`Cannot ${action}: the broker says ${name} (${hex})${hint}`, code);
}

interface Reason {
  readonly name: string;
  readonly remedy?: string;
}

const LOGIN = "check the user name and the password in the URL";
const LATER = "try later, or another broker";

/** MQTT 3.1.1 §3.2.2.3. */
const RETURN_CODES_4: Readonly<Record<number, Reason>> = {
  1: { name: "unacceptable protocol version" },
  2: { name: "identifier rejected", remedy: LATER },
  3: { name: "server unavailable", remedy: LATER },
  4: { name: "bad user name or password", remedy: LOGIN },
  5: { name: "not authorized", remedy: LOGIN },
};

/** MQTT 5.0 §2.4; 0x80 is that of a SUBACK in 3.1.1 too. */
const REASONS_5: Readonly<Record<number, Reason>> = {
  0x80: { name: "unspecified error", remedy: LATER },
  0x81: { name: "malformed packet" },
  0x82: { name: "protocol error" },
  0x83: { name: "implementation specific error", remedy: LATER },
  0x84: { name: "unsupported protocol version" },
  0x85: { name: "client identifier not valid" },
  0x86: { name: "bad user name or password", remedy: LOGIN },
  0x87: { name: "not authorized", remedy: LOGIN },
  0x88: { name: "server unavailable", remedy: LATER },
  0x89: { name: "server busy", remedy: LATER },
  0x8a: { name: "banned", remedy: "use another broker" },
  0x8b: { name: "server shutting down", remedy: LATER },
  0x8c: { name: "bad authentication method" },
  0x8d: { name: "keep alive timeout" },
  0x8e: { name: "session taken over" },
  0x8f: { name: "topic filter invalid" },
  0x90: { name: "topic name invalid" },
  0x93: { name: "receive maximum exceeded" },
  0x95: { name: "packet too large" },
  0x96: { name: "message rate too high", remedy: LATER },
  0x97: { name: "quota exceeded", remedy: LATER },
  0x98: { name: "administrative action", remedy: "use another broker" },
  0x9c: { name: "use another server", remedy: "use another broker" },
  0x9d: { name: "server moved", remedy: "use another broker" },
  0x9f: { name: "connection rate exceeded", remedy: LATER },
};
