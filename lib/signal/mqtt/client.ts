/**
 * One connection to an MQTT broker, from CONNECT to the end.
 *
 * @module
 */

import { concat, toHex } from "../../base/bytes.ts";
import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../../base/errors.ts";
import { Deadline } from "../../base/timers.ts";
import {
  decodeMqttPacket,
  encodeMqttPacket,
  type MqttPacket,
  mqttPacketLength,
  type MqttVersion,
} from "./packet.ts";
import { type BrokerPipe, type BrokerUrl, openPipe, type OpenPipeOptions } from "./pipe.ts";

/** Parts what comes into packets. */
export class MqttPacketReader {
  readonly #pipe: Pick<BrokerPipe, "read">;
  #unread: Uint8Array = new Uint8Array(0);

  constructor(pipe: Pick<BrokerPipe, "read">) {
    this.#pipe = pipe;
  }

  /**
   * The first packet, or `null` at the end. What cannot become a CONNACK is not waited for.
   *
   * @throws {MalformedMessageError} if it is none
   * @throws {NetworkError} as the network fails
   */
  async first(version: MqttVersion): Promise<Extract<MqttPacket, { type: "connack" }> | null> {
    this.#unread = await this.#pipe.read() ?? this.#unread;
    const [byte = CONNACK] = this.#unread;
    const packet = byte === CONNACK ? await this.next(version) : undefined;
    if (packet === null || packet?.type === "connack") return packet;
    throw new MalformedMessageError("Cannot read MQTT packet: the first one is a CONNACK");
  }

