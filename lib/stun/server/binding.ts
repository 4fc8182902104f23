/**
 * How a STUN server answers a Binding request: RFC 8489 §6.3, RFC 5780 §6.1, and RFC 3489 §8.1 for clients without the
 * magic cookie. It only decides: sockets, clocks and rates belong to the server.
 *
 * @module
 */

import { MalformedMessageError } from "../../base/errors.ts";
import {
  ipFamily,
  ipScope,
  ipToBytes,
  ipv4Bits,
  sameTransportAddress,
  type TransportAddress,
} from "../../net/address.ts";
import { RFC8489_ATTRIBUTES } from "../attribute_tables.ts";
import { attributeCode, type StunAttribute, type StunAttributeName } from "../attributes.ts";
import {
  ATTRIBUTE_HEADER_LENGTH,
  hasMagicCookie,
  HEADER_LENGTH,
  MAGIC_COOKIE,
  paddedLength,
  readUint16,
  writeUint16,
  writeUint32,
} from "../codec.ts";
import { verifyFingerprint } from "../integrity.ts";
import {
  BINDING,
  decodeMessage,
  encodeMessage,
  getAttribute,
  type StunMessage,
  unknownRequiredAttributes,
} from "../message.ts";

/** How a request reached the server. */
export interface Arrival {
  readonly transport: "udp" | "tcp";
  /** The sender as the server sees it: the mapped address. */
  readonly source: TransportAddress;
  /** Where it arrived: Da and Dp of RFC 5780 §6.1. */
  readonly destination: TransportAddress;
  /** The server's other IP address and other port, Ca and Cp; `undefined` if the server has only one address. */
  readonly other?: TransportAddress;
}

/** A response, and where to send it. */
export interface BindingAnswer {
  readonly response: StunMessage;
  /** How many attributes, from the first, remain when the response has to be shortened. */
  readonly requiredAttributes: number;
  /** Whether the response ends with a FINGERPRINT, as the request does. */
  readonly fingerprint: boolean;
  /** Whether to fill the response up to the length of the request with PADDING (RFC 5780 §7.6). */
  readonly padding: boolean;
  readonly from: TransportAddress;
  readonly to: TransportAddress;
  /**
   * Whether the response is padded, or does not simply return the way the request came. An attacker who forges the
   * source of requests could exploit that, so servers limit the rate.
   */
  readonly limited: boolean;
}

/**
 * Whether a datagram can be a Binding request, as its header and the lengths of its attributes tell. Errors are costly, so a
 * flood of junk must not reach the decoder.
 */
export function mayBeBindingRequest(data: Uint8Array): boolean {
  if (data.length < HEADER_LENGTH || data.length > MAX_REQUEST_LENGTH) return false;
  if (readUint16(data, 0) !== BINDING || readUint16(data, 2) !== data.length - HEADER_LENGTH) {
    return false;
  }
  const isPadded = hasMagicCookie(data); // RFC 3489 has no padding
  let at = HEADER_LENGTH;
  while (at + ATTRIBUTE_HEADER_LENGTH <= data.length) {
    const length = readUint16(data, at + 2);
    at += ATTRIBUTE_HEADER_LENGTH + (isPadded ? paddedLength(length) : length);
  }
  return at === data.length;
}

/** Decodes a message; `undefined` if it is malformed or its FINGERPRINT is wrong. RFC 8489 §6.3: both are ignored. */
export function decodeRequest(data: Uint8Array): StunMessage | undefined {
  if (data.length > MAX_REQUEST_LENGTH) return undefined;
  try {
    const message = decodeMessage(data);
    return verifyFingerprint(data) === "invalid" ? undefined : message;
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined;
    throw error;
  }
}

