/**
 * Manual signaling on real kernels: people carry the messages, which takes longer than STUN servers keep idle
 * connections, and than many NATs keep mappings for UDP.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { nat } from "../../lab/kernel/topology.ts";
import { HostCommand } from "../../lab/scenarios/peers/host_command.ts";
import { PeerLab, STUN_ADDRESSES } from "../../lab/scenarios/peers/peer_lab.ts";
import { labTest } from "./lab_test_case.ts";

/** NATs that keep SYNs out that cross their own, and forget mappings after 30 s without a datagram from inside. */
const UDP_ONLY = { crossedSyn: "drop", udpTimeoutMs: 30_000, udpInboundRefresh: false } as const;

labTest(
  "peers connect by manual signaling although each message takes most of a minute, by TCP or UDP",
  async () => {
    await using peers = await PeerLab.start({
      internet: { rttMs: 20 },
      hosts: {
        a: { behind: nat("portRestricted") },
        b: { behind: nat("portRestricted") },
        c: { behind: nat(UDP_ONLY) },
        d: { behind: nat(UDP_ONLY) },
      },
    });
    const found = await Promise.all([connect(peers, "a", "b"), connect(peers, "c", "d")]);
    assertEquals(found, [
      Array(2).fill(["punch-tcp", "simultaneous-open", "tcp"]),
      Array(2).fill(["punch-udp", "simultaneous-open", "udp"]),
    ]);
  },
  { programs: ["turnserver", "mosquitto"] },
);

/** How both sides are connected, once they have talked. */
async function connect({ lab }: PeerLab, a: string, b: string): Promise<unknown[][]> {
  const servers = STUN_ADDRESSES.flatMap((server) => ["--server", server]);
  await using listener = new HostCommand(lab.host(b), ["listen", "--hand", ...servers]);
  const { ticket } = await listener.until("ticket");
  await using connector = new HostCommand(lab.host(a), ["connect", `${ticket}`, ...servers]);
  await carry(connector, listener);
  await carry(listener, connector);
  const connected = await Promise.all([connector, listener].map((each) => each.until("connected")));
  await connector.write("hello\n");
  await listener.expect("hello\n");
  await listener.write("hello to you\n");
  await connector.expect("hello to you\n");
  return connected.map(({ strategy, method, transport }) => [strategy, method, transport]);
}

async function carry(from: HostCommand, to: HostCommand): Promise<void> {
  const text = `${(await from.until("message")).text}`;
  assert(text.length < 300, `${text.length} characters`);
  await delay(45_000);
  await to.write(`${text}\n`);
}
