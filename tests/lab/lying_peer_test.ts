/**
 * What a lying peer can make a victim send, counted by the kernels of the victim and of a stranger.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { Lab } from "../../lab/kernel/lab.ts";
import { nat } from "../../lab/kernel/topology.ts";
import { NAT_KINDS, reportOf } from "../../lab/scenarios/punches/nat_kinds.ts";
import { SERVER_IPS, SERVERS } from "../../lab/scenarios/punches/punch_lab.ts";
import { PunchProgram } from "../../lab/scenarios/punches/punch_program.ts";
import { STUN_SERVERS } from "../../lab/scenarios/verdicts/stun_servers.ts";
import type { Candidate } from "../../lib/punch/candidates.ts";
import { decodeOffer, encodeOffer } from "../../lib/punch/offer.ts";
import { punchSide, reflexive } from "../punch/fixtures.ts";
import { labTest } from "./lab_test_case.ts";

for (const answers of ["resets", "drops"] as const) {
  labTest(
    `a lying peer cannot make a victim flood a stranger that ${answers}, nor speak to its own host`,
    async () => {
      await using lab = await Lab.start({
        hosts: {
          servers: { addresses: [...SERVER_IPS] },
          stranger: { addresses: [STRANGER] },
          other: { addresses: [OTHER] },
          victim: { behind: nat("portRestricted") },
        },
        internet: { rttMs: 40 },
      });
      await STUN_SERVERS.punchline(lab.host("servers"));
      if (answers === "drops") await filter(lab, "stranger", DROP);
      await filter(lab, "victim", WATCH);
      const program = new PunchProgram(lab.host("victim"));
      const learned = Promise.withResolvers<string>();
      const started = program.punch({
        role: "controlled",
        servers: SERVERS,
        report: reportOf(NAT_KINDS.portRestricted),
        timeoutMs: 28_000,
        isWarm: false,
        signalRttMs: 50,
      }, learned.resolve);
      const own = decodeOffer(new TextEncoder().encode(await learned.promise), NO_SECRET).side;
      const deliver = (side: typeof own) =>
        started.deliver(
          new TextDecoder().decode(encodeOffer({
            role: "controlling",
            key: crypto.getRandomValues(new Uint8Array(32)).toHex(),
            answers: null,
            isWaiting: false,
            round: 1,
            sampleAgeMs: 0,
            side,
          }, NO_SECRET)),
        );
      for (let offers = 0; offers < 10; offers++) {
        const port = 8000 + offers % 6;
        const more = Array.from({ length: 8 }, (_, i): Candidate => (
          { kind: "mapped", address: { ip: OTHER, port: 9000 + i } }
        ));
        deliver(punchSide(STRANGER, { unsolicitedSyn: "reset" }, {
          punchPort: port,
          candidates: [reflexive(STRANGER, port), ...more],
        }));
        await delay(2300);
      }
      // The victim's own offer, from a database's port: the same host, as it seems.
      const copied = own.candidates.map(({ kind, address }) => (
        { kind, address: { ip: address.ip, port: 6379 } }
      ));
      const here: Candidate = { kind: "mapped", address: { ip: "127.0.0.1", port: 6379 } };
      deliver({ ...own, candidates: [here, ...copied], punchPort: 6379 });
      await started.result;
      const { hosts } = await lab.counters();
      const self = await lab.host("victim").output("nft", ["list", "counters"]);
      assertEquals(/packets (\d+)/.exec(self.stdout)?.[1], "0", self.stdout);
      const [stranger, other] = [hosts.stranger!.receivedSyns, hosts.other!.receivedSyns];
      // Eight at each of six ports; if it keeps resetting, 200 in all at those where STUN saw the peer.
      const limit = answers === "drops" ? 6 * 8 : 200 + 5 * 8;
      assert(stranger > 0 && stranger <= limit, `${stranger} SYNs`);
      assert(other > 0 && other <= 16, `${other} SYNs at another address`);
      await program.close();
    },
    { programs: ["ip", "nft"] },
  );
}

async function filter(lab: Lab, name: string, rules: string): Promise<void> {
  const { code, stderr } = await lab.host(name).output("nft", [rules]);
  if (code !== 0) throw new Error(`Cannot filter at ${name}: ${stderr}`);
}

const STRANGER = "203.0.113.99";
const OTHER = "203.0.113.98";
const NO_SECRET = new Uint8Array(0);

const DROP = `table inet silence {
  chain input { type filter hook input priority 0; policy accept; tcp dport 8000-8999 drop; }
}`;

/** Counts what the victim sends to its own database. */
const WATCH = `table inet watch {
  counter own { }
  chain output { type filter hook output priority 0; policy accept; fib daddr type local tcp dport 6379 counter name own; }
}`;
