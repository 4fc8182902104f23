// Two hosts behind symmetric NATs, where hole punching fails, and a relay that one of them opens:
//
//   a --- symmetric NAT --- internet (40 ms) --- symmetric NAT --- b
//                              |
//                           coturn

import { assertEquals } from "@std/assert";
import { Lab } from "../../lab/kernel/lab.ts";
import { denoArgs } from "../../lab/kernel/lab_host.ts";
import { labTest } from "../lab/lab_test_case.ts";
import { nat } from "../../lab/kernel/topology.ts";

const HOST = new URL("./turn_lab_host.ts", import.meta.url);

for (
  const [what, serve, ask] of [
    ["a stream", "accept", "dial"],
    ["datagrams", "datagrams", "send"],
  ] as const
) {
  labTest(`two hosts behind symmetric NATs exchange ${what} through one relay`, async () => {
    await using lab = await Lab.start({
      hosts: { server: {}, a: { behind: nat("symmetric") }, b: { behind: nat("symmetric") } },
      internet: { rttMs: 40 },
    });
    const [server, a, b] = [lab.host("server"), lab.host("a"), lab.host("b")];
    await server.serve("turnserver", [
      ...["-n", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout", "-L", server.ip],
      ...["--lt-cred-mech", "-u", "someone:secret", "-r", "example.org", "--pidfile", "/dev/null"],
    ], { ready: /Total General servers/, stderr: "null" });
    const [outsideOfB] = lab.nat("b/nat").externalIps;
    const { output } = await a.serve(
      Deno.execPath(),
      denoArgs(HOST, [serve, server.ip, outsideOfB!]),
      { ready: /:\d+\n/ },
    );
    assertEquals(await b.json(HOST, [ask, output.trim()]), "through two NATs");
  }, { programs: ["turnserver"] });
}
