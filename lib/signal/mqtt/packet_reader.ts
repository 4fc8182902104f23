/**
 * Packets of the bytes that a broker sends.
 *
 * @module
 */

import { concat } from "../../base/bytes.ts";
import { MalformedMessageError } from "../../base/errors.ts";
import { decodePacket, type MqttPacket, type MqttVersion, packetLength } from "./packet.ts";
import type { BrokerPipe } from "./pipe.ts";

/** Parts what comes into packets. */
export class PacketReader {
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
      const length = packetLength(this.#unread, MAX_PACKET_BYTES);
      if (length !== undefined && length <= this.#unread.length) {
        const packet = this.#unread.subarray(0, length);
        this.#unread = this.#unread.subarray(length); // thousands of packets may be in there
        return decodePacket(packet, version);
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
