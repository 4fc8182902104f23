/**
 * UDP sockets of the system: `Deno.listenDatagram` if it exists (it needs `--unstable-net`), otherwise `node:dgram`.
 *
 * @module
 */

import { copyOf } from "../../base/bytes.ts";
import { NetworkError } from "../../base/errors.ts";
import { WaitQueue } from "../../base/wait_queue.ts";
import { ipFamily, ipScope, parseIp, type TransportAddress } from "../address.ts";
import type {
  BindUdpOptions,
  Datagram,
  DatagramAnswerer,
  MulticastOptions,
  UdpSocket,
} from "../network.ts";
import { action, isFullyGranted, mayReach, requireNet, toNetworkError } from "./platform.ts";
import dgram from "node:dgram";

/** As {@linkcode Network.bindUdp}. Multicast always uses `node:dgram`: only that can choose the interface to send on. */
export async function bindUdp(
  local: TransportAddress,
  options: BindUdpOptions = {},
): Promise<UdpSocket> {
  const { multicast } = options;
  requireNet(action("bind UDP", local), local.ip, local.port);
  try {
    return listenDatagram === undefined || multicast !== undefined
      ? await bindNode(local, options)
      : bindDeno(listenDatagram, local, options);
  } catch (error) {
    throw toNetworkError(action("bind UDP", local), error);
  }
}

/** The differences between the platform's two kinds of socket. */
interface Driver {
  readonly local: TransportAddress;
  send(data: Uint8Array, to: TransportAddress): Promise<unknown>;
  close(): void;
}

class SystemUdpSocket implements UdpSocket {
  readonly local: TransportAddress;
  readonly #driver: Driver;
  readonly #queue: WaitQueue<Datagram>;
  readonly #unrestricted = isFullyGranted("net");

  constructor(driver: Driver, queue: WaitQueue<Datagram>) {
    this.local = driver.local;
    this.#driver = driver;
    this.#queue = queue;
  }

