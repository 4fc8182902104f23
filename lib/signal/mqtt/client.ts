/**
 * One connection to an MQTT broker, from CONNECT to the end.
 *
 * @module
 */

import { toHex } from "../../base/bytes.ts";
import {
  malformed,
  messageOf,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../../base/errors.ts";
import { TokenBucket, waitForTokens } from "../../base/rate_limiter.ts";
import { BufferedReader, type ByteSource } from "../../base/reader.ts";
import { optionalResolvers } from "../../base/tasks.ts";
import { Deadline } from "../../base/timers.ts";
import { MESSAGE_RATE } from "../channel.ts";
import {
  decodeMqttPacket,
  encodeMqttPacket,
  type MqttPacket,
  mqttPacketLength,
  type MqttVersion,
} from "./packet.ts";
import { type BrokerPipe, type BrokerUrl, openPipe, type OpenPipeOptions } from "./pipe.ts";
import { mqttRefusal } from "./reason_codes.ts";

/** A connection that the broker has accepted. */
export class MqttClient {
  /** From CONNECT to CONNACK, in milliseconds. */
  readonly rttMs: number;
  /** Resolves once this side has closed the connection; rejects with a `NetworkError` once it is lost. */
  readonly finished: Promise<void>;
  readonly #name: string;
  readonly #pipe: BrokerPipe;
  readonly #version: MqttVersion;
  readonly #packets: MqttPacketReader;
  readonly #onPublish: (topic: string, payload: Uint8Array) => void;
  readonly #end = optionalResolvers<void>();
  readonly #received: Promise<void>;
  /** SUBSCRIBE packets without a SUBACK yet, by identifier. */
  readonly #subscribing = new Map<number, PromiseWithResolvers<void>>();
  #lastPublished = { bytes: 0, atMs: -Infinity };
  #lastId = 0;
  /** Whether nothing has arrived since the last keep-alive ping. */
  #isSilent = false;
  #checking: ReturnType<typeof setTimeout> | undefined;
  #failure: NetworkError | undefined;

  private constructor(
    name: string,
    opened: Opened,
    onPublish: (topic: string, payload: Uint8Array) => void,
  ) {
    this.#name = name;
    this.rttMs = opened.rttMs;
    this.#pipe = opened.pipe;
    this.#version = opened.version;
    this.#packets = opened.packets;
    this.#onPublish = onPublish;
    this.finished = this.#end.promise;
    this.#received = this.#receiveAll();
  }

  /**
   * Connects by MQTT 3.1.1 or, if the broker does not speak that, by MQTT 5.
   *
   * @param onPublish called with each message that is published from now on; retained ones are dropped
   * @throws {RefusedError} if the broker refuses; `code` is the protocol's
   * @throws {NoResponseError} if the broker does not answer
   * @throws {MalformedMessageError} if the server is not a broker
   * @throws {NetworkError} if the broker cannot be reached
   */
  static async open(
    url: BrokerUrl,
    options: OpenPipeOptions & { version?: MqttVersion },
    onPublish: (topic: string, payload: Uint8Array) => void,
  ): Promise<MqttClient> {
    const name = `${url.host}:${url.port}`;
    const { version } = options;
    const first = await connect(url, name, { ...options, version: version ?? 4 });
    const isWrongVersion = first.code === undefined || WRONG_VERSION.includes(first.code);
    const isRepeated = version === undefined && isWrongVersion;
    if (isRepeated) first.pipe.reset();
    const opened = isRepeated ? await connect(url, name, { ...options, version: 5 }) : first;
    if (opened.code === 0) return new MqttClient(name, opened, onPublish);
    opened.pipe.reset();
    const action = `connect to broker ${name}`;
    if (opened.code !== undefined) throw mqttRefusal(action, opened.code, opened.version);
    throw new NetworkError(`Cannot ${action}: it closed the connection without an answer`, "reset");
  }

  /**
   * Publishes a message with QoS 0.
   *
   * @throws {NetworkError} if the connection is lost or closed
   */
  async publish(topic: string, payload: Uint8Array): Promise<void> {
    this.#lastPublished = { bytes: payload.length, atMs: performance.now() };
    await this.#send({ type: "publish", topic, payload, isRetained: false });
  }

  /**
   * Subscribes; resolves when the broker has acknowledged it. A broker that does not answer counts as lost.
   *
   * @throws {RefusedError} if the broker refuses
   * @throws {NetworkError} if the connection is lost or closed
   */
  async subscribe(topic: string): Promise<void> {
    const id = this.#nextId();
    const acknowledged = Promise.withResolvers<void>();
    this.#subscribing.set(id, acknowledged);
    const tooLate = setTimeout(() => this.#drop("it acknowledges no subscription"), ANSWER_MS);
    try {
      await Promise.all([this.#send({ type: "subscribe", id, topic }), acknowledged.promise]);
    } finally {
      clearTimeout(tooLate);
      this.#subscribing.delete(id);
    }
  }

  /**
   * Unsubscribes, without waiting for the broker.
   *
   * @throws {NetworkError} if the connection is lost or closed
   */
  async unsubscribe(topic: string): Promise<void> {
    await this.#send({ type: "unsubscribe", id: this.#nextId(), topic });
  }

  /** Pings the broker at once, and drops the connection if it does not answer in time; at once if there is no time. */
  check(withinMs: number = CHECK_MS): void {
    if (this.#failure !== undefined) return;
    if (withinMs === 0) return this.#drop("the network has changed");
    if (this.#checking !== undefined && withinMs === CHECK_MS) return;
    clearTimeout(this.#checking);
    this.#ping();
    this.#checking = setTimeout(() => this.#drop("it does not answer"), withinMs);
  }

  /** Disconnects, with a DISCONNECT if the broker still reads. Does not fail if the connection was lost. */
  async close(): Promise<void> {
    if (this.#failure !== undefined) return await this.#received;
    this.#fail(new NetworkError(`Cannot use broker ${this.#name}: it is closed`, "closed"));
    const tooLate = setTimeout(() => this.#pipe.reset(), CLOSE_MS);
    await this.#disconnect();
    await this.#pipe.close();
    await this.#received;
    clearTimeout(tooLate);
  }

  async #disconnect(): Promise<void> {
    try {
      await this.#pipe.write(encodeMqttPacket({ type: "disconnect", code: 0 }, this.#version));
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // the broker has gone
    }
  }

  #nextId(): number {
    return this.#lastId = this.#lastId % 0xffff + 1;
  }

  #ping(): void {
    this.#send({ type: "pingreq" }).catch(() => {}); // if the connection is lost, reading fails too
  }

  async #send(packet: MqttPacket): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    await this.#pipe.write(encodeMqttPacket(packet, this.#version));
  }

  /** Never rejects: `finished` does. */
  async #receiveAll(): Promise<void> {
    const keepingAlive = setInterval(() => this.#keepAlive(), KEEP_ALIVE_SECONDS * 1000 / 2);
    const turns = new TokenBucket(MESSAGE_RATE, performance.now());
    try {
      for (;;) {
        const packet = await this.#packets.next(this.#version);
        await waitForTokens(turns);
        clearTimeout(this.#checking);
        this.#checking = undefined;
        if (packet === null) throw this.#cutOff() ?? this.#lost("it closed the connection");
        if (packet !== undefined) this.#accept(packet);
      }
    } catch (error) {
      const isClosed = this.#failure?.reason === "closed";
      const why = messageOf(error);
      const isTold = error instanceof NetworkError && error.cause instanceof RefusedError; // in a DISCONNECT
      const isReset = error instanceof NetworkError && error.reason === "reset";
      const cutOff = isReset && !isTold ? this.#cutOff() : undefined;
      this.#fail(cutOff ?? (error instanceof NetworkError ? error : this.#lost(why, error)));
      this.#pipe.reset();
      if (isClosed) this.#end.resolve();
      else this.#end.reject(this.#failure);
    } finally {
      clearInterval(keepingAlive);
      clearTimeout(this.#checking);
    }
  }

  #accept(packet: MqttPacket): void {
    this.#isSilent = false;
    switch (packet.type) {
      case "publish":
        if (!packet.isRetained) this.#onPublish(packet.topic, packet.payload);
        break;
      case "suback": {
        const [code = FAILURE] = packet.codes;
        const subscribing = this.#subscribing.get(packet.id);
        if (code < FAILURE) subscribing?.resolve();
        else subscribing?.reject(mqttRefusal("subscribe", code, this.#version));
        break;
      }
      case "disconnect": {
        const refusal = mqttRefusal("stay connected", packet.code, this.#version);
        throw this.#lost(refusal.message, refusal);
      }
    }
  }

  /** A broker that sends nothing between two pings is gone. */
  #keepAlive(): void {
    if (this.#isSilent) return this.#drop("it does not answer");
    this.#isSilent = true;
    this.#ping();
  }

  #drop(why: string): void {
    this.#fail(this.#lost(why));
    this.#pipe.reset(); // ends reading, which ends the rest
  }

  #fail(failure: NetworkError): void {
    this.#failure ??= failure;
    for (const { reject } of this.#subscribing.values()) reject(this.#failure);
    this.#subscribing.clear();
  }

  /** MQTT 3.1.1 has no word for it: a broker that limits the size of messages closes the connection. */
  #cutOff(): NetworkError | undefined {
    const { bytes, atMs } = this.#lastPublished;
    const isBySize = bytes >= LONG_BYTES && performance.now() - atMs < CUT_OFF_MS;
    if (!isBySize) return undefined;
    return new NetworkError(
      `Cannot use broker ${this.#name}: it closed the connection at a message of ${bytes} bytes, so it may limit their size`,
      "reset",
      { remedy: "Let the broker accept packets of 5 KiB, or use another broker" },
    );
  }

  #lost(why: string, cause?: unknown): NetworkError {
    return new NetworkError(`Cannot use broker ${this.#name}: ${why}`, "reset", { cause });
  }
}

/** Splits a byte stream into packets. */
export class MqttPacketReader {
  readonly #reader: BufferedReader;

  /** @param pipe nothing else may read it */
  constructor(pipe: ByteSource) {
    this.#reader = new BufferedReader(pipe, { initialLength: MAX_PACKET_BYTES });
  }

  /**
   * The first packet, or `null` at the end. Rejects at the first byte if it cannot become a CONNACK.
   *
   * @throws {MalformedMessageError} if it is not a CONNACK
   * @throws {NetworkError} if the connection fails
   */
  async first(version: MqttVersion): Promise<Extract<MqttPacket, { type: "connack" }> | null> {
    await this.#reader.fill();
    const [byte = CONNACK] = this.#reader.unread;
    const packet = byte === CONNACK ? await this.next(version) : undefined;
    if (packet === null || packet?.type === "connack") return packet;
    throw malformed("MQTT packet", "the first one is not a CONNACK");
  }

  /**
   * The next packet, `undefined` for one of a type that is not used here, or `null` at the end.
   *
   * @throws {MalformedMessageError} if it is malformed or too long
   * @throws {NetworkError} if the connection fails
   */
  async next(version: MqttVersion): Promise<MqttPacket | null | undefined> {
    for (;;) {
      const { unread } = this.#reader;
      const length = mqttPacketLength(unread, MAX_PACKET_BYTES);
      if (length !== undefined && length <= unread.length) {
        return decodeMqttPacket(this.#reader.take(length), version);
      }
      if (!await this.#reader.fill(length)) return null;
    }
  }
}

/** A connection that the broker has answered. */
interface Opened {
  readonly pipe: BrokerPipe;
  readonly packets: MqttPacketReader;
  readonly version: MqttVersion;
  /** `undefined` if the broker closed the connection instead, as some do when they do not speak the version. */
  readonly code: number | undefined;
  readonly rttMs: number;
}

async function connect(
  url: BrokerUrl,
  name: string,
  { version, signal, ...options }: OpenPipeOptions & { version: MqttVersion },
): Promise<Opened> {
  using deadline = new Deadline(CONNECT_MS, signal);
  try {
    const pipe = await openPipe(url, { ...options, signal: deadline.signal });
    const onAbort = () => pipe.reset();
    deadline.signal.addEventListener("abort", onAbort, { once: true });
    try {
      deadline.signal.throwIfAborted();
      const { username, password } = url;
      const clientId = `punchline-${toHex(crypto.getRandomValues(new Uint8Array(6)))}`;
      const keepAliveSeconds = KEEP_ALIVE_SECONDS;
      const request = { type: "connect", clientId, keepAliveSeconds, username, password } as const;
      const startMs = performance.now();
      await pipe.write(encodeMqttPacket(request, version));
      const packets = new MqttPacketReader(pipe);
      const answer = await packets.first(version);
      const rttMs = performance.now() - startMs;
      return { pipe, packets, version, code: answer?.code, rttMs };
    } catch (error) {
      pipe.reset();
      throw error;
    } finally {
      deadline.signal.removeEventListener("abort", onAbort);
    }
  } catch (cause) {
    signal?.throwIfAborted();
    if (!deadline.signal.aborted) throw cause;
    const message = `Cannot connect to broker ${name}: no answer in ${CONNECT_MS / 1000} s`;
    throw new NoResponseError(message, { cause });
  }
}

/** Chosen by us. Brokers close connections that are silent for one and a half times as long. */
const KEEP_ALIVE_SECONDS = 30;

/** How long the answer to a check may take. Chosen by us: three round trips, one of them with a lost packet. */
const CHECK_MS = 2000;

/** As {@linkcode CHECK_MS}, for what was written and the DISCONNECT to arrive. */
const CLOSE_MS = 2000;

/** Chosen by us: brokers answer SUBSCRIBE in a round trip, and may ask other servers first. */
const ANSWER_MS = 10_000;

/** Chosen by us: requests of peers are longer, and what keeps a connection alive is shorter. */
const LONG_BYTES = 512;

/** Chosen by us: how soon a broker closes a connection that breaks its rules; the same as a round trip or two. */
const CUT_OFF_MS = 1000;

/** Chosen by us: three round trips and a lost SYN on any path. */
const CONNECT_MS = 10_000;

/** Chosen by us: the longest message of a peer with its topic, and the properties that a broker adds. */
const MAX_PACKET_BYTES = 16_384;

/** MQTT 3.1.1 §3.2.2.3, and what brokers that speak only MQTT 5 may answer: MQTT 5.0 §3.1.2.2. */
const WRONG_VERSION: readonly (number | undefined)[] = [0x01, 0x84];

/** The first byte of a CONNACK: MQTT 3.1.1 §3.2.1. */
const CONNACK = 0x20;

/** Codes from here on are failures: MQTT 3.1.1 §3.9.3. */
const FAILURE = 0x80;
