/**
 * What `deploy/` ships is used as it is, and other people's programs look at what it starts.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { denoArgs } from "../../lab/kernel/lab_host.ts";
import { tlsFixture } from "../net/tls_fixtures.ts";
import { freePorts } from "./free_ports.ts";
import { outputOf, toolTest } from "./tool_test_case.ts";

const DEPLOY = new URL("../../deploy/", import.meta.url);
const CLI = new URL("../../cli.ts", import.meta.url).pathname;
const UNIT = new URL("punchline.service", DEPLOY).pathname;
const SYSTEMD = { "systemd-analyze": "systemd" };

toolTest(
  "systemd accepts the unit, and finds little that it could be spared",
  SYSTEMD,
  async () => {
    const directory = await Deno.makeTempDir({ prefix: "unit-" });
    try {
      // The program is not installed here; everything else is looked at.
      const unit = (await Deno.readTextFile(UNIT)).replace("/usr/local/bin/punchline", "/bin/true");
      const path = `${directory}/punchline.service`;
      await Deno.writeTextFile(path, unit);
      const complaints = (await outputOf("systemd-analyze", ["verify", path])).split("\n")
        .filter((line) => line.includes("punchline.service"));
      assertEquals(complaints, []);
      const report = await outputOf("systemd-analyze", ["security", "--offline=true", path]);
      const [, exposure] = /exposure level for punchline\.service: ([\d.]+)/.exec(report) ?? [];
      assert(Number(exposure) <= 2, `exposure ${exposure}`);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
);

Deno.test("the unit's command runs with the shipped configuration, and ends on TERM as the unit expects", async () => {
  const unit = await Deno.readTextFile(UNIT);
  const [, command] = /^ExecStart=\/usr\/local\/bin\/punchline (.*)$/m.exec(unit) ?? [];
  const config = JSON.parse(await Deno.readTextFile(new URL("config.json", DEPLOY)));
  const [port, rendezvousPort, metrics] = freePorts(3);
  await withServe(
    command!,
    { ...config, address: "127.0.0.1", port, "rendezvous-port": rendezvousPort, metrics },
    async () => {
      const health = await fetch(`http://127.0.0.1:${rendezvousPort}/healthz`);
      assertEquals([health.status, await health.text()], [200, "ok\n"]);
      const text = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
      assertMatch(text, /^punchline_connections 0$/m);
    },
    (code) => assertMatch(unit, new RegExp(`^SuccessExitStatus=${code}$`, "m")),
  );
});

toolTest("OpenSSL sees TLS 1.2 and 1.3, the certificate and the health check on the one port", {
  openssl: "openssl",
}, async () => {
  const [port] = freePorts(1);
  const config = {
    ...{ address: "127.0.0.1", port, "rendezvous-port": port },
    ...{ cert: tlsFixture("server.pem"), "cert-key": tlsFixture("server.key") },
  };
  await withServe("serve --config /etc/punchline/config.json", config, async () => {
    for (const version of ["-tls1_2", "-tls1_3"]) {
      const child = new Deno.Command("openssl", {
        args: [
          ...["s_client", "-connect", `127.0.0.1:${port}`, "-servername", "localhost"],
          ...["-CAfile", tlsFixture("ca.pem"), "-verify_return_error", "-ign_eof", version],
        ],
        ...{ stdin: "piped", stdout: "piped", stderr: "piped" },
        signal: AbortSignal.timeout(20_000),
      }).spawn();
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"));
      await writer.close();
      const text = new TextDecoder().decode((await child.output()).stdout);
      assertStringIncludes(text, "Verify return code: 0 (ok)");
      assertStringIncludes(text, "HTTP/1.1 200 OK");
    }
  }, (code) => assertEquals(code, 143));
});

Deno.test("the image and the compose file name only options that there are", async () => {
  const help = await outputOf(Deno.execPath(), denoArgs(CLI, ["help", "serve"]));
  for (const name of ["Dockerfile", "compose.yaml"]) {
    // Those of Deno come before the command.
    const text = (await Deno.readTextFile(new URL(name, DEPLOY))).split('"serve"]').at(-1)!;
    const options = [...text.matchAll(/"(--[a-z-]+)"|^ +- (--[a-z-]+)=/gm)]
      .map(([, quoted, listed]) => (quoted ?? listed)!);
    assert(options.length > 0);
    for (const option of options) assertStringIncludes(help, option);
  }
});

/** Runs the command with a configuration until the job is done, and ends it by TERM. */
async function withServe(
  command: string,
  config: Record<string, unknown>,
  job: () => Promise<void>,
  check: (exitCode: number) => void,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "serve-" });
  const path = `${directory}/config.json`;
  await Deno.writeTextFile(path, JSON.stringify(config));
  const args = command.replace("/etc/punchline/config.json", path).split(" ");
  const child = new Deno.Command(Deno.execPath(), {
    args: denoArgs(CLI, args, { permissions: "--allow-net=127.0.0.1,127.0.0.1:0" })
      .toSpliced(1, 0, "--allow-read"),
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const output = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let code = -1;
  try {
    let text = "";
    while (!text.includes("Try it")) {
      const { done, value } = await output.read();
      if (done) throw new Error(`Cannot start serve: it printed ${JSON.stringify(text)}`);
      text += value;
    }
    await job();
  } finally {
    child.kill("SIGTERM");
    while (!(await output.read()).done);
    ({ code } = await child.status);
    await Deno.remove(directory, { recursive: true });
  }
  check(code);
}
