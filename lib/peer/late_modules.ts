/**
 * The modules that a peer loads when it first needs them, so that one connection loads few. A program that others can make
 * run out of file descriptors loads them in advance: without a descriptor, a process cannot load a module. Deno 2.9 does not even raise an
 * error then, it panics ("assertion `left == right` failed, left: 24", in its stacker crate), and the process is gone.
 *
 * A list by hand, since a module's name must stand in the `import()` for Deno to find it; a test compares it with the code.
 *
 * @module
 */

/** Loads all of them, one after the other, so that other work goes on in between. */
export async function loadLateModules(): Promise<void> {
  for (const load of LATE_MODULES) await load();
}

const LATE_MODULES: readonly (() => Promise<unknown>)[] = [
  () => import("../signal/rendezvous/relay_connection.ts"),
  () => import("./roaming.ts"),
  () => import("./relay_path.ts"),
  () => import("./relay_watch.ts"),
  () => import("../turn/open_relay.ts"),
  () => import("../punch/udp_punch.ts"),
  () => import("../nat/filtering.ts"),
  () => import("../nat/inbound.ts"),
  () => import("../nat/tcp_dialer.ts"),
  () => import("../net/system/tls_client.ts"),
  () => import("../net/interface_failover.ts"),
  () => import("../net/nat64_network.ts"),
  () => import("../net/proxy/client.ts"),
  () => import("../portmap/external_address_check.ts"),
  () => import("../punch/offer_message.ts"),
  () => import("../signal/mqtt/transport.ts"),
  () => import("./codes.ts"),
  () => import("./forward_udp.ts"),
];