  /**
   * The next packet, `undefined` for one of no use, or `null` at the end.
   *
   * @throws {MalformedMessageError} if it is none
   * @throws {NetworkError} as the network fails
   */
  async next(version: MqttVersion): Promise<MqttPacket | null | undefined> {
    for (;;) {
      const length = mqttPacketLength(this.#unread, MAX_PACKET_BYTES);
      if (length !== undefined && length <= this.#unread.length) {
        const packet = this.#unread.subarray(0, length);
        this.#unread = this.#unread.subarray(length); // thousands of packets may be in there
        return decodeMqttPacket(packet, version);
      }
      const more = await this.#pipe.read();
      if (more === null) return null;
      this.#unread = this.#unread.length === 0 ? more : concat(this.#unread, more);
    }
  }
}

/** Ours: the longest message of a peer with its topic, and whatever properties a broker adds. */
const MAX_PACKET_BYTES = 16_384;

/** The first byte of one: MQTT 3.1.1 §3.2.1. */
const CONNACK = 0x20;

/** The refusal of a CONNECT, a SUBSCRIBE or of all further conversation. */
export function mqttRefusal(action: string, code: number, version: MqttVersion): RefusedError {
  const known = version === 5 || code >= 0x80 ? REASONS_5[code] : RETURN_CODES_4[code];
  const { name, remedy } = known ?? { name: "what nobody knows", remedy: LATER };
  const hex = `0x${code.toString(16).padStart(2, "0")}`;
  return new RefusedError(`Cannot ${action}: the broker says ${name} (${hex}); ${remedy}`, code);
}

interface Reason {
  readonly name: string;
  readonly remedy: string;
}

const LOGIN = "check the user name and the password in the URL";
const LATER = "try later, or another broker";
const OTHER = "use another broker";
const UNLIKE = "what answers may not be an MQTT broker as others are: use another one";
const RIGHTS = "the broker has to let this user read and write punchline/1/#";
const VERSION = "fix the version in the options, or use another broker";

/** MQTT 3.1.1 §3.2.2.3. */
const RETURN_CODES_4: Readonly<Record<number, Reason>> = {
  0x01: { name: "unacceptable protocol version", remedy: VERSION },
  0x02: { name: "identifier rejected", remedy: LATER },
  0x03: { name: "server unavailable", remedy: LATER },
  0x04: { name: "bad user name or password", remedy: LOGIN },
  0x05: { name: "not authorized", remedy: LOGIN },
};

/** MQTT 5.0 §2.4: what a CONNACK, SUBACK or DISCONNECT may say; 0x80 is that of a SUBACK in 3.1.1 too. */
const REASONS_5: Readonly<Record<number, Reason>> = {
  0x00: { name: "goodbye", remedy: LATER },
  0x80: { name: "unspecified error", remedy: LATER },
  0x81: { name: "malformed packet", remedy: UNLIKE },
  0x82: { name: "protocol error", remedy: UNLIKE },
  0x83: { name: "implementation specific error", remedy: LATER },
  0x84: { name: "unsupported protocol version", remedy: VERSION },
  0x85: { name: "client identifier not valid", remedy: LATER },
  0x86: { name: "bad user name or password", remedy: LOGIN },
  0x87: { name: "not authorized", remedy: `${LOGIN}; ${RIGHTS}` },
  0x88: { name: "server unavailable", remedy: LATER },
  0x89: { name: "server busy", remedy: LATER },
  0x8a: { name: "banned", remedy: OTHER },
  0x8b: { name: "server shutting down", remedy: LATER },
  0x8c: { name: "bad authentication method", remedy: OTHER },
  0x8d: { name: "keep alive timeout", remedy: LATER },
  0x8e: { name: "session taken over", remedy: LATER },
  0x8f: { name: "topic filter invalid", remedy: RIGHTS },
  0x90: { name: "topic name invalid", remedy: RIGHTS },
  0x91: { name: "packet identifier in use", remedy: UNLIKE },
  0x93: { name: "receive maximum exceeded", remedy: LATER },
  0x94: { name: "topic alias invalid", remedy: UNLIKE },
  0x95: { name: "packet too large", remedy: "the broker has to take packets of 5 KiB" },
  0x96: { name: "message rate too high", remedy: LATER },
  0x97: { name: "quota exceeded", remedy: LATER },
  0x98: { name: "administrative action", remedy: OTHER },
  0x99: { name: "payload format invalid", remedy: "the broker has to take binary messages" },
  0x9c: { name: "use another server", remedy: OTHER },
  0x9d: { name: "server moved", remedy: OTHER },
  0x9f: { name: "connection rate exceeded", remedy: LATER },
  0xa0: { name: "maximum connect time", remedy: LATER },
};

/** A conversation that the broker has agreed to. */
export class MqttClient {
  /** From CONNECT to CONNACK. */
  readonly rttMs: number;
  /** Settles when it has ended; rejects unless this side has closed it. */
  readonly finished: Promise<void>;
  readonly #name: string;
  readonly #pipe: BrokerPipe;
  readonly #version: MqttVersion;
  readonly #packets: MqttPacketReader;
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
    const isOfVersion = first.code === undefined || WRONG_VERSION.includes(first.code);
    const isOnlyFirst = version === undefined && isOfVersion;
    if (isOnlyFirst) first.pipe.reset();
    const opened = isOnlyFirst ? await connect(url, name, { ...options, version: 5 }) : first;
    if (opened.code === 0) return new MqttClient(name, opened, onPublish);
    opened.pipe.reset();
    const action = `connect to broker ${name}`;
    if (opened.code !== undefined) throw mqttRefusal(action, opened.code, opened.version);
    throw new NetworkError(`Cannot ${action}: it closes the connection, and says nothing`, "reset");
  }

  /** Says something; waits for nobody. @throws {NetworkError} if the connection is lost or closed */
  async publish(topic: string, payload: Uint8Array): Promise<void> {
    await this.#send({ type: "publish", topic, payload, isRetained: false });
  }

