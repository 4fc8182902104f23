/**
 * The structures that configure network interfaces, addresses and routes on Linux: netdevice(7) and
 * rtnetlink(7), as laid out on 64-bit little-endian machines.
 *
 * @module
 */

import { ipToBytes } from "../../lib/net/address.ts";
import { AF_INET } from "./libc.ts";

/** `struct ifreq`: the interface's name, then the argument of the request; netdevice(7). */
export function interfaceRequest(name: string, argument: Uint8Array): Uint8Array<ArrayBuffer> {
  const request = new Uint8Array(40);
  request.set(new TextEncoder().encode(name));
  request.set(argument, IFNAMSIZ);
  return request;
}

/** Interface flags as the argument of a request. */
export function flags(value: number): Uint8Array {
  return new Uint8Array(new Uint16Array([value]).buffer);
}

/** `struct nlmsghdr`, `struct ifinfomsg`, and one `struct rtattr`; netlink(7), rtnetlink(7). */
export function setQueueLengthMessage(
  interfaceIndex: number,
  queueLength: number,
): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(40);
  const view = new DataView(message.buffer);
  view.setUint32(0, message.length, true);
  view.setUint16(4, RTM_SETLINK, true);
  view.setUint16(6, NLM_F_REQUEST | NLM_F_ACK, true);
  view.setInt32(20, interfaceIndex, true);
  view.setUint16(32, 8, true);
  view.setUint16(34, IFLA_TXQLEN, true);
  view.setUint32(36, queueLength, true);
  return message;
}

/** `struct sockaddr_in` without a port. */
export function socketAddress(ip: string): Uint8Array {
  const address = new Uint8Array(16);
  address[0] = AF_INET;
  address.set(ipToBytes(ip), 4);
  return address;
}

/** `struct rtentry`: the default route, via a gateway or directly through the device, whose name follows the entry. */
export function defaultRoute(gateway: string | undefined, device: string): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode(`${device}\0`);
  const entry = new Uint8Array(RTENTRY_LENGTH + name.length);
  const view = new DataView(entry.buffer);
  entry.set(socketAddress("0.0.0.0"), 8); // rt_dst
  entry.set(socketAddress(gateway ?? "0.0.0.0"), 24); // rt_gateway
  entry.set(socketAddress("0.0.0.0"), 40); // rt_genmask
  view.setUint16(56, gateway === undefined ? RTF_UP : RTF_UP | RTF_GATEWAY, true); // rt_flags
  entry.set(name, RTENTRY_LENGTH);
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(entry));
  view.setBigUint64(88, BigInt(address) + BigInt(RTENTRY_LENGTH), true); // rt_dev
  return entry;
}

/** `struct in6_ifreq`. */
export function ipv6Address(ip: string, interfaceIndex: number): Uint8Array<ArrayBuffer> {
  const request = new Uint8Array(24);
  request.set(ipToBytes(ip));
  const view = new DataView(request.buffer);
  view.setUint32(16, 128, true);
  view.setInt32(20, interfaceIndex, true);
  return request;
}

/** `struct in6_rtmsg` on a 64-bit machine. */
export function ipv6DefaultRoute(interfaceIndex: number): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(80);
  const view = new DataView(message.buffer);
  view.setUint32(56, 1, true); // rtmsg_metric
  view.setUint32(72, RTF_UP, true); // rtmsg_flags
  view.setInt32(76, interfaceIndex, true);
  return message;
}

/** linux/if.h, linux/if_tun.h, linux/sockios.h, linux/route.h. */
export const IFNAMSIZ = 16;
export const IFF_UP = 0x1;
export const IFF_TUN = 0x1;
export const IFF_TAP = 0x2;
export const IFF_NO_PI = 0x1000;
export const TUNSETIFF = 0x400454ca;
export const SIOCADDRT = 0x890b;
export const SIOCSIFFLAGS = 0x8914;
export const SIOCSIFADDR = 0x8916;
export const SIOCSIFNETMASK = 0x891c;
export const SIOCGIFINDEX = 0x8933;
const RTENTRY_LENGTH = 120;
const RTF_UP = 0x1;
const RTF_GATEWAY = 0x2;

/** linux/netlink.h, linux/rtnetlink.h, linux/if_link.h. */
export const NLMSG_HDRLEN = 16;
const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
const RTM_SETLINK = 19;
const IFLA_TXQLEN = 13;
