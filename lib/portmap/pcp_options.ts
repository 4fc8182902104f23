/**
 * PCP options: RFC 6887 §7.3 and §13.
 *
 * @module
 */

import { ByteReader, concat } from "../base/bytes.ts";
import { pcpAddressBytes, readPcpAddress } from "./pcp_address.ts";

/** One option of a request or response. */
export type PcpOption =
  /** The mapping is for another host than the one that asks: RFC 6887 §13.1. */
  | { readonly type: "THIRD_PARTY"; readonly internalIp: string }
  /** Refuse rather than grant another external address or port: RFC 6887 §13.2. */
  | { readonly type: "PREFER_FAILURE" }
  /** Let these remote peers in, and nobody else: RFC 6887 §13.3. */
  | PcpFilter
  /** One that is not in RFC 6887. Below 128 a server that does not know it must refuse the request. */
  | { readonly type: number; readonly data: Uint8Array };

/** Whom a mapping lets in: RFC 6887 §13.3. */
export interface PcpFilter {
  /** Tells it from other options. */
  readonly type: "FILTER";
  /** As in the message: 96 more than the network's own for IPv4, up to 128; 0 takes all filters away. */
  readonly prefixLength: number;
  /** 0 for all ports. */
  readonly remotePeerPort: number;
  /** The address, or the network's. */
  readonly remotePeerIp: string;
}

/** The bytes of options, each padded to whole words. */
export function encodePcpOptions(options: readonly PcpOption[]): Uint8Array<ArrayBuffer> {
  return concat(...options.map(encodeOption));
}

/**
 * Reads options up to the end of the message.
 *
 * @throws {MalformedMessageError} if one does not fit
 */
export function decodePcpOptions(bytes: Uint8Array): PcpOption[] {
  const reader = new ByteReader(bytes, "PCP options");
  const options: PcpOption[] = [];
  while (reader.remaining > 0) {
    const code = reader.uint8("option code");
    reader.uint8("reserved");
    const length = reader.uint16("option length");
    options.push(decodeOption(code, reader.bytes(length, `data of option ${code}`)));
    reader.bytes(paddingOf(length), `padding of option ${code}`);
  }
  return options;
}

function encodeOption(option: PcpOption): Uint8Array {
  const code = typeof option.type === "number" ? option.type : CODES[option.type];
  const data = dataOf(option);
  const header = new Uint8Array(4);
  const view = new DataView(header.buffer);
  view.setUint8(0, code);
  view.setUint16(2, data.length);
  return concat(header, data, new Uint8Array(paddingOf(data.length)));
}

function dataOf(option: PcpOption): Uint8Array {
  switch (option.type) {
    case "THIRD_PARTY":
      return pcpAddressBytes(option.internalIp);
    case "PREFER_FAILURE":
      return new Uint8Array(0);
    case "FILTER": {
      const { prefixLength, remotePeerPort, remotePeerIp } = option;
      const data = concat(new Uint8Array(4), pcpAddressBytes(remotePeerIp));
      const view = new DataView(data.buffer);
      view.setUint8(1, prefixLength);
      view.setUint16(2, remotePeerPort);
      return data;
    }
    default:
      return option.data;
  }
}

function decodeOption(code: number, data: Uint8Array): PcpOption {
  const reader = new ByteReader(data, `PCP option ${code}`);
  const option = readOption(code, reader);
  if (option === undefined) return { type: code, data };
  reader.end();
  return option;
}

function readOption(code: number, reader: ByteReader): PcpOption | undefined {
  switch (code) {
    case CODES.THIRD_PARTY:
      return { type: "THIRD_PARTY", internalIp: readPcpAddress(reader, "internal IP") };
    case CODES.PREFER_FAILURE:
      return { type: "PREFER_FAILURE" };
    case CODES.FILTER: {
      reader.uint8("reserved");
      return {
        type: "FILTER",
        prefixLength: reader.uint8("prefix length"),
        remotePeerPort: reader.uint16("remote peer port"),
        remotePeerIp: readPcpAddress(reader, "remote peer IP"),
      };
    }
    default:
      return undefined;
  }
}

function paddingOf(length: number): number {
  return (4 - length % 4) % 4;
}

/** RFC 6887 §19.4. */
const CODES = { THIRD_PARTY: 1, PREFER_FAILURE: 2, FILTER: 3 } as const;
