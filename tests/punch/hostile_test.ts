import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { UnreachableError } from "../../lib/base/errors.ts";
import { formatTransportAddress, ipScope, type TransportAddress } from "../../lib/net/address.ts";
import { encodeOffer, type PunchOffer } from "../../lib/punch/offer.ts";
import type { Candidate, PunchDescription } from "../../lib/punch/candidates.ts";
import { preparePunch, punch, type PunchedConn, type PunchOptions } from "../../lib/punch/punch.ts";
import { type MemoryChannel, memoryChannelPair } from "../signal/memory_channel.ts";
import type { Host } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { hostCandidate, punchSide, RANDOM, reflexive, SEQUENTIAL } from "./fixtures.ts";

const FORBIDDEN = [
  "127.0.0.1",
  "127.8.8.8",
  "0.0.0.0",
  "169.254.169.254",
  "169.254.170.2",
  "100.100.100.200",
  "168.63.129.16",
  "169.254.1.1",
  "224.0.0.1",
  "239.255.255.250",
  "255.255.255.255",
  "240.0.0.1",
  "10.0.0.1",
  "192.168.9.1",
  "::1",
  "::",
  "fe80::1%eth0",
  "fe80::1%lo",
  "fd00:ec2::254",
  "ff02::1",
  "::ffff:127.0.0.1",
  "::ffff:169.254.169.254",
  "64:ff9b::7f00:1",
  "2002:7f00:1::",
];

Deno.test("punch() sends no SYN to a forbidden address, whatever the kind of candidate", () =>
  victimOf(async ({ victim, offer, syns, call }) => {
    const all = FORBIDDEN.concat(victim.addresses).flatMap((ip) =>
      (["host", "mapped", "reflexive"] as const).flatMap((kind) =>
        [80, 40_000].map((port): Candidate => ({ kind, address: { ip, port } }))
      )
    );
    for (let from = 0; from < all.length; from += 12) {
      const [called] = await call({ timeoutMs: 3000 });
      offer(punchSide("203.0.113.99", {}, { candidates: all.slice(from, from + 12) }));
      assert(await called instanceof UnreachableError);
    }
    const wrong = syns().filter(({ ip }) => {
      return ipScope(ip) !== "documentation" || victim.addresses.includes(ip);
    });
    assertEquals(wrong.map(formatTransportAddress), []);
  }));

Deno.test("punch() sends no SYN to a forbidden external address", () =>
  victimOf(async ({ victim, offer, syns, call }) => {
    for (const externalIp of FORBIDDEN.concat(victim.addresses)) {
      for (const profile of [{}, RANDOM, SEQUENTIAL]) {
        const [called] = await call({ timeoutMs: 2000 });
        offer(punchSide(externalIp, profile));
        assert(await called instanceof UnreachableError, externalIp);
      }
    }
    assertEquals(syns().map(formatTransportAddress), []);
  }));

Deno.test("punch() ignores an offer with port 0, or with 4096 candidates", () =>
  victimOf(async ({ offer, syns, call }) => {
    const [called] = await call({ timeoutMs: 2000 });
    offer(punchSide("203.0.113.99", {}, { candidates: [reflexive("203.0.113.99", 0)] }));
    const candidate = hostCandidate("203.0.113.99", 40_000);
    offer(punchSide("203.0.113.99", {}, { candidates: Array(4096).fill(candidate) }));
    const error = await called;
    assert(error instanceof UnreachableError && error.message.includes("sent nothing"));
    assertEquals(syns(), []);
  }));

Deno.test("punch() rejects a host at the peer's address that is not the peer", () =>
  victimOf(async ({ internet, offer, call }) => {
    const stranger = internet.host("stranger", { addresses: ["203.0.113.99"] });
    using listener = await stranger.network.listenTcp({ ip: "203.0.113.99", port: 40_000 });
    const heard: number[] = [];
    const answering = (async () => {
      for (;;) {
        const connection = await listener.accept();
        await connection.write(new TextEncoder().encode("SSH-2.0-OpenSSH_9.9\r\n".repeat(3)));
        heard.push(await connection.read(new Uint8Array(100)).catch(() => null) ?? 0);
        connection.close();
      }
    })().catch(() => {});
    const [called] = await call({ timeoutMs: 10_000 });
    offer(punchSide("203.0.113.99"));
    const error = await called;
    assert(error instanceof UnreachableError);
    const outcomes = new Set(error.attempts.map(({ outcome }) => outcome));
    assert(outcomes.has("not-authenticated"), `${[...outcomes]}`);
    // It gets the proof, which is useless to anyone else, and not a byte more.
    assert(heard.every((length) => length <= 64), `${heard}`);
    listener.close();
    await answering;
  }));

