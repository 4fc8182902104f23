/**
 * One connection to an MQTT broker, from CONNECT to the end.
 *
 * @module
 */

import { concat, toHex } from "../../bytes.ts";
import { MalformedMessageError, NetworkError, NoResponseError } from "../../errors.ts";
import { GiveUp } from "../../punch/give_up.ts";
import type { BrokerUrl } from "./broker_url.ts";
import {
  decodePacket,
  encodePacket,
  type MqttPacket,
  type MqttVersion,
  packetLength,
} from "./packet_message.ts";
import { type BrokerPipe, openPipe, type OpenPipeOptions } from "./pipe.ts";
import { mqttRefusal } from "./refusal.ts";

/** A conversation that the broker has agreed to. */
export class MqttClient {
  /** From CONNECT to CONNACK. */
  readonly rttMs: number;
  /** Settles when it has ended; rejects unless this side has closed it. */
  readonly finished: Promise<void>;
  readonly #name: string;
  readonly #pipe: BrokerPipe;
  readonly #version: MqttVersion;
  readonly #packets: PacketReader;
  readonly #onPublish: (topic: string, payload: Uint8Array) => void;
  readonly #waiting = new Map<number, PromiseWithResolvers<void>>();
  #lastId = 0;
  #isAsked = false;
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
    this.finished = this.#receiveAll();
    this.finished.catch(() => {}); // whoever waits for it is told; nobody may
  }

  /**
   * Connects, by MQTT 3.1.1 or, where that is not spoken, by MQTT 5.
   *
   * @param onPublish called with what is said now, not with what the broker has kept
   * @throws {RefusedError} if the broker says no; `code` is that of the protocol
   * @throws {NoResponseError} if it says nothing
   * @throws {MalformedMessageError} if it is no broker
   * @throws {NetworkError} if it cannot be reached
   */
  static async open(
    url: BrokerUrl,
    options: OpenPipeOptions & { version?: MqttVersion },
    onPublish: (topic: string, payload: Uint8Array) => void,
  ): Promise<MqttClient> {
    const name = `${url.host}:${url.port}`;
    const { version } = options;
    const first = await connect(url, name, { ...options, version: version ?? 4 });
    if (first.code === 0) return new MqttClient(name, first, onPublish);
    first.pipe.reset();
    if (version !== undefined || first.code !== UNACCEPTABLE_VERSION) {
      throw mqttRefusal(`connect to broker ${name}`, first.code, first.version);
    }
    const second = await connect(url, name, { ...options, version: 5 });
    if (second.code === 0) return new MqttClient(name, second, onPublish);
    second.pipe.reset();
    throw mqttRefusal(`connect to broker ${name}`, second.code, second.version);
  }

  /** Says something; waits for nobody. @throws {NetworkError} if the connection is lost or closed */
  async publish(topic: string, payload: Uint8Array): Promise<void> {
    await this.#send({ type: "publish", topic, payload, isRetained: false });
  }

  /** Listens; resolves when the broker has agreed. @throws {RefusedError} if it does not */
  async subscribe(topic: string): Promise<void> {
    const id = this.#lastId = this.#lastId % 0xffff + 1;
    const agreed = Promise.withResolvers<void>();
    agreed.promise.catch(() => {});
    this.#waiting.set(id, agreed);
    await this.#send({ type: "subscribe", id, topic });
    await agreed.promise;
  }

  /** Listens no more. */
  async unsubscribe(topic: string): Promise<void> {
    const id = this.#lastId = this.#lastId % 0xffff + 1;
    await this.#send({ type: "unsubscribe", id, topic });
  }

  /** Asks whether the broker is there, and gives it up if there is no answer. */
  check(): void {
    if (this.#failure !== undefined || this.#checking !== undefined) return;
    this.#send({ type: "pingreq" }).catch(() => {}); // reading tells
    this.#checking = setTimeout(() => this.#pipe.reset(), CHECK_MS);
  }

  /** Says goodbye. */
  async close(): Promise<void> {
    if (this.#failure !== undefined) return;
    this.#end(new NetworkError(`Cannot use broker ${this.#name}: it is closed`, "closed"));
    await this.#pipe.write(encodePacket({ type: "disconnect", code: 0 }, this.#version))
      .catch(() => {}); // it may be gone
    await this.#pipe.close();
    await this.finished;
  }

  async #send(packet: MqttPacket): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    await this.#pipe.write(encodePacket(packet, this.#version));
  }

  async #receiveAll(): Promise<void> {
    const asking = setInterval(() => this.#ask(), KEEP_ALIVE_SECONDS * 1000 / 2);
    try {
      for (;;) {
        const packet = await this.#packets.next(this.#version);
        clearTimeout(this.#checking);
        this.#checking = undefined;
        if (packet === null) throw this.#lost("it has closed the connection");
        if (packet !== undefined) this.#accept(packet);
      }
    } catch (error) {
      const isOurs = this.#failure?.reason === "closed";
      const why = error instanceof Error ? error.message : `${error}`;
      this.#end(error instanceof NetworkError ? error : this.#lost(why, error));
      this.#pipe.reset();
      if (!isOurs) throw this.#failure;
    } finally {
      clearInterval(asking);
      clearTimeout(this.#checking);
    }
  }

  #accept(packet: MqttPacket): void {
    this.#isAsked = false;
    switch (packet.type) {
      case "publish":
        if (!packet.isRetained) this.#onPublish(packet.topic, packet.payload);
        break;
      case "suback": {
        const [code = 0] = packet.codes;
        const waiting = this.#waiting.get(packet.id);
        this.#waiting.delete(packet.id);
        if (code < FAILURE) waiting?.resolve();
        else waiting?.reject(mqttRefusal("subscribe", code, this.#version));
        break;
      }
      case "disconnect":
        throw this.#lost(mqttRefusal("stay", packet.code, this.#version).message);
    }
  }

  /** One that says nothing at all between two questions is gone. */
  #ask(): void {
    if (this.#isAsked) return this.#pipe.reset();
    this.#isAsked = true;
    this.#send({ type: "pingreq" }).catch(() => {}); // reading tells
  }

  #end(failure: NetworkError): void {
    this.#failure ??= failure;
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }

  #lost(why: string, cause?: unknown): NetworkError {
    return new NetworkError(`Cannot use broker ${this.#name}: ${why}`, "reset", { cause });
  }
}

interface Opened {
  readonly pipe: BrokerPipe;
  readonly packets: PacketReader;
  readonly version: MqttVersion;
  readonly code: number;
  readonly rttMs: number;
}

async function connect(
  url: BrokerUrl,
  name: string,
  { version, signal, ...options }: OpenPipeOptions & { version: MqttVersion },
): Promise<Opened> {
  using giveUp = new GiveUp(CONNECT_MS, signal);
  try {
    const pipe = await openPipe(url, { ...options, signal: giveUp.signal });
    const onAbort = () => pipe.reset();
    giveUp.signal.addEventListener("abort", onAbort, { once: true });
    try {
      const { username, password } = url;
      const connecting: MqttPacket = {
        type: "connect",
        clientId: `punchline-${toHex(crypto.getRandomValues(new Uint8Array(6)))}`,
        keepAliveSeconds: KEEP_ALIVE_SECONDS,
        ...username !== undefined && { username },
        ...password !== undefined && { password },
      };
      const startedAtMs = performance.now();
      await pipe.write(encodePacket(connecting, version));
      const packets = new PacketReader(pipe);
      const answer = await packets.first(version);
      if (answer === null && version === 4) { // some close, instead of saying that it is the version
        return { pipe, packets, version, code: UNACCEPTABLE_VERSION, rttMs: 0 };
      }
      if (answer?.type !== "connack") {
        throw new MalformedMessageError(
          `Cannot connect to broker ${name}: it answers with ${answer?.type ?? "nothing"}`,
        );
      }
      const rttMs = performance.now() - startedAtMs;
      return { pipe, packets, version, code: answer.code, rttMs };
    } catch (error) {
      pipe.reset();
      throw error;
    } finally {
      giveUp.signal.removeEventListener("abort", onAbort);
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (!giveUp.signal.aborted) throw error;
    const message = `Cannot connect to broker ${name}: no answer in ${CONNECT_MS / 1000} s`;
    throw new NoResponseError(message, { cause: error });
  }
}

/** Parts what comes into packets. */
class PacketReader {
  readonly #pipe: BrokerPipe;
  #unread: Uint8Array = new Uint8Array(0);

  constructor(pipe: BrokerPipe) {
    this.#pipe = pipe;
  }

  /** The first packet, which is a CONNACK: what begins otherwise is not waited for. @throws {MalformedMessageError} if it is none */
  async first(version: MqttVersion): Promise<MqttPacket | null | undefined> {
    if (this.#unread.length === 0) this.#unread = await this.#pipe.read() ?? this.#unread;
    const [byte = CONNACK] = this.#unread;
    if (byte === CONNACK) return await this.next(version);
    throw new MalformedMessageError("Cannot read MQTT packet: the first one is a CONNACK");
  }

  /** The next packet, `undefined` for one of no use, `null` at the end. @throws {MalformedMessageError} if it is none */
  async next(version: MqttVersion): Promise<MqttPacket | null | undefined> {
    for (;;) {
      const length = packetLength(this.#unread, MAX_PACKET_BYTES);
      if (length !== undefined && length <= this.#unread.length) {
        const packet = this.#unread.slice(0, length);
        this.#unread = this.#unread.slice(length);
        return decodePacket(packet, version);
      }
      const more = await this.#pipe.read();
      if (more === null) return null;
      this.#unread = concat(this.#unread, more);
    }
  }
}

/** Ours: brokers end connections that are silent for one and a half of it. */
const KEEP_ALIVE_SECONDS = 30;

/** How long an answer may take, if there is doubt. Ours: three round trips, with a lost packet. */
const CHECK_MS = 2000;

/** Ours: three round trips and a lost SYN of any path. */
const CONNECT_MS = 10_000;

/** Ours: the longest message of a peer with its topic, and whatever properties a broker adds. */
const MAX_PACKET_BYTES = 16_384;

/** MQTT 3.1.1 §3.2.2.3. */
const UNACCEPTABLE_VERSION = 1;

/** The first byte of one: MQTT 3.1.1 §3.2.1. */
const CONNACK = 0x20;

/** From here on codes are failures. */
const FAILURE = 0x80;
