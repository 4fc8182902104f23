/**
 * A host: a network namespace without a name, with a TUN device as its only way out.
 *
 * The namespace lives as long as a descriptor of it is open or a program runs in it, and the device as long as
 * its descriptor, so nothing outlives the process that holds them, however it ends.
 *
 * @module
 */

import { ipToBytes } from "../../lib/net/address.ts";
import {
  AF_INET,
  AF_INET6,
  AF_NETLINK,
  CLONE_NEWNET,
  type Libc,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  SOCK_DGRAM,
  SOCK_RAW,
} from "./libc.ts";
import type { HostPlan } from "./topology.ts";

/** An open host. */
export interface HostNamespace {
  readonly name: string;
  /** Packets are read from and written to this. */
  readonly tun: number;
  /** Of the namespace; others enter it by `/proc/PID/fd/THIS`. */
  readonly namespace: number;
}

/**
 * Makes a host. The calling thread is in its own namespace again afterwards.
 *
 * @throws {Error} if the system refuses
 */
export function openHost(libc: Libc, plan: HostPlan): HostNamespace {
  const check: Check = (result, action) => {
    if (result >= 0) return result;
    throw new Error(`Cannot make host ${plan.name}: ${action}: ${libc.errorMessage()}`);
  };
  const home = check(libc.open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC), "open own namespace");
  try {
    check(libc.unshare(CLONE_NEWNET), "unshare");
    const namespace = check(libc.open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC), "open namespace");
    Deno.writeTextFileSync(DISABLE_IPV6, plan.ipv6.length > 0 ? "0" : "1");

    const tun = check(libc.open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "open TUN");
    check(
      libc.ioctl(tun, TUNSETIFF, interfaceRequest(DEVICE, flags(IFF_TUN | IFF_NO_PI))),
      "make TUN",
    );
    const ipv4 = check(libc.socket(AF_INET, SOCK_DGRAM), "socket");
    const configure = (request: number, argument: Uint8Array<ArrayBuffer>, action: string) =>
      check(libc.ioctl(ipv4, request, argument), action);

    configure(SIOCSIFFLAGS, interfaceRequest("lo", flags(IFF_UP)), "set lo up");
    const found = interfaceRequest(DEVICE, new Uint8Array(4));
    configure(SIOCGIFINDEX, found, "find TUN");
    const interfaceIndex = new DataView(found.buffer).getInt32(IFNAMSIZ, true);
    setQueueLength(libc, interfaceIndex, check);
    for (const [index, ip] of plan.ipv4.entries()) {
      const label = index === 0 ? DEVICE : `${DEVICE}:${index}`;
      const mask = plan.gateway === undefined ? "255.255.255.255" : "255.255.255.0";
      configure(SIOCSIFADDR, interfaceRequest(label, socketAddress(ip)), `set address ${ip}`);
      configure(SIOCSIFNETMASK, interfaceRequest(label, socketAddress(mask)), "set netmask");
    }
    configure(SIOCSIFFLAGS, interfaceRequest(DEVICE, flags(IFF_UP)), "set TUN up");
    withCString(DEVICE, (device) => {
      configure(SIOCADDRT, defaultRoute(plan.gateway, device), "set default route");
    });
    check(libc.close(ipv4), "close");
    if (plan.ipv6.length > 0) configureIpv6(libc, plan.ipv6, interfaceIndex, check);
    return { name: plan.name, tun, namespace };
  } finally {
    check(libc.setns(home, CLONE_NEWNET), "return to own namespace");
    check(libc.close(home), "close");
  }
}

/**
 * Makes the device hold a burst. By netlink, because the older SIOCSIFTXQLEN is refused in a user namespace.
 */
function setQueueLength(libc: Libc, interfaceIndex: number, check: Check): void {
  const socket = check(libc.socket(AF_NETLINK, SOCK_RAW), "netlink socket");
  const reply = new Uint8Array(64);
  check(libc.write(socket, setLinkMessage(interfaceIndex)), "set queue length");
  check(libc.read(socket, reply), "set queue length");
  check(new DataView(reply.buffer).getInt32(NLMSG_HDRLEN, true), "set queue length");
  check(libc.close(socket), "close");
}

function configureIpv6(
  libc: Libc,
  ips: readonly string[],
  interfaceIndex: number,
  check: Check,
): void {
  const socket = check(libc.socket(AF_INET6, SOCK_DGRAM), "socket");
  for (const ip of ips) {
    check(libc.ioctl(socket, SIOCSIFADDR, ipv6Address(ip, interfaceIndex)), `set address ${ip}`);
  }
  check(libc.ioctl(socket, SIOCADDRT, ipv6DefaultRoute(interfaceIndex)), "set IPv6 default route");
  check(libc.close(socket), "close");
}

