/**
 * Several nodes of one rendezvous behind one name, joined by NATS: topics and rooms span them all. The clients of NATS on
 * npm open their own sockets; this one uses the network seam as everything else here, and needs `--allow-net` alone.
 *
 * ```ts ignore
 * import { openNatsBus } from "@punchline/punchline/signal/nats";
 * import { serveRendezvous, systemNetwork as network } from "@punchline/punchline/signal";
 *
 * const key = "a secret of all nodes";
 * await using bus = await openNatsBus({ network, urls: ["nats://10.0.0.2"], key });
 * await using node = await serveRendezvous({ network, local: { ip: "192.0.2.1", port: 3480 }, bus });
 * ```
 *
 * @module
 */

export { type NatsBus, type NatsBusOptions, openNatsBus } from "./bus.ts";
export type { RendezvousBus } from "../rendezvous/bus.ts";
export type { Logger } from "../../base/logger.ts";
export type * from "../../net/network.ts";
export type { IpFamily, TransportAddress } from "../../net/address.ts";
