// A machine with IPv6 alone behind a NAT64, tayga's and the kernel's, and one with IPv4 alone behind a NAT of its own, on
// real kernels. Servers are named by IPv4 address; a name server tells the prefix (RFC 7050):
//
//   alice 2001:db8:1::2 ── nat64, 2001:db8:64::/96 ── 203.0.113.2 ┐
//                                                                 ├─ world, 203.0.113.1 and 198.51.100.1
//   bob 192.168.7.2 ────── nat ───────────────────── 198.51.100.2 ┘

import { assertEquals } from "@std/assert";
import { labTest } from "../lab/lab_test_case.ts";
import { PeerProgram } from "../../lab/scenarios/peers/peer_program.ts";
import { NetworkPlace, wire } from "./network_place.ts";

const TOOLS = { programs: ["tayga", "nft"] };

for (
  const [what, masquerade, isDirect] of [
    ["keep ports", "masquerade", true],
    ["choose ports at random", "masquerade fully-random", false],
  ] as const
) {
  for (const from of ["IPv6", "IPv4"] as const) {
    labTest(
      `IPv6 alone behind a NAT64 and IPv4 alone behind a NAT, both of which ${what}, from ${from}: ${
        isDirect ? "direct" : "relayed"
      }`,
      async () => {
        await using scene = await openScene(masquerade);
        const [one, other] = [new PeerProgram(scene.alice), new PeerProgram(scene.bob)];
        const options = {
          mapPorts: false,
          servers: SERVERS,
          signaling: [RENDEZVOUS],
        };
        const tickets = await Promise.all([one.open(options), other.open(options)]);
        const result = from === "IPv6"
          ? await one.do({ command: "connect", ticket: tickets[1] })
          : await other.do({ command: "connect", ticket: tickets[0] });
        await Promise.all([one.close(), other.close()]);
        assertEquals(
          result.outcome === "connected" ? !result.relayed : result,
          isDirect,
        );
      },
      TOOLS,
    );
  }
}

labTest(
  "`punch` connects IPv6 alone behind a NAT64 and IPv4 alone behind a NAT, both of which keep ports",
  async () => {
    await using scene = await openScene("masquerade");
    const servers = SERVERS.flatMap((server) => ["--server", server]);
    const args = ["punch", "kitchen", "--rendezvous", RENDEZVOUS, ...servers];
    const ends = await Promise.all(
      [scene.alice, scene.bob].map((place) =>
        place.spawn(Deno.execPath(), [...CLI, ...args], PIPED).output()
      ),
    );
    for (const { code, stderr } of ends) assertEquals(code, 0, new TextDecoder().decode(stderr));
  },
  TOOLS,
);

/** The two machines. */
interface Scene extends AsyncDisposable {
  /** With IPv6 alone. */
  readonly alice: Pick<NetworkPlace, "spawn">;
  /** With IPv4 alone. */
  readonly bob: Pick<NetworkPlace, "spawn">;
}

