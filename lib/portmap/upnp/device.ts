/**
 * Descriptions of UPnP devices: UPnP Device Architecture 2.0 §2.3.
 *
 * @module
 */

import { MalformedMessageError } from "../../base/errors.ts";
import { childOf, childText, findElement, parseXml, type XmlElement } from "./xml.ts";

/** What a device says about itself, and about the devices in it. */
export interface DeviceDescription {
  /** What relative URLs are relative to; empty if it does not say, as it should. */
  readonly urlBase: string;
  /** Of the root device. */
  readonly deviceType: string;
  readonly friendlyName: string;
  readonly modelName: string;
  /** Of all its devices, in the order of the document. */
  readonly services: readonly ServiceDescription[];
}

/** One service; URLs as they were sent. */
export interface ServiceDescription {
  readonly serviceType: string;
  readonly serviceId: string;
  readonly controlUrl: string;
  readonly eventSubUrl: string;
  readonly scpdUrl: string;
}

/**
 * Reads a description.
 *
 * @throws {MalformedMessageError} if it is not XML, or describes no device
 */
export function decodeDeviceDescription(bytes: Uint8Array): DeviceDescription {
  const root = parseXml(bytes);
  const device = findElement(root, "device");
  if (device === undefined) {
    throw new MalformedMessageError("Cannot read device description: it has no device element");
  }
  const services: ServiceDescription[] = [];
  collectServices(device, services);
  return {
    urlBase: childText(root, "URLBase"),
    deviceType: childText(device, "deviceType"),
    friendlyName: childText(device, "friendlyName"),
    modelName: childText(device, "modelName"),
    services,
  };
}

function collectServices(device: XmlElement, services: ServiceDescription[]): void {
  for (const service of childrenOfList(device, "serviceList", "service")) {
    if (services.length === MAX_SERVICES) return;
    services.push({
      serviceType: childText(service, "serviceType"),
      serviceId: childText(service, "serviceId"),
      controlUrl: childText(service, "controlURL"),
      eventSubUrl: childText(service, "eventSubURL"),
      scpdUrl: childText(service, "SCPDURL"),
    });
  }
  for (const inner of childrenOfList(device, "deviceList", "device")) {
    collectServices(inner, services);
  }
}

function childrenOfList(device: XmlElement, list: string, name: string): readonly XmlElement[] {
  const children = childOf(device, list)?.children ?? [];
  return children.filter((child) => child.name === name);
}

/** Ours: gateways have about ten. */
const MAX_SERVICES = 100;
