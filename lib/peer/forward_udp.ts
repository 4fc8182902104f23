/**
 * Forwarding of UDP: each flow has a stream, which asks for it and ends it, and whose number its datagrams bear, as in RFC
 * 9298. They go as datagrams of the connection once the other side is ready; those before, and those that are too long for
 * the path, go over the stream: a length of two bytes, and the data.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { malformed, NetworkError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { ResettableTimer } from "../base/timers.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Datagram, Network, UdpSocket } from "../net/network.ts";
import type { SessionStream } from "../session/stream.ts";
import type { PeerConnection } from "./connection.ts";
import { encodeForwardRequest } from "./forward_message.ts";
import { explained, FORWARD_CODES, type ForwardEvent, NotOfferedError } from "./forward_outcome.ts";
import {
  NO_UDP_FLOWS,
  stepUdpFlows,
  type UdpFlowsEvent,
  udpFlowsWakeAtMs,
} from "./udp_flows_engine.ts";
import { abortable } from "@std/async/abortable";

/** What carries datagrams beside streams. */
export type DatagramCarrier = Pick<
  PeerConnection,
  "sendDatagram" | "datagrams" | "maxDatagramBytes"
>;

/** A local port whose datagrams are forwarded. */
export interface UdpFront {
  /** Where they arrive, and answers leave. */
  readonly socket: UdpSocket;
  /** The UDP port that the other side offers. Default: its first one. */
  readonly target?: string;
}

/** The side with the clients: forwards the datagrams of each as a flow. */
export class UdpForwarder {
  readonly #connection: Pick<PeerConnection, "openStream">;
  readonly #carrier: FlowCarrier;
  readonly #onEvent: (event: ForwardEvent) => void;
  readonly #tasks: TaskGroup;
  readonly #flows = new Map<string, UdpFlow>();
  readonly #table = new FlowTable((key) => this.#flows.get(key)?.close());
  /** Whether it was told that no stream is free, and no flow has got one since. */
  #isShort = false;

  /** @param connection of which this reads the datagrams, until it ends or this is disposed of */
  constructor(
    connection: DatagramCarrier & Pick<PeerConnection, "openStream">,
    onEvent: (event: ForwardEvent) => void = () => {},
  ) {
    this.#connection = connection;
    this.#carrier = new FlowCarrier(connection);
    this.#onEvent = onEvent;
    this.#tasks = new TaskGroup((error) => onEvent({ event: "failed", target: "", error }));
    this.#tasks.run((signal) => this.#carrier.receive(signal));
  }

  /** Forwards one datagram of a client. */
  forward(front: UdpFront, { data, from }: Datagram): void {
    const key = `${front.socket.local.port} ${formatTransportAddress(from)}`;
    const noted = this.#table.note({ kind: "sent", key });
    if (noted === "opened") this.#open(key, front, from);
    if (noted !== "dropped") this.#flows.get(key)?.send(data);
  }

  /** Ends all flows. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#table.close();
    for (const flow of this.#flows.values()) flow.close();
    await this.#tasks.stop();
  }

  #open(key: string, { socket, target = "" }: UdpFront, client: TransportAddress): void {
    const flow = new UdpFlow(this.#carrier, (data) => {
      if (this.#table.note({ kind: "answered", key }) === "dropped") return;
      this.#tasks.run(() => socket.send(data, client));
    });
    this.#flows.get(key)?.close();
    this.#flows.set(key, flow);
    this.#tasks.run(() => this.#run(key, target, flow));
  }

  async #run(key: string, name: string, flow: UdpFlow): Promise<void> {
    const target = `UDP ${name}`.trimEnd();
    let wasRefused = false;
    let isUntold = true;
    try {
      const stream = await this.#connection.openStream().catch((error) => {
        isUntold = !this.#isShort; // datagram after datagram asks for one
        this.#isShort = true;
        throw error;
      });
      this.#isShort = false;
      try {
        const request = encodeForwardRequest({ kind: "udp", name });
        flow.start(stream, request, { isReady: false });
        await flow.awaitReady();
        this.#onEvent({ event: "opened", target });
        await flow.receive();
        this.#onEvent({ event: "closed", target });
      } catch (cause) {
        wasRefused = (stream.resetCode ?? 0) > 0;
        throw explained(cause, stream);
      }
    } catch (error) {
      if (!flow.isClosed && isUntold) this.#onEvent({ event: "failed", target, error });
      else if (flow.isReady) this.#onEvent({ event: "closed", target });
    } finally {
      flow.close();
      if (this.#flows.get(key) === flow) {
        this.#flows.delete(key);
        this.#table.note({ kind: wasRefused ? "refused" : "ended", key });
      }
    }
  }
}

/** The side with the services: connects flows to them. */
export class UdpService {
  readonly #network: Network;
  readonly #ports: readonly number[];
  readonly #carrier: FlowCarrier;
  readonly #flows = new Map<string, UdpFlow>();
  readonly #table = new FlowTable((key) => this.#flows.get(key)?.close());