  async send(data: Uint8Array, to: TransportAddress): Promise<void> {
    if (!this.#unrestricted) requireNet(action("send to", to), to.ip, to.port);
    try {
      await this.#driver.send(data, to);
    } catch (error) {
      throw toNetworkError(action("send to", to), error);
    }
  }

  receive(options: { signal?: AbortSignal } = {}): Promise<Datagram> {
    return this.#queue.next(options.signal);
  }

  close(): void {
    if (!this.#queue.close(closedError(this.local))) return;
    this.#driver.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function bindDeno(
  listen: ListenDatagram,
  local: TransportAddress,
  options: BindUdpOptions,
): UdpSocket {
  const conn = listen({ transport: "udp", hostname: local.ip, port: local.port });
  const queue = new WaitQueue<Datagram>(MAX_WAITING);
  const bound: TransportAddress = { ip: parseIp(conn.addr.hostname), port: conn.addr.port };
  pump(conn, queue, options);
  return new SystemUdpSocket({
    local: bound,
    send: (data, to) => conn.send(data, { transport: "udp", hostname: to.ip, port: to.port }),
    close: () => conn.close(),
  }, queue);
}

async function pump(
  conn: DatagramConn,
  queue: WaitQueue<Datagram>,
  options: BindUdpOptions,
): Promise<void> {
  const { accepts = () => true, maxDatagramBytes = MAX_DATAGRAM } = options;
  const answerer = answererOf(options);
  const buffer = new Uint8Array(maxDatagramBytes);
  let failures = 0;
  while (!queue.isClosed) {
    try {
      const [data, source] = await conn.receive(buffer);
      failures = 0;
      const from = { ip: canonicalIp(source.hostname), port: source.port };
      const answer = answerer?.answer(data, from);
      if (answer === undefined) {
        if (accepts(data)) queue.push({ data: copyOf(data), from });
        continue;
      }
      let isSent = false;
      try {
        await conn.send(answer, source);
        isSent = true;
      } finally {
        answerer!.onAnswered(isSent);
      }
    } catch (error) {
      // Windows reports here an ICMP port unreachable for an earlier send. The socket still works.
      if (queue.isClosed || ++failures < MAX_FAILURES) continue;
      queue.close(toNetworkError("Cannot receive", error));
      conn.close();
    }
  }
}

/** Without full permission, each address is checked. To receive a datagram and send its answer then says what is missing. */
function answererOf({ answerer }: BindUdpOptions): DatagramAnswerer | undefined {
  if (answerer === undefined || isFullyGranted("net")) return answerer;
  return {
    answer: (data, from) => mayReach(from) ? answerer.answer(data, from) : undefined,
    onAnswered: (isSent) => answerer.onAnswered(isSent),
  };
}

async function bindNode(local: TransportAddress, options: BindUdpOptions): Promise<UdpSocket> {
  const { multicast, accepts = () => true, maxDatagramBytes } = options;
  const answerer = answererOf(options);
  const v6 = ipFamily(local.ip) === 6;
  const reuseAddr = (multicast?.groups ?? []).length > 0;
  const socket = dgram.createSocket({ type: v6 ? "udp6" : "udp4", ipv6Only: v6, reuseAddr });
  const queue = new WaitQueue<Datagram>(MAX_WAITING);
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.bind({ address: local.ip, port: local.port, exclusive: true }, () => {
      socket.off("error", reject);
      resolve();
    });
  });
  try {
    if (multicast !== undefined) setUpMulticast(socket, local.ip, multicast);
    if (maxDatagramBytes !== undefined) sizeReceiveBuffer(socket, maxDatagramBytes);
  } catch (error) {
    socket.close();
    throw error;
  }
  socket.on("error", () => {}); // as in pump(): an ICMP error for an earlier send; the socket still works
  socket.on("message", (data, source) => {
    const from = { ip: parseIp(source.address), port: source.port };
    const answer = answerer?.answer(data, from);
    if (answer !== undefined) {
      const onSent = (error: Error | null) => answerer!.onAnswered(error === null);
      socket.send(answer.slice(), source.port, source.address, onSent);
    } else if (accepts(data)) queue.push({ data: new Uint8Array(data), from });
  });
  const { address, port } = socket.address();
  return new SystemUdpSocket({
    local: { ip: parseIp(address), port },
    send: (data, to) =>
      new Promise<void>((resolve, reject) => {
        socket.send(data, to.port, to.ip, (error) => error === null ? resolve() : reject(error));
      }),
    close: () => socket.close(),
  }, queue);
}

/**
 * Deno allocates a buffer for each datagram, as large as it says that the socket's receive buffer is: 64 KiB by default,
 * and twice what is set on Linux, as the kernel would. The kernel's buffer stays as it is.
 */
function sizeReceiveBuffer(socket: dgram.Socket, maxDatagramBytes: number): void {
  if (socket.getRecvBufferSize() !== POLYFILL_BYTES) return; // a real buffer: leave that to the system
  socket.setRecvBufferSize(Math.max(maxDatagramBytes, MIN_RECEIVE_BYTES));
}

function setUpMulticast(
  socket: dgram.Socket,
  localIp: string,
  { groups = [], hops }: MulticastOptions,
): void {
  const outgoing = interfaceName(localIp);
  if (outgoing !== undefined) socket.setMulticastInterface(outgoing);
  if (hops !== undefined) socket.setMulticastTTL(hops);
  for (const { group, interfaceIp } of groups) {
    try {
      socket.addMembership(group, interfaceName(interfaceIp));
    } catch (cause) {
      const message = `Cannot join the multicast group ${group}: no network interface takes it`;
      throw new NetworkError(message, "unreachable", { cause });
    }
  }
}

/** The name of an address's interface for `node:dgram`; `undefined` if the system chooses it. */
function interfaceName(ip: string): string | undefined {
  if (ipFamily(ip) === 4) return ipScope(ip) === "unspecified" ? undefined : ip;
  const zone = ip.indexOf("%");
  return zone === -1 ? undefined : `::${ip.slice(zone)}`;
}

/** Deno formats IPv4 addresses as we do. Parsing each again would be a tenth of a server's work. */
function canonicalIp(ip: string): string {
  return ipFamily(ip) === 4 ? ip : parseIp(ip);
}

function closedError(local: TransportAddress): NetworkError {
  return new NetworkError(`${action("receive on", local)}: the socket is closed`, "closed");
}

// Structural types, because Deno's own exist only under `--unstable-net`.
interface NetAddr {
  transport: "udp";
  hostname: string;
  port: number;
}
interface DatagramConn {
  readonly addr: NetAddr;
  send(data: Uint8Array, to: NetAddr): Promise<number>;
  receive(buffer: Uint8Array): Promise<[Uint8Array, NetAddr]>;
  close(): void;
}
type ListenDatagram = (options: NetAddr) => DatagramConn;

const listenDatagram = (Deno as { listenDatagram?: ListenDatagram }).listenDatagram;

/** The largest UDP payload. */
const MAX_DATAGRAM = 65_535;

/** The default in Deno's polyfill, which is no size of a real buffer. */
const POLYFILL_BYTES = 65_536;

/** Chosen by us: smaller buffers save nothing. */
const MIN_RECEIVE_BYTES = 512;

/** Datagrams that wait for receive(). Chosen by us: as many small ones as a kernel's default buffer holds. */
const MAX_WAITING = 1024;

/** Chosen by us: a socket is broken after this many errors in a row. */
const MAX_FAILURES = 100;
