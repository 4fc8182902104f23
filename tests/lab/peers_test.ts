/**
 * Peers on real kernels, behind NATs: a short version of the suites `peers`, `transfer` and `outages`.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { labTest } from "./lab_test_case.ts";
import { OUTAGES, runOutage } from "../../lab/scenarios/peers/outages.ts";
import {
  BROKER_URL,
  PeerLab,
  RENDEZVOUS_URL,
  TURN_URL,
} from "../../lab/scenarios/peers/peer_lab.ts";
import { SCENES } from "../../lab/scenarios/peers/scenes.ts";
import { runTransfer } from "../../lab/scenarios/peers/transfer.ts";

const NEEDS = { programs: ["ip", "mosquitto", "turnserver"] };
const options = { turn: [TURN_URL] };

labTest(
  "peers behind NATs connect directly, by way of a rendezvous server or an MQTT broker",
  async () => {
    await using lab = await PeerLab.start({ internet: { rttMs: 20 } });
    for (const url of [RENDEZVOUS_URL, BROKER_URL]) {
      const result = await lab.connectKinds(["portRestricted", "addressRestricted"], {
        options: { ...options, signaling: [url] },
      });
      assert(result.outcome === "connected", JSON.stringify(result));
      assertEquals(result.relayed, false);
    }
  },
  NEEDS,
);

labTest(
  "a relay connects peers that hole punching cannot connect: TURN, or the rendezvous",
  async () => {
    await using lab = await PeerLab.start({ internet: { rttMs: 20 } });
    const broker = { signaling: [BROKER_URL] }; // which relays nothing
    for (const relay of [{ ...options, ...broker }, { signaling: [RENDEZVOUS_URL] }]) {
      const result = await lab.connectKinds(["random", "random"], { options: relay });
      assert(result.outcome === "connected", JSON.stringify(result));
      assertEquals([result.relayed, result.kind], [true, "relay"]);
    }
    const without = await lab.connectKinds(["random", "random"], { options: broker });
    assert(without.outcome === "failed", JSON.stringify(without));
    assertEquals(without.error, "UnreachableError");
  },
  NEEDS,
);

labTest(
  "a relayed connection moves to a direct path without losing data",
  async () => {
    await using lab = await PeerLab.start({ internet: { rttMs: 20 } });
    // Everything that the punch sends is dropped at first, so that only the relay works for a while.
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
    assert(result.directMs !== null, "the connection stayed on the relay");
  },
  NEEDS,
);

labTest(
  "two homes behind one carrier's NAT connect through it, and two programs on one host on it",
  async () => {
    for (const [setting, kind] of [["hairpin", "punch-tcp"], ["on one host", "host"]] as const) {
      const scene = SCENES.find((scene) => scene.setting.includes(setting))!;
      await using lab = await PeerLab.start(scene);
      const result = await lab.connect(scene.between ?? ["a", "b"], { options: scene.options });
      assert(result.outcome === "connected", JSON.stringify(result));
      assertEquals([result.kind, result.relayed], [kind, false]);
    }
  },
  NEEDS,
);

for (
  const [what, part] of [["default route", "a VPN on"], [
    "default route of IPv6",
    "IPv6 alone",
  ]] as const
) {
  labTest(
    `a peer goes by an interface that works if the ${what} leads into a VPN that swallows everything`,
    async () => {
      const scene = SCENES.find(({ setting }) => setting.startsWith(part))!;
      await using lab = await PeerLab.start(scene);
      await scene.prepare!(lab.lab);
      const result = await lab.connect(["a", "b"], { options: scene.options });
      assert(result.outcome === "connected", JSON.stringify(result));
      assertEquals(result.relayed, false);
    },
    NEEDS,
  );
}

labTest("a file arrives intact although both NATs forget the connection meanwhile", async () => {
  const { isWhole, newPaths } = await runTransfer({ megabytes: 64, cuts: 1 });
  assertEquals({ isWhole, newPaths }, { isWhole: true, newPaths: 1 });
}, NEEDS);

labTest(
  "a killed peer is noticed at once, and recognised as a new run when it restarts",
  async () => {
    const result = await runOutage(OUTAGES.listenerKilled);
    assert(result.passed, JSON.stringify(result));
  },
  NEEDS,
);

labTest("a connection survives NATs that forget it, and a change of address", async () => {
  const results = await Promise.all([OUTAGES.bothForget, OUTAGES.addressChanged].map(runOutage));
  for (const result of results) assert(result.passed, JSON.stringify(result));
}, NEEDS);
