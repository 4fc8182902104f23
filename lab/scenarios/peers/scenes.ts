/**
 * Peer scenes on real kernels: where two peers are, and the goals for their connections.
 *
 * @module
 */

import type { PeerOptions } from "../../../lib/peer/options.ts";
import type { Lab } from "../../kernel/lab.ts";
import { nat, type Topology } from "../../kernel/topology.ts";
import { BROKER_URL, type PeerLabOptions, RENDEZVOUS_URL_IPV6, TURN_URL } from "./peer_lab.ts";

/** Where two peers are, and the goals for their connections. */
export interface PeerScene extends PeerLabOptions {
  readonly setting: string;
  /** The connecting host, which has the ticket, and the listening one. Default: `a` and `b`. */
  readonly between?: readonly [string, string];
  readonly hosts: NonNullable<Topology["hosts"]>;
  readonly options?: PeerOptions;
  readonly prepare?: (lab: Lab) => Promise<void>;
  /** The limit for the median time to the first byte. */
  readonly firstByteMs?: number;
  /** Whether the connection may be relayed. */
  readonly mayBeRelayed?: boolean;
  readonly strategy?: string;
}

const home = nat("portRestricted");
const homes = { a: { behind: nat("portRestricted") }, b: { behind: nat("portRestricted") } };
const carrier = nat("portRestricted", { name: "carrier" });
const turn = { turn: [TURN_URL] };

const sharing = nat({ portOverloading: true }, { name: "sharing" });
const hole = (link: { readonly clampsMss: boolean }) => ({
  a: { behind: nat("portRestricted", { link: { mtu: 1400, ...link } }) },
  b: { behind: nat("portRestricted") },
});

const link = (delayMs: number) => ({ link: { delayMs } });
/** 51 ms to the servers and 82 ms between the NATs, by the links of the servers and of the NATs. */
export const FAR = {
  internet: {},
  serverLink: { delayMs: (51 - 82 / 2) / 2 },
  hosts: {
    a: { behind: nat("portRestricted", link(82 / 4)) },
    b: { behind: nat("portRestricted", link(82 / 4)) },
  },
};

