/**
 * Peers on real kernels, behind NATs: the short part of the suites `peers` and `transfer`.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { labTest } from "./lab_test_case.ts";
import { BROKER_URL, PeerLab, TURN_URL } from "../../lab/scenarios/peers/peer_lab.ts";
import { runTransfer } from "../../lab/scenarios/peers/transfer.ts";

const NEEDS = { programs: ["turnserver", "mosquitto"] };
const options = { turn: [TURN_URL] };

labTest("peers behind NATs connect directly, by a rendezvous and by an MQTT broker", async () => {
  await using lab = await PeerLab.start({ internet: { rttMs: 20 } });
  for (const signaling of [undefined, [BROKER_URL]]) {
    const result = await lab.connectKinds(["portRestricted", "addressRestricted"], {
      options: { ...options, ...signaling && { signaling } },
    });
    assert(result.outcome === "connected", JSON.stringify(result));
    assertEquals(result.relayed, false);
  }
}, NEEDS);

labTest("peers that no punch connects are connected by a relay", async () => {
  await using lab = await PeerLab.start({ internet: { rttMs: 20 } });
  const result = await lab.connectKinds(["random", "random"], { options });
  assert(result.outcome === "connected", JSON.stringify(result));
  assertEquals([result.relayed, result.kind], [true, "relay"]);
  const without = await lab.connectKinds(["random", "random"]);
  assert(without.outcome === "failed", JSON.stringify(without));
  assertEquals(without.error, "UnreachableError");
}, NEEDS);

labTest(
  "a connection that began by a relay moves to a direct path, and loses nothing",
  async () => {
    await using lab = await PeerLab.start({ internet: { rttMs: 20 } });
    // All that the punch sends is dropped at first: both sides see the relay alone for a while.
    const gate = ["a", "b"].map((name) => lab.lab.host(name));
    for (const host of gate) {
      await host.output("nft", [`table inet gate {
      chain output {
        type filter hook output priority 0; policy accept;
        ip daddr 198.51.100.0/24 drop
      }
    }`]);
    }
    setTimeout(() => {
      for (const host of gate) host.output("nft", ["delete table inet gate"]);
    }, 4500);
    const result = await lab.connect(["a", "b"], { options, waitForDirectMs: 20_000 });
    assert(result.outcome === "connected", JSON.stringify(result));
    assertEquals(result.relayed, true);
    assert(result.directMs !== null, "it stayed on the relay");
  },
  NEEDS,
);

labTest("a file arrives whole though both NATs forget the connection on the way", async () => {
  const { isWhole, newPaths } = await runTransfer({ megabytes: 64, cuts: 1 });
  assertEquals(isWhole, true);
  assert(newPaths >= 1, `${newPaths}`);
}, NEEDS);