/** @param masquerade how both NATs choose ports */
async function openScene(masquerade: string): Promise<Scene> {
  await using places = new AsyncDisposableStack();
  const world = places.use(await NetworkPlace.open("world"));
  const open = async (name: string) => places.use(await NetworkPlace.open(name, world));
  const [alice, nat64, nat, bob] = [
    await open("alice"),
    await open("nat64"),
    await open("nat"),
    await open("bob"),
  ];
  await wire({ place: alice, name: "eth0" }, { place: nat64, name: "inside" });
  await wire({ place: nat64, name: "outside" }, { place: world, name: "west" });
  await wire({ place: bob, name: "eth0" }, { place: nat, name: "inside" });
  await wire({ place: nat, name: "outside" }, { place: world, name: "east" });
  await world.sh(`
    ip addr add 203.0.113.1/24 dev west
    ip addr add 198.51.100.1/24 dev east
    sysctl -qw net.ipv4.ip_forward=1`);
  await alice.sh(`
    ip addr add 2001:db8:1::2/64 dev eth0
    ip route add default via 2001:db8:1::1`);
  const translate = (out: string) => `
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    nft -f - <<'END'
table ip nat {
  chain out { type nat hook postrouting priority 100; oifname "${out}" ${masquerade}; }
  chain in { type filter hook input priority 0; iifname "${out}" ct state new drop; }
}
END`;
  await nat64.sh(`
    ip addr add 2001:db8:1::1/64 dev inside
    ip addr add 203.0.113.2/24 dev outside
    ip route add default via 203.0.113.1
    ${translate("outside")}`);
  const files = await Deno.makeTempDir();
  places.defer(() => Deno.remove(files, { recursive: true }));
  await Deno.writeTextFile(
    `${files}/tayga.conf`,
    `tun-device nat64\nipv4-addr 192.168.255.1\nprefix 2001:db8:64::/96\ndynamic-pool 192.168.255.0/24\ndata-dir ${files}\n`,
  );
  await nat64.sh(`
    tayga -c ${files}/tayga.conf --mktun >/dev/null
    ip link set nat64 up
    ip addr add 192.168.254.1/32 dev nat64
    ip route add 192.168.255.0/24 dev nat64
    ip route add 2001:db8:64::/96 dev nat64`);
  nat64.spawn("tayga", ["-c", `${files}/tayga.conf`, "-d"], {
    stdout: "null",
    stderr: "null",
  });
  await nat64.serve(
    Deno.execPath(),
    ["eval", "--unstable-net", NAME_SERVER],
    { ready: /ready/ },
  );
  await bob.sh("ip addr add 192.168.7.2/24 dev eth0; ip route add default via 192.168.7.1");
  await nat.sh(`
    ip addr add 192.168.7.1/24 dev inside
    ip addr add 198.51.100.2/24 dev outside
    ip route add default via 198.51.100.1
    ${translate("outside")}`);
  const serve = ["serve", "--address", "203.0.113.1", "--alternate", "198.51.100.1"];
  await world.serve(Deno.execPath(), [...CLI, ...serve], { ready: /rendezvous/i });
  await Deno.writeTextFile(`${files}/resolv.conf`, "nameserver 2001:db8:1::1\n");
  const stack = places.move();
  return {
    alice: withResolver(alice, `${files}/resolv.conf`),
    bob,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** The place, in which programs have another name server. */
function withResolver(place: NetworkPlace, file: string): Pick<NetworkPlace, "spawn"> {
  const script = `mount --bind ${file} /etc/resolv.conf && exec "$@"`;
  return {
    spawn: (command, args, options) =>
      place.spawn("unshare", ["--mount", "sh", "-ec", script, "sh", command, ...args], options),
  };
}

/** Answers for ipv4only.arpa as a DNS64 does. */
const NAME_SERVER = `
  const socket = Deno.listenDatagram({ hostname: "2001:db8:1::1", port: 53, transport: "udp" });
  console.log("ready");
  for await (const [query, from] of socket) {
    const end = query.indexOf(0, 12) + 5;
    const isIpv6 = query[end - 3] === 28;
    const head = [query[0], query[1], 0x81, 0x80, 0, 1, 0, isIpv6 ? 1 : 0, 0, 0, 0, 0];
    const ip = [0x20, 1, 0x0d, 0xb8, 0, 0x64, 0, 0, 0, 0, 0, 0, 192, 0, 0, 170];
    const answer = isIpv6 ? [0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 9, 0, 16, ...ip] : [];
    await socket.send(new Uint8Array([...head, ...query.subarray(12, end), ...answer]), from);
  }
`;

const SERVERS = ["203.0.113.1", "198.51.100.1:3479"];

const RENDEZVOUS = "ws://203.0.113.1:3480";

const CLI = ["run", "-A", new URL("../../cli.ts", import.meta.url).pathname];

const PIPED = { stdin: "null", stdout: "piped", stderr: "piped" } as const;
