/**
 * Manual signaling on real kernels: people carry the messages, which takes longer than STUN servers keep idle
 * connections.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { labTest } from "./lab_test_case.ts";
import { HostCommand } from "../../lab/scenarios/peers/host_command.ts";
import { PeerLab, STUN_ADDRESSES } from "../../lab/scenarios/peers/peer_lab.ts";

labTest(
  "two peers connect by manual signaling although each message takes most of a minute",
  async () => {
    await using peers = await PeerLab.start({ internet: { rttMs: 20 } });
    const servers = STUN_ADDRESSES.flatMap((server) => ["--server", server]);
    const b = peers.lab.host("b");
    await using listener = new HostCommand(b, ["listen", "--hand", ...servers]);
    const { ticket } = await listener.until("ticket");
    const a = peers.lab.host("a");
    await using connector = new HostCommand(a, ["connect", `${ticket}`, ...servers]);
    await carry(connector, listener);
    await carry(listener, connector);
    const connected = await Promise.all(
      [connector, listener].map((each) => each.until("connected")),
    );
    assertEquals(connected.map(({ strategy }) => strategy), ["punch-tcp", "punch-tcp"]);
    await connector.write("hello\n");
    await listener.expect("hello\n");
    await listener.write("hello to you\n");
    await connector.expect("hello to you\n");
  },
  { programs: ["turnserver", "mosquitto"] },
);

async function carry(from: HostCommand, to: HostCommand): Promise<void> {
  const { text } = await from.until("message");
  await delay(45_000);
  await to.write(`${text}\n`);
}
