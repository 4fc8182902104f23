/**
 * Signaling through MQTT brokers, public ones or your own: MQTT 3.1.1 and MQTT 5 over TCP, TLS and WebSocket.
 *
 * ```ts ignore
 * import { Peer } from "@punchline/punchline";
 * import { mqttTransport } from "@punchline/punchline/signal/mqtt";
 *
 * await using peer = await Peer.open({ signaling: [mqttTransport("mqtts://broker.example")] });
 * console.log(peer.ticket);
 * ```
 *
 * @module
 */

export { type BrokerUrl, parseBrokerUrl } from "./pipe.ts";
export type { MqttVersion } from "./packet.ts";
export { mqttTransport, type MqttTransportOptions } from "./transport.ts";
export { PUBLIC_BROKERS } from "../open.ts";
export type {
  OpenSignalingOptions,
  SignalingConnection,
  SignalingState,
  SignalTransport,
} from "../transport.ts";
export type { Logger } from "../../base/logger.ts";
export type * from "../../net/network.ts";
export type { IpFamily, TransportAddress } from "../../net/address.ts";