  /** @param ports on 127.0.0.1; the first is for a side that names no port */
  constructor(connection: DatagramCarrier, network: Network, ports: readonly number[]) {
    this.#network = network;
    this.#ports = ports;
    this.#carrier = new FlowCarrier(connection);
  }

  /** Reads the datagrams of the connection until that ends. */
  async receive(signal: AbortSignal): Promise<void> {
    try {
      await this.#carrier.receive(signal);
    } finally {
      this.#table.close();
    }
  }

  /**
   * Connects the flow of a stream to the port that it asks for, until either side ends it.
   *
   * @param onOpened called once it is connected
   * @throws {NotOfferedError} if the port is not offered
   */
  async serve(stream: SessionStream, name: string, onOpened: () => void): Promise<void> {
    const port = name === "" ? this.#ports[0] : this.#ports.find((port) => `${port}` === name);
    if (port === undefined) throw new NotOfferedError(`UDP ${name}`);
    const key = `${stream.id}`;
    const service = { ip: LOOPBACK, port };
    using socket = await this.#network.bindUdp({ ip: LOOPBACK, port: 0 });
    await using tasks = new TaskGroup(() => flow.close());
    const flow = new UdpFlow(this.#carrier, (data) => {
      if (this.#table.note({ kind: "sent", key }) === "dropped") return;
      tasks.run(() => socket.send(data, service));
    });
    if (this.#table.note({ kind: "sent", key }) === "dropped") {
      stream.reset(FORWARD_CODES.tooMany);
      throw new NetworkError("Cannot forward: the other side has too many UDP flows", "other", {
        remedy: "Wait until some of them are idle",
      });
    }
    this.#flows.set(key, flow);
    try {
      flow.start(stream, Uint8Array.of(0), { isReady: true });
      onOpened();
      tasks.run(async (signal) => {
        for (;;) {
          const { data, from } = await socket.receive({ signal });
          if (from.port !== port || from.ip !== LOOPBACK) continue;
          if (this.#table.note({ kind: "answered", key }) !== "dropped") flow.send(data);
        }
      });
      await flow.receive();
    } catch (error) {
      if (flow.isClosed) return; // idle, or another takes its place
      stream.reset(FORWARD_CODES.broken);
      throw error;
    } finally {
      flow.close();
      this.#flows.delete(key);
      this.#table.note({ kind: "ended", key });
    }
  }
}

/** Datagrams of a connection, by the streams of their flows: the stream's number in four bytes, and the data. */
class FlowCarrier {
  readonly #connection: DatagramCarrier;
  readonly #receivers = new Map<number, (data: Uint8Array) => void>();

  constructor(connection: DatagramCarrier) {
    this.#connection = connection;
  }

  /** Hands datagrams to their flows until the connection ends. Those of no flow are dropped. */
  async receive(signal: AbortSignal): Promise<void> {
    const messages = this.#connection.datagrams[Symbol.asyncIterator]();
    try {
      for (;;) {
        const { value, done } = await abortable(messages.next(), signal);
        if (done) return;
        if (value.length < ID_BYTES) continue;
        const id = new DataView(value.buffer, value.byteOffset).getUint32(0);
        this.#receivers.get(id)?.(value.subarray(ID_BYTES));
      }
    } finally {
      messages.return?.(); // not awaited: a generator would wait for one more datagram first
    }
  }

  /** Registers the flow of a stream. */
  add(id: number, receive: (data: Uint8Array) => void): void {
    this.#receivers.set(id, receive);
  }

  remove(id: number): void {
    this.#receivers.delete(id);
  }

  /** Returns whether the path can carry a datagram of that length. */
  fits(length: number): boolean {
    return ID_BYTES + length <= this.#connection.maxDatagramBytes;
  }

  /** Sends a datagram, which may be lost. */
  async send(id: number, data: Uint8Array): Promise<void> {
    const message = new Uint8Array(ID_BYTES + data.length);
    new DataView(message.buffer).setUint32(0, id);
    message.set(data, ID_BYTES);
    await this.#connection.sendDatagram(message);
  }
}

/** One flow, at either side. */
class UdpFlow {
  readonly #carrier: FlowCarrier;
  readonly #onDatagram: (data: Uint8Array) => void;
  /** What goes over the stream, in order. */
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #stream: SessionStream | undefined;
  #writing: Promise<void> | undefined;
  /** Whether the other side knows the flow. */
  isReady = false;
  /** Whether this side has ended it. */
  isClosed = false;

  constructor(carrier: FlowCarrier, onDatagram: (data: Uint8Array) => void) {
    this.#carrier = carrier;
    this.#onDatagram = onDatagram;
  }

