/**
 * How peers signal who have not been told how.
 *
 * @module
 */

/**
 * MQTT brokers that let anybody in, as their owners' pages say. They are other people's: a peer says a few messages of
 * two kilobytes for each connection, and nothing once it is connected.
 */
export const PUBLIC_BROKERS: readonly string[] = [
  "mqtts://broker.hivemq.com:8883",
  "mqtts://broker.emqx.io:8883",
  "mqtts://test.mosquitto.org:8886",
];

/** Within a LAN, and by two of the public brokers: one may be down. */
export const DEFAULT_SIGNALING: readonly string[] = ["lan:", ...PUBLIC_BROKERS.slice(0, 2)];
