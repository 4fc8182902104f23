/**
 * A host: a network namespace without a name, with a TUN device as its only way out.
 *
 * The namespace lives as long as a descriptor of it is open or a program runs in it, and the device as long as
 * its descriptor, so nothing outlives the process that holds them, however it ends.
 *
 * @module
 */

import {
  defaultRoute,
  flags,
  IFF_NO_PI,
  IFF_TUN,
  IFF_UP,
  IFNAMSIZ,
  interfaceRequest,
  ipv6Address,
  ipv6DefaultRoute,
  NLMSG_HDRLEN,
  setQueueLengthMessage,
  SIOCADDRT,
  SIOCGIFINDEX,
  SIOCSIFADDR,
  SIOCSIFFLAGS,
  SIOCSIFNETMASK,
  socketAddress,
  TUNSETIFF,
} from "./interface_structs.ts";
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
    const device = interfaceRequest(DEVICE, flags(IFF_TUN | IFF_NO_PI));
    check(libc.ioctl(tun, TUNSETIFF, device), "make TUN");
    configure(libc, plan, check);
    return { name: plan.name, tun, namespace };
  } finally {
    check(libc.setns(home, CLONE_NEWNET), "return to own namespace");
    check(libc.close(home), "close");
  }
}

/** Sets up the interfaces, addresses and routes of the namespace that the thread is in. */
function configure(libc: Libc, { ipv4, ipv6, gateway }: HostPlan, check: Check): void {
  const socket = check(libc.socket(AF_INET, SOCK_DGRAM), "socket");
  const request = (code: number, argument: Uint8Array<ArrayBuffer>, action: string) =>
    check(libc.ioctl(socket, code, argument), action);

  const found = interfaceRequest(DEVICE, new Uint8Array(4));
  request(SIOCGIFINDEX, found, "find TUN");
  const interfaceIndex = new DataView(found.buffer).getInt32(IFNAMSIZ, true);
  setQueueLength(libc, interfaceIndex, check);

  request(SIOCSIFFLAGS, interfaceRequest("lo", flags(IFF_UP)), "set lo up");
  const mask = socketAddress(gateway === undefined ? "255.255.255.255" : "255.255.255.0");
  for (const [index, ip] of ipv4.entries()) {
    const label = index === 0 ? DEVICE : `${DEVICE}:${index}`;
    request(SIOCSIFADDR, interfaceRequest(label, socketAddress(ip)), `set address ${ip}`);
    request(SIOCSIFNETMASK, interfaceRequest(label, mask), "set netmask");
  }
  request(SIOCSIFFLAGS, interfaceRequest(DEVICE, flags(IFF_UP)), "set TUN up");
  request(SIOCADDRT, defaultRoute(gateway, DEVICE), "set default route");
  check(libc.close(socket), "close");
  if (ipv6.length > 0) configureIpv6(libc, ipv6, interfaceIndex, check);
}

/**
 * Makes the device hold a burst. By netlink, because the older SIOCSIFTXQLEN is refused in a user namespace.
 */
function setQueueLength(libc: Libc, interfaceIndex: number, check: Check): void {
  const socket = check(libc.socket(AF_NETLINK, SOCK_RAW), "netlink socket");
  const reply = new Uint8Array(64);
  check(
    libc.write(socket, setQueueLengthMessage(interfaceIndex, QUEUE_LENGTH)),
    "set queue length",
  );
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

/** Ends every program that runs in one of these hosts, also those that nobody waits for any more. */
export function endPrograms(hosts: readonly HostNamespace[]): void {
  const ours = new Set(hosts.map(({ namespace }) => readLink(`/proc/self/fd/${namespace}`)));
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name) || !ours.has(readLink(`/proc/${name}/ns/net`))) continue;
    try {
      Deno.kill(Number(name), "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // it ended by itself
    }
  }
}

/** Where a link points, or its path if that is not ours to know. */
function readLink(path: string): string {
  try {
    return Deno.readLinkSync(path);
  } catch {
    return path;
  }
}

/** Passes a result on, unless it is a failure; the action is for the message. */
type Check = (result: number, action: string) => number;

const DEVICE = "tun0";

/** More packets than a burst of a thousand connects can put there before they are read. */
const QUEUE_LENGTH = 20_000;

const OWN_NAMESPACE = "/proc/thread-self/ns/net";
const DISABLE_IPV6 = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
