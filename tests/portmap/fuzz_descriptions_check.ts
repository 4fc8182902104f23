/**
 * Recorded descriptions of devices, damaged at random: what is read from each is the right service, or one clear error.
 *
 * @module
 */

import { MalformedMessageError } from "../../lib/base/errors.ts";
import {
  decodeDeviceDescription,
  igdDevice,
  type IgdService,
  parseLocation,
} from "../../lib/portmap/upnp/device.ts";
import { type Random, randomInteger } from "../simnet/random.ts";

/** A recording, and the right control path of each of its service types. */
export interface Recording {
  readonly text: string;
  readonly services: readonly (readonly [serviceType: string, target: string])[];
}

/** The recordings of `tests/fixtures/igd`. */
export function readRecordings(): Recording[] {
  return Array.from(Deno.readDirSync(FIXTURES), ({ name }) => name)
    .filter((name) => name.endsWith(".xml")).sort()
    .map((name) => {
      const raw = Deno.readTextFileSync(new URL(name, FIXTURES));
      const text = raw.replaceAll("%s:%d", "192.168.1.1:4444");
      return { text, services: servicesOf(servicesIn(text)) };
    });
}

/** How a damaged description was read. */
export type DamageResult = "right" | "none" | "error";

/**
 * Damages a recording up to four times, in up to forty bytes each, and reads it.
 *
 * @throws {Error} if a control path of another service is taken for a connection's, or the error is not clear
 */
export function checkDamaged(recording: Recording, random: Random): DamageResult {
  let text = recording.text;
  const times = randomInteger(random, 1, 4);
  for (let time = 0; time < times; time++) text = damaged(text, random);
  try {
    const found = servicesOf(servicesIn(text));
    for (const [serviceType, target] of found) checkPair(recording, { serviceType, target, text });
    return found.length > 0 ? "right" : "none";
  } catch (error) {
    const isClear = error instanceof MalformedMessageError &&
      /^Cannot read [^\n]+$/.test(error.message);
    if (!isClear) throw error;
    return "error";
  }
}

/** A path that is in the recording belongs to its own type; any other was damaged, and leads to nothing. */
function checkPair(
  { services }: Recording,
  { serviceType, target, text }: { serviceType: string; target: string; text: string },
): void {
  const owners = services.filter(([, known]) => known === target).map(([owner]) => owner);
  const isKnownType = services.some(([known]) => known === serviceType);
  if (owners.length === 0 || !isKnownType || owners.includes(serviceType)) return;
  throw new Error(`${serviceType} is read with the path of ${owners}: ${JSON.stringify(text)}`);
}

function servicesIn(text: string): readonly IgdService[] {
  const description = decodeDeviceDescription(new TextEncoder().encode(text));
  const { connections, firewall } = igdDevice(description, LOCATION);
  const all = firewall === undefined ? connections : [...connections, firewall];
  for (const { control: { address } } of all) {
    const isAllowed = address.ip === "192.168.1.1" && (address.port === 80 || address.port >= 1024);
    if (!isAllowed) throw new Error(`A control URL leads to ${address.ip}:${address.port}`);
  }
  return all;
}

function servicesOf(services: readonly IgdService[]): [string, string][] {
  return services.map(({ serviceType, control }) => [serviceType, control.target]);
}

function damaged(text: string, random: Random): string {
  const at = randomInteger(random, 0, text.length - 1);
  const end = at + randomInteger(random, 1, 40);
  const part = text.slice(at, end);
  const [before, after] = [text.slice(0, at), text.slice(end)];
  switch (randomInteger(random, 0, 6)) {
    case 0:
      return before + after;
    case 1:
      return before + part + part + after;
    case 2:
      return before + [...part].reverse().join("") + after;
    case 3:
      return before + String.fromCharCode(randomInteger(random, 1, 255)) + text.slice(at + 1);
    case 4:
      return before + TOKENS[randomInteger(random, 0, TOKENS.length - 1)]! + text.slice(at);
    case 5:
      return before + part.toUpperCase() + after;
    default:
      return before; // cut
  }
}

const FIXTURES = new URL("../fixtures/igd/", import.meta.url);
const LOCATION = parseLocation("http://192.168.1.1:49152/gateway.xml", "192.168.1.1");

const TOKENS = [
  ...["<", ">", "</", "/>", "&", "&lt;", "&#x41;", "<!--", "-->", "<![CDATA[", "]]>", "<?x?>"],
  ...[
    "<service>",
    "</service>",
    "<serviceType>",
    "</serviceType>",
    "<controlURL>",
    "</controlURL>",
  ],
  ...["<URLBase>http://10.0.0.1:22/</URLBase>", "\0", "\ufffd", "http://evil.example/", "\r\n\r\n"],
];