/** The answer to a message; `undefined` if it is not a Binding request, and so is ignored. */
export function answerBinding(request: StunMessage, arrival: Arrival): BindingAnswer | undefined {
  if (request.class !== "request" || request.method !== BINDING) return undefined;
  const unknown = notUnderstood(request, arrival);
  if (unknown.length > 0) return refuseUnknown(request, arrival, unknown);
  if (!isAllowed(request, arrival)) return refuseBinding(request, arrival, 400);

  const padding = getAttribute(request, "PADDING") !== undefined;
  const { from, to } = route(request, arrival);
  const redirected = !sameTransportAddress(from, arrival.destination) ||
    !sameTransportAddress(to, arrival.source);
  return {
    response: {
      class: "success",
      method: BINDING,
      transactionId: request.transactionId,
      attributes: isRfc3489(request) ? rfc3489Attributes(from, arrival) : attributes(from, arrival),
    },
    requiredAttributes: 1,
    fingerprint: hasFingerprint(request),
    padding,
    from,
    to,
    limited: redirected || padding,
  };
}

/**
 * An error response: 400 (Bad Request), 420 (Unknown Attribute) or 500 (Server Error, try again later). It has no
 * reason phrase, which would make it longer than the request.
 */
export function refuseBinding(
  request: StunMessage,
  arrival: Arrival,
  code: 400 | 420 | 500,
): BindingAnswer {
  return {
    response: {
      class: "error",
      method: BINDING,
      transactionId: request.transactionId,
      attributes: [{ type: "ERROR-CODE", value: { code, reason: "" } }],
    },
    requiredAttributes: 1,
    fingerprint: hasFingerprint(request),
    padding: false,
    from: arrival.destination,
    to: arrival.source,
    limited: false,
  };
}

/**
 * Encodes an answer. If it is longer than the request by more bytes than the source is allowed, it loses its last
 * attributes. What is still too long is sent if it is a success response, because RFC 8489 requires its one remaining
 * attribute (12 bytes more than the shortest request, 24 with IPv6). An error response is dropped.
 *
 * @param requestLength in bytes
 * @param mayExceed takes this many bytes from the token bucket of the source; `false` if it has too few
 * @returns `undefined` if nothing is to be sent
 */
export function encodeAnswer(
  answer: BindingAnswer,
  requestLength: number,
  mayExceed: (bytes: number) => boolean,
): Uint8Array<ArrayBuffer> | undefined {
  const { response, requiredAttributes, fingerprint } = answer;
  for (let count = response.attributes.length; count >= requiredAttributes; count--) {
    const attributes = response.attributes.slice(0, count);
    let bytes = encodeMessage({ ...response, attributes }, { fingerprint });
    const room = requestLength - bytes.length - ATTRIBUTE_HEADER_LENGTH;
    if (answer.padding && room >= 0) {
      const padding = { type: "PADDING", value: new Uint8Array(room & ~3) } as const;
      bytes = encodeMessage({ ...response, attributes: [...attributes, padding] }, { fingerprint });
    }
    const excess = bytes.length - requestLength;
    const last = count === requiredAttributes && response.class === "success";
    if (excess <= 0 || mayExceed(excess) || last) return bytes;
  }
  return undefined;
}

/** Whether a datagram is a Binding request with no attributes, or with a SOFTWARE only. */
export function isPlainBinding(data: Uint8Array): boolean {
  if (data.length < HEADER_LENGTH || readUint16(data, 0) !== BINDING) return false;
  if (!hasMagicCookie(data) || readUint16(data, 2) !== data.length - HEADER_LENGTH) return false;
  if (data.length === HEADER_LENGTH) return true;
  if (data.length < HEADER_LENGTH + ATTRIBUTE_HEADER_LENGTH) return false;
  const length = readUint16(data, HEADER_LENGTH + 2);
  return readUint16(data, HEADER_LENGTH) === SOFTWARE && length <= MAX_SOFTWARE_LENGTH &&
    data.length === HEADER_LENGTH + ATTRIBUTE_HEADER_LENGTH + paddedLength(length);
}

/** Answers plain requests that arrive at one transport address, from a template: the fast path of a server. */
export class PlainResponder {
  /** The answer, in which each request changes what is its own. */
  readonly #answer: Uint8Array<ArrayBuffer>;
  readonly #attributeLength: number;
  readonly #attributeCount: number;

