/**
 * Inputs for the UPnP decoders: recorded and hand-written ones, mutated.
 *
 * @module
 */

import { type Random, randomInteger } from "../simnet/random.ts";
import { FIREWALL, WAN_IP_2 } from "./fake_gateway/fake_igd.ts";
import { answerXml, descriptionXml, faultXml } from "./fake_gateway/igd_xml.ts";

/** One input, and for which decoder it was made; all of them are given it. */
export function fuzzInput(random: Random): Uint8Array {
  let bytes: Uint8Array = SEEDS[randomInteger(random, 0, SEEDS.length - 1)]!.slice();
  const mutations = randomInteger(random, 0, 6);
  for (let i = 0; i < mutations; i++) bytes = mutate(bytes, random);
  return bytes.length <= MAX_BYTES ? bytes : bytes.slice(0, MAX_BYTES);
}

function mutate(bytes: Uint8Array, random: Random): Uint8Array {
  const at = randomInteger(random, 0, bytes.length);
  const to = Math.min(bytes.length, at + randomInteger(random, 0, 40));
  const splice = (middle: Uint8Array) =>
    new Uint8Array([...bytes.subarray(0, at), ...middle, ...bytes.subarray(to)]);
  switch (randomInteger(random, 0, 6)) {
    case 0:
      return bytes.slice(0, at);
    case 1:
      return splice(new Uint8Array());
    case 2:
      return splice(new Uint8Array([randomInteger(random, 0, 255)]));
    case 3:
      return splice(TOKENS[randomInteger(random, 0, TOKENS.length - 1)]!);
    case 4: { // what is there, many times
      const part = bytes.subarray(at, to);
      return splice(
        new Uint8Array(
          Array.from({ length: randomInteger(random, 2, 30) }, () => [...part]).flat(),
        ),
      );
    }
    case 5: { // the end of another
      const other = SEEDS[randomInteger(random, 0, SEEDS.length - 1)]!;
      return new Uint8Array([
        ...bytes.subarray(0, at),
        ...other.subarray(randomInteger(random, 0, other.length)),
      ]);
    }
    default: {
      const copy = bytes.slice();
      if (at < copy.length) copy[at] = randomInteger(random, 0, 255);
      return copy;
    }
  }
}

function toBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function bodyOf(reply: ReturnType<typeof faultXml>): string {
  return reply.kind === "response" ? String(reply.body) : "";
}

const SEEDS: readonly Uint8Array[] = [
  "HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nUSN: x\r\nLOCATION: http://192.168.1.1:5000/d.xml\r\n\r\n",
  "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n",
  "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 500 No\n\nbody until the end",
  descriptionXml([WAN_IP_2, FIREWALL], { urlBase: "http://192.168.1.1:5000/" }),
  bodyOf(faultXml(718, "Conflict &amp; more")),
  bodyOf(answerXml(WAN_IP_2.serviceType, "GetGenericPortMappingEntry", {
    NewRemoteHost: "",
    NewExternalPort: 80,
    NewProtocol: "TCP",
    NewInternalPort: 80,
    NewInternalClient: "192.168.1.2",
    NewEnabled: 1,
    NewPortMappingDescription: "a",
    NewLeaseDuration: 0,
  })),
].map(toBytes);

const TOKENS: readonly Uint8Array[] = [
  ...[
    "<",
    ">",
    "</",
    "/>",
    "<a>",
    "</a>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<!DOCTYPE x [",
    "]>",
  ],
  ...[
    '<!ENTITY a "b">',
    "&a;",
    "&#x0;",
    "&#1114112;",
    "&lt;",
    "<?xml",
    "?>",
    "<script>",
    "<style>",
  ],
  ...[
    "<__proto__>",
    '<a constructor="x" __proto__="y">',
    "xmlns:s=",
    '"',
    "'",
    "=",
    "\0",
    "\ufeff",
  ],
  ...[
    "\r\n",
    "\r\n\r\n",
    "\n\n",
    ":",
    "Content-Length: 99999999",
    "Content-Length: -1",
    "fffffffff\r\n",
  ],
  ...[
    "HTTP/1.1 200 OK\r\n",
    "Transfer-Encoding: chunked\r\n",
    "http://[::1%25x]:0/",
    "urn:",
    "%",
    "?",
  ],
].map(toBytes);

/** So that a run of a million ends: real inputs are bounded by their decoders. */
const MAX_BYTES = 16 * 1024;
