/**
 * A host: an unnamed network namespace whose only way out is a TUN device.
 *
 * The namespace lives as long as a descriptor of it is open or a program runs in it, and the device as long as
 * its descriptor. So nothing outlives the process that holds them, however it ends.
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
  /** The file descriptor that packets are read from and written to. */
  readonly tun: number;
  /** The namespace's file descriptor; other processes enter it by way of `/proc/PID/fd/THIS`. */
  readonly namespace: number;
}

/**
 * Creates a host. Afterwards the calling thread is back in its own namespace.
 *
 * @throws {Error} if a system call fails
 */
export function openHost(libc: Libc, plan: HostPlan): HostNamespace {
  const check: Check = (result, action) => {
    if (result >= 0) return result;
    throw new Error(`Cannot create host ${plan.name}: ${action}: ${libc.errorMessage()}`);
  };
  const home = check(libc.open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC), "open own namespace");
  try {
    check(libc.unshare(CLONE_NEWNET), "unshare");
    const namespace = check(libc.open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC), "open namespace");
    Deno.writeTextFileSync(DISABLE_IPV6, plan.ipv6.length > 0 ? "0" : "1");
    const tun = check(libc.open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "open TUN");
    const device = interfaceRequest(DEVICE, flags(IFF_TUN | IFF_NO_PI));
    check(libc.ioctl(tun, TUNSETIFF, device), "create TUN");
    configure(libc, plan, check);
    return { name: plan.name, tun, namespace };
  } finally {
    check(libc.setns(home, CLONE_NEWNET), "return to own namespace");
    check(libc.close(home), "close");
  }
}

/** Configures the interfaces, addresses and routes of the thread's current namespace. */
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
 * Makes the device's queue long enough for a burst. Uses netlink because SIOCSIFTXQLEN is refused in a user namespace.
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

/** Kills all programs that run in these hosts, including orphans. */
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

/** The target of a link, or its own path if the link cannot be read. */
function readLink(path: string): string {
  try {
    return Deno.readLinkSync(path);
  } catch {
    return path;
  }
}

/** Returns the result, or throws an error that names the action if it is a failure. */
type Check = (result: number, action: string) => number;

const DEVICE = "tun0";

/** More packets than a burst of thousands of connects can queue before they are read. */
const QUEUE_LENGTH = 20_000;

const OWN_NAMESPACE = "/proc/thread-self/ns/net";
const DISABLE_IPV6 = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