  /**
   * Uses the stream, which begins with these bytes.
   *
   * @param options.isReady whether the other side has opened it, and so knows the flow
   */
  start(stream: SessionStream, first: Uint8Array, { isReady }: { isReady: boolean }): void {
    if (this.isClosed) return stream.close();
    this.#stream = stream;
    this.#carrier.add(stream.id, this.#onDatagram);
    this.isReady = isReady;
    this.#queue.unshift(first);
    this.#write();
  }

  /** Waits until the other side is ready. */
  async awaitReady(): Promise<void> {
    if (await this.#readExactly(1) === undefined) throw ended();
    this.isReady = true;
  }

  /** Sends one datagram; drops it if too many wait. */
  send(data: Uint8Array): void {
    if (this.isClosed) return;
    const stream = this.#stream;
    if (stream !== undefined && this.isReady && this.#carrier.fits(data.length)) {
      this.#carrier.send(stream.id, data).catch(() => this.close()); // the connection has ended
      return;
    }
    const length = LENGTH_BYTES + data.length;
    if (this.#queuedBytes + length > MAX_QUEUED_BYTES) return;
    this.#queuedBytes += length;
    this.#queue.push(concat(Uint8Array.of(data.length >> 8, data.length & 0xff), data));
    if (stream !== undefined) this.#write();
  }

  /**
   * Hands on the datagrams that arrive over the stream, until the other side ends it.
   *
   * @throws {MalformedMessageError} if one is longer than any of UDP
   */
  async receive(): Promise<void> {
    for (;;) {
      const header = await this.#readExactly(LENGTH_BYTES);
      if (header === undefined) return;
      const length = header[0]! << 8 | header[1]!;
      if (length > MAX_DATAGRAM_BYTES) throw malformed("datagram", `it has ${length} bytes`);
      const data = await this.#readExactly(length);
      if (data === undefined) throw ended();
      this.#onDatagram(data);
    }
  }

  /** Ends the flow at both sides; idempotent. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#queue = [];
    if (this.#stream === undefined) return;
    this.#carrier.remove(this.#stream.id);
    this.#stream.close();
  }

  #write(): void {
    this.#writing ??= this.#writeAll().catch(() => this.close()) // reading tells why
      .finally(() => this.#writing = undefined);
  }

  async #writeAll(): Promise<void> {
    while (this.#queue.length > 0) {
      const bytes = concat(...this.#queue);
      this.#queue = [];
      await this.#stream!.write(bytes);
      this.#queuedBytes = this.#queue.reduce((sum, { length }) => sum + length, 0);
    }
  }

  /** `undefined` if the stream ends before the first byte. */
  async #readExactly(length: number): Promise<Uint8Array | undefined> {
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length;) {
      const count = await this.#stream!.read(bytes.subarray(filled));
      if (count === null && filled === 0) return undefined;
      if (count === null) throw ended();
      filled += count;
    }
    return bytes;
  }
}

/** The flows that {@linkcode stepUdpFlows} decides about, with its timer. */
class FlowTable {
  readonly #onEnd: (key: string) => void;
  readonly #timer = new ResettableTimer(() => this.note({ kind: "time" }));
  #state = NO_UDP_FLOWS;
  #isClosed = false;

  /** @param onEnd called for a flow that is to end */
  constructor(onEnd: (key: string) => void) {
    this.#onEnd = onEnd;
    this.#timer.isReferenced = false;
  }

  /** Takes note of an event, and says what becomes of its datagram. */
  note(event: UdpFlowsEvent): "opened" | "passed" | "dropped" {
    const nowMs = performance.now();
    const { state, actions } = stepUdpFlows(this.#state, event, nowMs);
    if (state !== this.#state) {
      this.#state = state;
      const wakeAtMs = udpFlowsWakeAtMs(state);
      if (wakeAtMs === Infinity || this.#isClosed) this.#timer.clear();
      else this.#timer.set(Math.max(0, wakeAtMs - nowMs));
    }
    let result: "opened" | "passed" | "dropped" = "passed";
    for (const action of actions) {
      if (action.kind === "drop") result = "dropped";
      else if (action.kind === "open") result = "opened";
      else this.#onEnd(action.key);
    }
    return result;
  }

  close(): void {
    this.#isClosed = true;
    this.#timer.clear();
  }
}

function ended(): NetworkError {
  return new NetworkError("Cannot forward: the other side has ended the flow", "closed");
}

const LOOPBACK = "127.0.0.1";

const ID_BYTES = 4;
const LENGTH_BYTES = 2;

/** The longest that fits a packet of IPv4. */
const MAX_DATAGRAM_BYTES = 65_507;

/** Chosen by us: the longest datagram and a few short ones; UDP drops what does not fit. */
const MAX_QUEUED_BYTES = 98_304;