  /**
   * Listens; resolves when the broker has agreed. One that does not answer is given up.
   *
   * @throws {RefusedError} if it does not agree
   * @throws {NetworkError} if the connection is lost or closed
   */
  async subscribe(topic: string): Promise<void> {
    const id = this.#lastId = this.#lastId % 0xffff + 1;
    const agreed = Promise.withResolvers<void>();
    this.#waiting.set(id, agreed);
    const tooLate = setTimeout(() => this.#deadline("it agrees to nothing"), ANSWER_MS);
    try {
      await Promise.all([this.#send({ type: "subscribe", id, topic }), agreed.promise]);
    } finally {
      clearTimeout(tooLate);
      this.#waiting.delete(id);
    }
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
    this.#checking = setTimeout(() => this.#deadline("it does not answer"), CHECK_MS);
  }

  /** Says goodbye, to a broker that listens. */
  async close(): Promise<void> {
    if (this.#failure !== undefined) return await this.finished.catch(() => {}); // told already
    this.#end(new NetworkError(`Cannot use broker ${this.#name}: it is closed`, "closed"));
    const tooLate = setTimeout(() => this.#pipe.reset(), CLOSE_MS);
    await this.#pipe.write(encodeMqttPacket({ type: "disconnect", code: 0 }, this.#version))
      .catch(() => {}); // it may be gone
    await this.#pipe.close();
    await this.finished;
    clearTimeout(tooLate);
  }

  async #send(packet: MqttPacket): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    await this.#pipe.write(encodeMqttPacket(packet, this.#version));
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
        const [code = FAILURE] = packet.codes;
        const waiting = this.#waiting.get(packet.id);
        if (code < FAILURE) waiting?.resolve();
        else waiting?.reject(mqttRefusal("subscribe", code, this.#version));
        break;
      }
      case "disconnect": {
        const refusal = mqttRefusal("go on", packet.code, this.#version);
        throw this.#lost(refusal.message, refusal);
      }
    }
  }

  /** One that says nothing at all between two questions is gone. */
  #ask(): void {
    if (this.#isAsked) return this.#deadline("it does not answer");
    this.#isAsked = true;
    this.#send({ type: "pingreq" }).catch(() => {}); // reading tells
  }

  #deadline(why: string): void {
    this.#end(this.#lost(why));
    this.#pipe.reset(); // reading ends, and tells
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
  readonly packets: MqttPacketReader;
  readonly version: MqttVersion;
  /** `undefined` if the broker has closed the connection instead, as some do whom the version does not suit. */
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
      const connecting: MqttPacket = {
        type: "connect",
        clientId: `punchline-${toHex(crypto.getRandomValues(new Uint8Array(6)))}`,
        keepAliveSeconds: KEEP_ALIVE_SECONDS,
        ...username !== undefined && { username },
        ...password !== undefined && { password },
      };
      const startedAtMs = performance.now();
      await pipe.write(encodeMqttPacket(connecting, version));
      const packets = new MqttPacketReader(pipe);
      const answer = await packets.first(version);
      const rttMs = performance.now() - startedAtMs;
      return { pipe, packets, version, code: answer?.code, rttMs };
    } catch (error) {
      pipe.reset();
      throw error;
    } finally {
      deadline.signal.removeEventListener("abort", onAbort);
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (!deadline.signal.aborted) throw error;
    const message = `Cannot connect to broker ${name}: no answer in ${CONNECT_MS / 1000} s`;
    throw new NoResponseError(message, { cause: error });
  }
}

/** Ours: brokers end connections that are silent for one and a half of it. */
const KEEP_ALIVE_SECONDS = 30;

/** How long an answer may take, if there is doubt. Ours: three round trips, with a lost packet. */
const CHECK_MS = 2000;

/** As {@linkcode CHECK_MS}, for what was written and a goodbye to arrive. */
const CLOSE_MS = 2000;

/** Ours: brokers answer SUBSCRIBE in a round trip, and may ask others before. */
const ANSWER_MS = 10_000;

/** Ours: three round trips and a lost SYN of any path. */
const CONNECT_MS = 10_000;

/** MQTT 3.1.1 §3.2.2.3, and what brokers may say who speak MQTT 5 alone: MQTT 5.0 §3.1.2.2. */
const WRONG_VERSION: readonly (number | undefined)[] = [0x01, 0x84];

/** From here on codes are failures. */
const FAILURE = 0x80;
