/**
 * What an MQTT broker's return code (MQTT 3.1.1 §3.2.2.3) or reason code (MQTT 5.0 §2.4) means, and what to do about it.
 *
 * @module
 */

import { RefusedError } from "../../base/errors.ts";
import type { MqttVersion } from "./packet.ts";

/**
 * The refusal of a CONNECT or a SUBSCRIBE, or the reason of a DISCONNECT.
 *
 * @param action completes "Cannot"
 */
export function mqttRefusal(action: string, code: number, version: MqttVersion): RefusedError {
  const known = version === 5 || code >= 0x80 ? REASON_CODES[code] : RETURN_CODES[code];
  const { name, remedy } = known ?? { name: "unknown reason", remedy: LATER };
  const hex = `0x${code.toString(16).padStart(2, "0")}`;
  return new RefusedError(
    `Cannot ${action}: the broker reported ${name} (${hex})`,
    code,
    { remedy },
  );
}

interface Reason {
  readonly name: string;
  readonly remedy: string;
}

const LOGIN = "Check the user name and the password in the URL";
const LATER = "Try later, or another broker";
const OTHER = "Use another broker";
const UNUSUAL = "Use another broker: this one may not be a standard one";
const RIGHTS = "Let this user read and write punchline/1/# at the broker";
const VERSION = "Change the version in the options, or use another broker";

/** MQTT 3.1.1 §3.2.2.3. */
const RETURN_CODES: Readonly<Record<number, Reason>> = {
  0x01: { name: "unacceptable protocol version", remedy: VERSION },
  0x02: { name: "identifier rejected", remedy: LATER },
  0x03: { name: "server unavailable", remedy: LATER },
  0x04: { name: "bad user name or password", remedy: LOGIN },
  0x05: { name: "not authorized", remedy: LOGIN },
};

/** MQTT 5.0 §2.4, as far as a CONNACK, SUBACK or DISCONNECT has them; a SUBACK of MQTT 3.1.1 has 0x80 too. */
const REASON_CODES: Readonly<Record<number, Reason>> = {
  0x00: { name: "normal disconnection", remedy: LATER },
  0x80: { name: "unspecified error", remedy: LATER },
  0x81: { name: "malformed packet", remedy: UNUSUAL },
  0x82: { name: "protocol error", remedy: UNUSUAL },
  0x83: { name: "implementation specific error", remedy: LATER },
  0x84: { name: "unsupported protocol version", remedy: VERSION },
  0x85: { name: "client identifier not valid", remedy: LATER },
  0x86: { name: "bad user name or password", remedy: LOGIN },
  0x87: {
    name: "not authorized",
    remedy: `${LOGIN}, and let the user read and write punchline/1/# at the broker`,
  },
  0x88: { name: "server unavailable", remedy: LATER },
  0x89: { name: "server busy", remedy: LATER },
  0x8a: { name: "banned", remedy: OTHER },
  0x8b: { name: "server shutting down", remedy: LATER },
  0x8c: { name: "bad authentication method", remedy: OTHER },
  0x8d: { name: "keep alive timeout", remedy: LATER },
  0x8e: { name: "session taken over", remedy: LATER },
  0x8f: { name: "topic filter invalid", remedy: RIGHTS },
  0x90: { name: "topic name invalid", remedy: RIGHTS },
  0x91: { name: "packet identifier in use", remedy: UNUSUAL },
  0x93: { name: "receive maximum exceeded", remedy: LATER },
  0x94: { name: "topic alias invalid", remedy: UNUSUAL },
  0x95: { name: "packet too large", remedy: "Let the broker accept packets of 5 KiB" },
  0x96: { name: "message rate too high", remedy: LATER },
  0x97: { name: "quota exceeded", remedy: LATER },
  0x98: { name: "administrative action", remedy: OTHER },
  0x99: { name: "payload format invalid", remedy: "Let the broker accept binary messages" },
  0x9c: { name: "use another server", remedy: OTHER },
  0x9d: { name: "server moved", remedy: OTHER },
  0x9f: { name: "connection rate exceeded", remedy: LATER },
  0xa0: { name: "maximum connect time", remedy: LATER },
};
