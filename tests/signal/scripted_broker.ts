/**
 * An MQTT broker in the simulated internet that behaves as a test says.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import type { Network, TcpConnection } from "../../lib/net/network.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import { mqttPacketLength } from "../../lib/signal/mqtt/packet.ts";
import { mqttTransport, type MqttTransportOptions } from "../../lib/signal/mqtt/transport.ts";
import { writeAll } from "../../lib/base/reader.ts";
import { simulate } from "../simnet/simulate.ts";

/** A broker that accepts everything by default. */
export interface ScriptedBroker {
  /** The answers to a packet, as hexadecimal packets. */
  answers: (packet: Uint8Array) => readonly string[];
  /** Whether it reads what is sent to it. */
  reads: boolean;
  /** Whether it closes each connection at the first packet. */
  hangsUp: boolean;
  /** Sends bytes to the client that connected last. */
  send(bytes: Uint8Array): Promise<void>;
}

/** A broker, and the means to reach it. */
export interface BrokerPlace {
  readonly broker: ScriptedBroker;
  readonly network: Network;
  readonly url: string;
  connect(options?: MqttTransportOptions & { signal?: AbortSignal }): Promise<SignalingConnection>;
  nowMs(): number;
}

/** Runs a test 10 ms away from a broker, and checks that it leaves no connection. */
export async function withBroker(test: (place: BrokerPlace) => Promise<void>): Promise<void> {
  await simulate(async ({ internet, time }) => {
    const link = { delayMs: 5 };
    const [server, client] = [internet.host("broker", { link }), internet.host("a", { link })];
    const connections: TcpConnection[] = [];
    const broker: ScriptedBroker = {
      answers: (packet) => {
        if (packet[0] === 0x10) return ["20020000"];
        if (packet[0] === 0x82) return ["9003" + packet.subarray(2, 4).toHex() + "00"];
        return packet[0] === 0xc0 ? ["d000"] : [];
      },
      reads: true,
      hangsUp: false,
      send: (bytes) => writeAll(connections.at(-1)!, bytes),
    };
    using listener = await server.network.listenTcp({ ip: server.addresses[0]!, port: 1883 });
    const serving = serve(listener, connections, broker);
    const { network } = client;
    const url = `mqtt://${server.addresses[0]}`;
    const connect: BrokerPlace["connect"] = ({ signal, ...options } = {}) =>
      mqttTransport(url, options).open({ network, signal });
    await test({ broker, network, url, connect, nowMs: () => time.nowMs });
    listener.close();
    for (const connection of connections) connection.reset();
    await serving;
  });
}

async function serve(
  listener: { accept(): Promise<TcpConnection> },
  connections: TcpConnection[],
  broker: ScriptedBroker,
): Promise<void> {
  const clients: Promise<void>[] = [];
  try {
    for (;;) {
      const connection = await listener.accept();
      connections.push(connection);
      clients.push(serveClient(connection, broker));
    }
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error; // closed
  }
  await Promise.all(clients);
}

async function serveClient(connection: TcpConnection, broker: ScriptedBroker): Promise<void> {
  const buffer = new Uint8Array(8192);
  try {
    let unread = new Uint8Array();
    while (broker.reads) {
      const count = await connection.read(buffer);
      if (count === null || broker.hangsUp) return connection.close();
      unread = Uint8Array.of(...unread, ...buffer.subarray(0, count));
      for (;;) {
        const length = mqttPacketLength(unread, 8192);
        if (length === undefined || length > unread.length) break;
        const packet = unread.slice(0, length);
        unread = unread.slice(length);
        for (const answer of broker.answers(packet)) {
          await connection.write(Uint8Array.fromHex(answer));
        }
      }
    }
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error; // the client has gone
  }
}