/** All scenes. */
export const SCENES: readonly PeerScene[] = [
  {
    setting:
      "51 ms to the servers and 82 ms between the NATs; both peers open, signaling by WebSocket",
    ...FAR,
    firstByteMs: 350,
  },
  {
    setting: "the same, signaling by MQTT",
    ...FAR,
    options: { signaling: [BROKER_URL] },
    firstByteMs: 350,
  },
  {
    setting: "two hosts in one LAN, signaling by WebSocket 51 ms away",
    internet: { rttMs: 51 },
    hosts: { a: { behind: home }, b: { behind: home } },
    strategy: "lan",
    firstByteMs: 50 + 3 * 51,
  },
  {
    setting: "two programs on one host",
    internet: { rttMs: 51 },
    hosts: { a: { behind: home } },
    between: ["a", "a"],
    strategy: "host",
  },
  {
    setting: "symmetric with random ports on both sides: only the relay works, 51 ms away",
    internet: { rttMs: 51 },
    hosts: { a: { behind: nat("symmetric") }, b: { behind: nat("symmetric") } },
    options: turn,
    mayBeRelayed: true,
    strategy: "relay",
    firstByteMs: 1500,
  },
  {
    setting: "home NATs behind carriers' NATs",
    internet: { rttMs: 50 },
    hosts: {
      a: { behind: nat("portRestricted", { behind: nat("portRestricted") }) },
      b: { behind: nat("portRestricted", { behind: nat("portRestricted") }) },
    },
    options: turn,
  },
  {
    setting: "two homes behind one carrier's NAT: hairpin",
    internet: { rttMs: 50 },
    hosts: {
      a: { behind: nat("portRestricted", { behind: carrier }) },
      b: { behind: nat("portRestricted", { behind: carrier }) },
    },
  },
  {
    setting: "one side on the public internet",
    internet: { rttMs: 50 },
    hosts: { a: { behind: home }, b: {} },
    options: turn,
  },
  {
    setting: "UDP blocked on both sides",
    internet: { rttMs: 50 },
    hosts: homes,
    options: turn,
    prepare: async (lab) => {
      for (const name of ["a", "b"]) await lab.block(name, "udp");
    },
  },
  {
    setting: "only outbound TCP to the rendezvous server and to port 443 allowed, on both sides",
    internet: { rttMs: 50 },
    hosts: homes,
    options: turn,
    mayBeRelayed: true,
    strategy: "relay",
    prepare: (lab) =>
      nft(
        lab,
        ["a", "b"],
        `table inet office {
          chain output {
            type filter hook output priority 0; policy drop;
            oif lo accept
            tcp dport { 443, 3480 } accept
          }
        }`,
      ),
  },
  {
    setting: "IPv6 behind firewalls; STUN servers with IPv4 alone, and symmetric NATs for that",
    internet: { rttMs: 50 },
    ipv6: true,
    hosts: { a: { behind: nat("symmetric") }, b: { behind: nat("symmetric") } },
    options: turn,
    strategy: "ipv6",
  },
  {
    setting: "a second interface on both sides, with the same address, that leads nowhere",
    internet: { rttMs: 50 },
    hosts: homes,
    prepare: async (lab) => {
      const bridge =
        "ip tuntap add br0 mode tun; ip addr add 172.17.0.1/16 dev br0; ip link set br0 up";
      for (const name of ["a", "b"]) {
        const { code, stderr } = await lab.host(name).output("sh", ["-ec", bridge]);
        if (code !== 0) throw new Error(`Cannot add an interface: ${stderr}`);
      }
    },
  },
  {
    setting:
      "a VPN on the connecting side that swallows everything, beside an interface that works",
    internet: { rttMs: 50 },
    hosts: homes,
    firstByteMs: 2500,
    prepare: async (lab) => {
      const host = lab.host("a");
      const script = `
        ip tuntap add vpn0 mode tun; ip addr add 10.99.0.2/24 dev vpn0; ip link set vpn0 up
        route=$(ip -4 route show default | head -n 1)
        ip route del default
        ip route add $route metric 100
        ip route add $route table 100
        ip rule add from ${host.ip} table 100
        ip route add default dev vpn0`;
      const { code, stderr } = await host.output("sh", ["-ec", script]);
      if (code !== 0) throw new Error(`Cannot add a VPN: ${stderr}`);
    },
  },
  {
    setting:
      "IPv6 alone leads on; on the connecting side, its default route leads into a VPN that swallows it, beside an interface that works",
    internet: { rttMs: 50 },
    ipv6: true,
    hosts: { a: { behind: nat("symmetric") }, b: { behind: nat("symmetric") } },
    options: { signaling: [RENDEZVOUS_URL_IPV6] },
    strategy: "ipv6",
    firstByteMs: 2500,
    prepare: async (lab) => {
      const host = lab.host("a");
      const script = `
        ip tuntap add vpn0 mode tun; ip link set vpn0 up; ip -6 addr add fd00:99::2/64 dev vpn0 nodad
        ip -6 route del default
        ip -6 route add default dev tun0 metric 2048
        ip -6 route add default dev tun0 table 100
        ip -6 rule add from ${host.ips.find((ip) => ip.includes(":"))} table 100
        ip -6 route add default dev vpn0 metric 1024`;
      const { code, stderr } = await host.output("sh", ["-ec", script]);
      if (code !== 0) throw new Error(`Cannot add a VPN: ${stderr}`);
    },
  },
  {
    setting: "a link that carries 1,400 bytes, and clamps the MSS of TCP",
    internet: { rttMs: 50 },
    hosts: hole({ clampsMss: true }),
  },
  {
    setting: "a link that carries 1,400 bytes, and clamps nothing",
    internet: { rttMs: 50 },
    hosts: hole({ clampsMss: false }),
    options: turn,
  },
  {
    setting: "180 ms in one direction, 20 ms in the other",
    internet: {},
    hosts: {
      a: { behind: nat("portRestricted", { link: { delayMs: { up: 180, down: 20 } } }) },
      b: { behind: nat("portRestricted") },
    },
    options: turn,
  },
  {
    setting: "two hosts behind a NAT that lets them share ports, from the same port, and a third",
    internet: { rttMs: 50 },
    hosts: { a: { behind: sharing }, neighbour: { behind: sharing }, b: { behind: home } },
    options: turn,
  },
  {
    setting: "5 % loss each way, 30 ms of jitter",
    internet: { rttMs: 50, loss: 0.05, jitterMs: 30 },
    hosts: homes,
    options: turn,
    mayBeRelayed: true,
  },
];

async function nft(lab: Lab, hosts: readonly string[], rules: string): Promise<void> {
  for (const name of hosts) {
    const { code, stderr } = await lab.host(name).output("nft", [rules]);
    if (code !== 0) throw new Error(`Cannot filter at ${name}: ${stderr}`);
  }
}
