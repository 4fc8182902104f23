/**
 * What must hold for any input of the UPnP decoders.
 *
 * @module
 */

import { MalformedMessageError } from "../../lib/base/errors.ts";
import { decodeDeviceDescription } from "../../lib/portmap/upnp/device.ts";
import { parseLocation } from "../../lib/portmap/upnp/device.ts";
import { HttpResponseDecoder } from "../../lib/portmap/upnp/http.ts";
import { getGenericPortMappingEntry } from "../../lib/portmap/upnp/actions.ts";
import { igdDevice } from "../../lib/portmap/upnp/device.ts";
import { decodeSoapBody } from "../../lib/portmap/upnp/soap.ts";
import { decodeSearchResponse } from "../../lib/portmap/upnp/ssdp.ts";

/**
 * Passes the input to every decoder; how many of them decoded it.
 *
 * @throws anything that a decoder must not throw: all but MalformedMessageError
 */
export function checkInput(bytes: Uint8Array): number {
  return DECODERS.filter((decode) => {
    try {
      decode(bytes);
      return true;
    } catch (error) {
      if (error instanceof MalformedMessageError) return false;
      throw error;
    }
  }).length;
}

const LOCATION = parseLocation("http://192.168.1.1:5000/d.xml", "192.168.1.1");

const DECODERS: readonly ((bytes: Uint8Array) => void)[] = [
  (bytes) => parseLocation(decodeSearchResponse(bytes).location, "fe80::1%eth0"),
  (bytes) => {
    const decoder = new HttpResponseDecoder(64 * 1024);
    const half = bytes.length >> 1;
    decoder.push(bytes.subarray(0, half)) ?? decoder.push(bytes.subarray(half)) ?? decoder.end();
  },
  (bytes) => igdDevice(decodeDeviceDescription(bytes), LOCATION),
  (bytes) => {
    const body = decodeSoapBody(bytes);
    if (body.kind === "values") getGenericPortMappingEntry(0).decode(body.values);
  },
];