for (
  const [name, profile] of [
    ["a known port", {}],
    ["predicted ports", SEQUENTIAL],
    ["random ports", RANDOM],
  ] as const
) {
  for (const closedPorts of ["reset", "drop"] as const) {
    Deno.test(`punch() limits the SYNs to a third party that answers with ${closedPorts}, for ${name}`, () =>
      victimOf(async ({ internet, offer, syns, call }) => {
        const link = { delayMs: 10 };
        internet.host("third", { addresses: ["203.0.113.99"], closedPorts, link });
        const [called] = await call({ timeoutMs: 60_000 });
        let isOver = false;
        called!.then(() => isOver = true);
        // A new peer whenever the dials of the last one are over, in each round.
        for (let offers = 0; !isOver; offers++) {
          offer(punchSide("203.0.113.99", profile), { round: 1 + Math.floor(offers / 13) % 3 });
          await delay(1100);
        }
        const error = await called;
        assert(error instanceof UnreachableError);
        assert(syns().length <= 1300, `${syns().length} SYNs, with the system's repetitions`);
      }));
  }
}

Deno.test("punch() finds its peer while other hosts flood the punch port", () =>
  simulate(async ({ internet }) => {
    const link = { delayMs: 20 };
    const [a, b] = ["a", "b"].map((name) => internet.host(name, { link, reusePort: true }));
    const crowd = internet.host("crowd", { link });
    const [channelA, channelB] = memoryChannelPair({ delayMs: 200 });
    const base = await preparePunch({ network: a!.network, servers: [] });
    const to = { ip: a!.addresses[0]!, port: base.description.punchPort };
    const controller = new AbortController();
    const flooding = (async () => {
      for (let i = 0; i < 1000 && !controller.signal.aborted; i++) {
        crowd.network.connectTcp(to, { signal: controller.signal }).then(
          (connection) => setTimeout(() => connection.reset(), 3000),
          () => {},
        );
        await delay(1);
      }
    })();
    const options = (network: Host["network"]) => ({ network, servers: [], timeoutMs: 10_000 });
    const conns = await Promise.all([
      punch({ ...options(a!.network), channel: channelA, role: "controlling", base }),
      punch({ ...options(b!.network), channel: channelB, role: "controlled" }),
    ]);
    controller.abort();
    await flooding;
    for (const conn of conns) conn.close();
    await delay(4000);
  }));

Deno.test("punch() with a shared secret ignores other offers on the channel", () =>
  victimOf(async ({ offer, syns, call }) => {
    const [called] = await call({ timeoutMs: 2000, sharedSecret: Uint8Array.of(1, 2, 3) });
    offer(punchSide("203.0.113.99"));
    const error = await called;
    assert(error instanceof UnreachableError && error.message.includes("sent nothing"));
    assertEquals(syns(), []);
  }));

interface PeerScene {
  readonly internet: Internet;
  /** The host that punches. */
  readonly victim: Host;
  /** Makes it punch; resolves with the promise of the result as soon as it receives from its channel. */
  call(options?: Partial<PunchOptions>): Promise<Promise<PunchedConn | Error>[]>;
  /** Puts an offer into the victim's channel. */
  offer(side: PunchDescription, changes?: Partial<PunchOffer>): void;
  /** The destinations of the SYNs of the victim. */
  syns(): TransportAddress[];
}

/** Runs a test with a host that receives the offers of an attacker. */
async function victimOf(test: (place: PeerScene) => Promise<void>): Promise<void> {
  await simulate(async ({ internet }) => {
    const link = { delayMs: 5 };
    const router = internet.router("router", { behavior: NAT_BEHAVIORS.portRestricted, link });
    const victim = internet.host("victim", {
      addresses: ["192.168.1.50", "2001:db8::50"],
      behind: router,
      reusePort: true,
    });
    const [address, alternateAddress] = ["203.0.113.10", "203.0.113.11"] as const;
    const stun = internet.host("stun", { addresses: [address, alternateAddress], link });
    await using _server = await serveStun({ network: stun.network, address, alternateAddress });
    const syns: TransportAddress[] = [];
    internet.onPacket = ({ at, what, packet }) => {
      if (at !== "victim" || what !== "sent" || packet.protocol !== "tcp") return;
      const { tcpFlags: { syn, ack }, destination } = packet;
      if (syn && !ack && !stun.addresses.includes(destination.ip)) syns.push(destination);
    };
    let channel: MemoryChannel;
    let keys = 0;
    await test({
      internet,
      victim,
      syns: () => syns,
      call: async (options = {}) => {
        [channel] = memoryChannelPair();
        const { network } = victim;
        const servers = [address, `${alternateAddress}:3479`];
        const base = await preparePunch({ network, servers });
        const calling = punch({
          network,
          channel,
          base,
          role: "controlling",
          servers,
          ...options,
        });
        return [calling.catch((error: Error) => error)];
      },
      offer: (side, changes) =>
        channel.deliver(encodeOffer({
          role: "controlled",
          key: (++keys).toString(16).padStart(64, "a"),
          answers: null,
          isWaiting: false,
          round: 1,
          sampleAgeMs: 0,
          side,
          ...changes,
        }, new Uint8Array(0))),
    });
  });
}