type Check = (result: number, action: string) => number;

/** `struct ifreq`: a name, then what the request is about; netdevice(7). */
function interfaceRequest(name: string, argument: Uint8Array): Uint8Array<ArrayBuffer> {
  const request = new Uint8Array(40);
  request.set(new TextEncoder().encode(name));
  request.set(argument, IFNAMSIZ);
  return request;
}

function flags(value: number): Uint8Array {
  return new Uint8Array(new Uint16Array([value]).buffer);
}

/** `struct nlmsghdr`, `struct ifinfomsg`, and one `struct rtattr`; netlink(7), rtnetlink(7). */
function setLinkMessage(interfaceIndex: number): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(40);
  const view = new DataView(message.buffer);
  view.setUint32(0, message.length, true);
  view.setUint16(4, RTM_SETLINK, true);
  view.setUint16(6, NLM_F_REQUEST | NLM_F_ACK, true);
  view.setInt32(20, interfaceIndex, true);
  view.setUint16(32, 8, true);
  view.setUint16(34, IFLA_TXQLEN, true);
  view.setUint32(36, QUEUE_LENGTH, true);
  return message;
}

/** `struct sockaddr_in` without a port. */
function socketAddress(ip: string): Uint8Array {
  const address = new Uint8Array(16);
  address[0] = AF_INET;
  address.set(ipToBytes(ip), 4);
  return address;
}

/** `struct rtentry` on a machine of 64 bits: all destinations, by way of a gateway or straight out. */
function defaultRoute(gateway: string | undefined, device: bigint): Uint8Array<ArrayBuffer> {
  const entry = new Uint8Array(120);
  const view = new DataView(entry.buffer);
  entry.set(socketAddress("0.0.0.0"), 8); // rt_dst
  entry.set(socketAddress(gateway ?? "0.0.0.0"), 24); // rt_gateway
  entry.set(socketAddress("0.0.0.0"), 40); // rt_genmask
  view.setUint16(56, gateway === undefined ? RTF_UP : RTF_UP | RTF_GATEWAY, true); // rt_flags
  view.setBigUint64(88, device, true); // rt_dev
  return entry;
}

/** `struct in6_ifreq`. */
function ipv6Address(ip: string, interfaceIndex: number): Uint8Array<ArrayBuffer> {
  const request = new Uint8Array(24);
  request.set(ipToBytes(ip));
  const view = new DataView(request.buffer);
  view.setUint32(16, 128, true);
  view.setInt32(20, interfaceIndex, true);
  return request;
}

/** `struct in6_rtmsg` on a machine of 64 bits. */
function ipv6DefaultRoute(interfaceIndex: number): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(80);
  const view = new DataView(message.buffer);
  view.setUint32(56, 1, true); // rtmsg_metric
  view.setUint32(72, RTF_UP, true); // rtmsg_flags
  view.setInt32(76, interfaceIndex, true);
  return message;
}

/** Lends the address of a C string in memory. */
function withCString(text: string, use: (pointer: bigint) => void): void {
  const bytes = new TextEncoder().encode(`${text}\0`);
  use(BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes))));
}

const DEVICE = "tun0";

/** More packets than a burst of a thousand connects can put there before they are read. */
const QUEUE_LENGTH = 20_000;

const OWN_NAMESPACE = "/proc/thread-self/ns/net";
const DISABLE_IPV6 = "/proc/sys/net/ipv6/conf/all/disable_ipv6";

/** linux/if.h, linux/if_tun.h, linux/sockios.h, linux/route.h. */
const IFNAMSIZ = 16;
const IFF_UP = 0x1;
const IFF_TUN = 0x1;
const IFF_NO_PI = 0x1000;
const TUNSETIFF = 0x400454ca;
const SIOCADDRT = 0x890b;
const SIOCSIFFLAGS = 0x8914;
const SIOCSIFADDR = 0x8916;
const SIOCSIFNETMASK = 0x891c;
const SIOCGIFINDEX = 0x8933;
const RTF_UP = 0x1;
const RTF_GATEWAY = 0x2;

/** linux/netlink.h, linux/rtnetlink.h, linux/if_link.h. */
const NLMSG_HDRLEN = 16;
const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
const RTM_SETLINK = 19;
const IFLA_TXQLEN = 13;
