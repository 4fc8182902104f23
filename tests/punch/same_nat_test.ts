import { assert, assertEquals } from "@std/assert";
import type { NatBehavior } from "../../lab/model/nat_behavior.ts";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import type { PunchedConn } from "../../lib/punch/punch.ts";
import type { Host } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";
import { playBetween, type SceneResult } from "../scenes/punch_scene.ts";

const { portRestricted, symmetric, firewall } = NAT_BEHAVIORS;
const link = { delayMs: 10 };

for (const reusePort of [true, false]) {
  const shared = reusePort ? "with" : "without";

  for (const behavior of [portRestricted, symmetric, natBehavior({ hairpinning: false })]) {
    const name = `${behavior.mapping}${behavior.hairpinning ? "" : ", no hairpinning"}`;
    Deno.test(`punch() stays within a LAN, ${shared} a shared port, NAT ${name}`, () =>
      between(
        behavior,
        (internet) => {
          const router = internet.router("home", { behavior, link });
          return hosts(internet, router, reusePort);
        },
        (conn) => assert(conn.remoteAddr.hostname.startsWith("192.168."), conn.remoteAddr.hostname),
      ));
  }

  Deno.test(`punch() connects peers behind the same carrier NAT by hairpinning, ${shared} a shared port`, () =>
    between(portRestricted, (internet) => {
      const carrier = internet.router("carrier", {
        behavior: portRestricted,
        lan: "100.64.0",
        link,
      });
      const home = (name: string) =>
        internet.router(`${name}/home`, { behavior: portRestricted, behind: carrier, link });
      return {
        a: internet.host("a", { behind: home("a"), reusePort }),
        b: internet.host("b", { behind: home("b"), reusePort }),
      };
    }));

  Deno.test(`punch() gets through carrier NATs in front of home NATs, ${shared} a shared port`, () =>
    between(portRestricted, (internet) => {
      const behind = (name: string) => {
        const carrier = internet.router(`${name}/carrier`, {
          behavior: portRestricted,
          lan: "100.64.0",
          link,
        });
        const home = internet.router(`${name}/home`, {
          behavior: portRestricted,
          behind: carrier,
          link,
        });
        return internet.host(name, { behind: home, reusePort });
      };
      return { a: behind("a"), b: behind("b") };
    }));

  Deno.test(`punch() gets through the firewalls of two IPv6 networks, ${shared} a shared port`, () =>
    between(symmetric, (internet) => {
      const host = (name: string, ip: string) => {
        const router = internet.router(`${name}/router`, { behavior: symmetric, link });
        return internet.host(name, {
          behind: router,
          addresses: [`192.168.${name === "a" ? 1 : 2}.2`, ip],
          reusePort,
        });
      };
      return { a: host("a", "2001:db8:a::2"), b: host("b", "2001:db8:b::2") };
    }, (conn) => assert(conn.remoteAddr.hostname.includes(":"), conn.remoteAddr.hostname)));

  Deno.test(`punch() needs no STUN server on a network without NATs, ${shared} a shared port`, () =>
    between(firewall, (internet) => ({
      a: internet.host("a", { reusePort, link }),
      b: internet.host("b", { reusePort, link }),
    })));
}

Deno.test("punch() connects two programs on one host", () =>
  between(portRestricted, (internet) => {
    const router = internet.router("home", { behavior: portRestricted, link });
    const host = internet.host("host", { behind: router, reusePort: true });
    return { a: host, b: host };
  }));

/** Punches between two hosts, checks that both got the same connection, and passes it to `check`. */
async function between(
  behavior: NatBehavior,
  build: (internet: Internet) => { a: Host; b: Host },
  check: (conn: PunchedConn) => void = () => {},
): Promise<void> {
  await simulate(async ({ internet }) => {
    const scene = { a: behavior, b: behavior, isReported: false };
    const result = await playBetween(internet, build(internet), scene);
    const [a, b] = connections(result);
    check(a);
    await a.write(Uint8Array.of(1, 2, 3));
    const buffer = new Uint8Array(3);
    assertEquals(await b.read(buffer), 3);
    assertEquals(buffer, Uint8Array.of(1, 2, 3));
    a.close();
    b.close();
  });
}

function connections({ a, b }: SceneResult): [PunchedConn, PunchedConn] {
  for (const side of [a, b]) if (side instanceof Error) throw side;
  return [a as PunchedConn, b as PunchedConn];
}

function hosts(
  internet: Internet,
  behind: ReturnType<Internet["router"]>,
  reusePort: boolean,
): { a: Host; b: Host } {
  return {
    a: internet.host("a", { behind, reusePort, link: LAN }),
    b: internet.host("b", { behind, reusePort, link: LAN }),
  };
}

const LAN = { delayMs: 0.2 };