  /** @param arrival what all these requests have in common */
  constructor(arrival: Omit<Arrival, "source">) {
    const source = {
      ip: ipFamily(arrival.destination.ip) === 4 ? "0.0.0.0" : "::",
      port: 0,
    };
    const request = { class: "request", method: BINDING, attributes: [] } as const;
    const transactionId = new Uint8Array(12);
    const { response } = answerBinding({ ...request, transactionId }, { ...arrival, source })!;
    this.#answer = encodeMessage(response);
    this.#attributeCount = response.attributes.length;
    this.#attributeLength = (this.#answer.length - HEADER_LENGTH) / this.#attributeCount;
  }

  /**
   * The answer to a request for which {@linkcode isPlainBinding} is true. The next call overwrites it.
   *
   * @param mayExceed as in `encodeAnswer()`
   */
  respond(
    request: Uint8Array,
    source: TransportAddress,
    mayExceed: (bytes: number) => boolean,
  ): Uint8Array<ArrayBuffer> {
    const answer = this.#answer;
    let count = this.#attributeCount;
    let length = answer.length;
    while (count > 1 && length > request.length && !mayExceed(length - request.length)) {
      count--;
      length -= this.#attributeLength;
    }
    writeUint16(answer, 2, length - HEADER_LENGTH);
    for (let i = 8; i < HEADER_LENGTH; i++) answer[i] = request[i]!; // the transaction ID
    // XOR-MAPPED-ADDRESS comes first, MAPPED-ADDRESS last.
    const xored = HEADER_LENGTH + ATTRIBUTE_HEADER_LENGTH + 2;
    const bits = ipv4Bits(source.ip);
    const address = bits === undefined ? ipToBytes(source.ip) : undefined;
    writeUint16(answer, xored, source.port ^ (MAGIC_COOKIE >>> 16));
    if (address === undefined) writeUint32(answer, xored + 2, bits! ^ MAGIC_COOKIE);
    else address.forEach((byte, i) => answer[xored + 2 + i] = byte ^ answer[4 + i]!);
    if (count < this.#attributeCount) return answer.subarray(0, length);
    const mapped = length - (address?.length ?? 4);
    writeUint16(answer, mapped - 2, source.port);
    if (address === undefined) writeUint32(answer, mapped, bits!);
    else answer.set(address, mapped);
    return answer;
  }
}

/** RFC 5780 §6.1 requires all four. The most useful come first. */
function attributes(from: TransportAddress, { source, other }: Arrival): StunAttribute[] {
  const list: StunAttribute[] = [{ type: "XOR-MAPPED-ADDRESS", value: source }];
  if (other !== undefined) list.push({ type: "OTHER-ADDRESS", value: other });
  if (ipScope(from.ip) !== "unspecified") list.push({ type: "RESPONSE-ORIGIN", value: from });
  list.push({ type: "MAPPED-ADDRESS", value: source });
  return list;
}

/** RFC 3489 §8.1. A server with one address repeats it as CHANGED-ADDRESS, by which old clients recognise the case. */
function rfc3489Attributes(from: TransportAddress, arrival: Arrival): StunAttribute[] {
  const { source, other = from } = arrival;
  return [
    { type: "MAPPED-ADDRESS", value: source },
    { type: "CHANGED-ADDRESS", value: other },
    { type: "SOURCE-ADDRESS", value: from },
  ];
}

/** RFC 5780 §6.1, table 1. */
function route(request: StunMessage, arrival: Arrival): Pick<BindingAnswer, "from" | "to"> {
  const { source, destination, other = destination } = arrival;
  const change = getAttribute(request, "CHANGE-REQUEST");
  const responsePort = getAttribute(request, "RESPONSE-PORT") ??
    getAttribute(request, "RESPONSE-ADDRESS")?.port;
  return {
    from: {
      ip: change?.changeIp ? other.ip : destination.ip,
      port: change?.changePort ? other.port : destination.port,
    },
    to: responsePort === undefined ? source : { ip: source.ip, port: responsePort },
  };
}

/** The comprehension-required attributes that call for a 420: RFC 8489 §6.3.1. */
function notUnderstood(request: StunMessage, { other }: Arrival): number[] {
  const rfc3489 = isRfc3489(request);
  const codes = unknownRequiredAttributes(request, ({ type }) =>
    typeof type === "string" &&
    (UNDERSTOOD.has(type) || (rfc3489 && type === "RESPONSE-ADDRESS")));
  // RFC 5780 §6: a server with one address refuses every CHANGE-REQUEST. RFC 3489 clients send one with every
  // request; if no flag is set, it asks for nothing.
  const change = getAttribute(request, "CHANGE-REQUEST");
  const asks = change !== undefined && (!rfc3489 || change.changeIp || change.changePort);
  return other === undefined && asks ? [...codes, attributeCode("CHANGE-REQUEST")] : codes;
}

/** `false` for what RFC 5780 answers with 400, and for a RESPONSE-ADDRESS that would aim the server at a third party. */
function isAllowed(request: StunMessage, { transport, source }: Arrival): boolean {
  const responsePort = getAttribute(request, "RESPONSE-PORT");
  const responseAddress = getAttribute(request, "RESPONSE-ADDRESS");
  const change = getAttribute(request, "CHANGE-REQUEST");
  const padded = getAttribute(request, "PADDING") !== undefined;

  if (responsePort === 0) return false;
  if (responsePort !== undefined && padded) return false;
  if (responseAddress !== undefined && responseAddress.ip !== source.ip) return false;
  if (responseAddress?.port === 0) return false;
  // RFC 5780 §3.2, §3.3, §3.5: these tests apply to UDP only.
  const udpOnly = responsePort !== undefined || responseAddress !== undefined || padded ||
    change?.changeIp || change?.changePort;
  return transport === "udp" || !udpOnly;
}

function refuseUnknown(
  request: StunMessage,
  arrival: Arrival,
  codes: readonly number[],
): BindingAnswer {
  const refusal = refuseBinding(request, arrival, 420);
  const listed = codes.slice(0, MAX_UNKNOWN_ATTRIBUTES);
  const attributes: StunAttribute[] = [
    ...refusal.response.attributes,
    { type: "UNKNOWN-ATTRIBUTES", value: listed },
  ];
  return {
    ...refusal,
    response: { ...refusal.response, attributes },
    requiredAttributes: 2,
  };
}

function isRfc3489(request: StunMessage): boolean {
  return request.transactionId.length === 16;
}

function hasFingerprint(request: StunMessage): boolean {
  return getAttribute(request, "FINGERPRINT") !== undefined;
}

/**
 * What a Binding request may carry. Credentials are understood but not required: RFC 8489 §9 leaves that to the server.
 * The attributes of RFC 3489 that RFC 8489 §18.3 reserves are not understood.
 */
const UNDERSTOOD: ReadonlySet<StunAttributeName> = new Set<StunAttributeName>([
  "MAPPED-ADDRESS",
  "XOR-MAPPED-ADDRESS",
  "USERNAME",
  "USERHASH",
  "MESSAGE-INTEGRITY",
  "MESSAGE-INTEGRITY-SHA256",
  "ERROR-CODE",
  "UNKNOWN-ATTRIBUTES",
  "REALM",
  "NONCE",
  "PASSWORD-ALGORITHM",
  "CHANGE-REQUEST",
  "RESPONSE-PORT",
  "PADDING",
]);

const SOFTWARE = RFC8489_ATTRIBUTES["SOFTWARE"].code;

/** RFC 8489 §14.14. */
const MAX_SOFTWARE_LENGTH = 763;

/** Chosen by us: more than an honest request has, and few enough for a short response. */
const MAX_UNKNOWN_ATTRIBUTES = 16;

/** Chosen by us: room for a PADDING of a jumbo frame, RFC 5780 §7.6. */
const MAX_REQUEST_LENGTH = 9216;
